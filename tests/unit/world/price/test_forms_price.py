"""Forms that are no LoRA cost what PyTorch counts for them, and keep what autograd keeps."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from emulator.forms.bottleneck import BottleneckForm
from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseAssignment, LayerwiseForm
from emulator.learning.attach.bottleneck import Bottleneck
from emulator.records import Work
from emulator.world.price.step_kinds import step_of


class Ia3Linear(nn.Module):
    """A map whose output is scaled, or its input: as PEFT computes it."""

    def __init__(self, base: nn.Linear, scales_input: bool) -> None:
        super().__init__()
        self.base, self.scales_input = base, scales_input
        self.scale = nn.Parameter(torch.ones(base.in_features if scales_input else base.out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x * self.scale) if self.scales_input else self.base(x) * self.scale
        return y


def attach_ia3(model: nn.Module, work: Work) -> None:
    from tests.unit.world.price.autograd_probe import adapted_maps, put

    for path, linear, adapter, _ in adapted_maps(model, work):
        put(model, path, Ia3Linear(linear, adapter.place == "mlp_product"))


def attach_bottleneck(model: nn.Module, work: Work) -> None:
    from tests.unit.world.price.autograd_probe import adapted_maps, put

    for path, linear, _, _ in adapted_maps(model, work):
        put(model, path, Bottleneck(linear, WIDTH))


WIDTH = 12
FORMS: Mapping[str, LayerwiseForm] = {"ia3": Ia3Form(), "bottleneck": BottleneckForm(width=WIDTH)}
ATTACH = {"ia3": attach_ia3, "bottleneck": attach_bottleneck}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "llama", "gemma"])
@pytest.mark.parametrize(("depth", "batch_size", "seq_len"), [(3, 4, 32), (2, 2, 64), (1, 2, 128)])
def test_a_step_takes_and_keeps_what_pytorch_does(
    name: str, attention: str, family: str, depth: int, batch_size: int, seq_len: int
) -> None:
    from tests.unit.world.price.autograd_probe import priced, run_step

    model = priced(family, "full").with_seq_len(seq_len)
    assignment = LayerwiseAssignment(device_id=0, n_steps=1, batch_size=batch_size, learning_rate=0.1, depth=depth)
    step = step_of(model, work := FORMS[name].work(assignment, model))
    probe = run_step(family, work, "full", attention, ATTACH[name])
    use = step.memory(attention="eager" if attention == "eager" else "sdpa")
    assert use.activations_bytes == pytest.approx(probe.kept_bytes, rel=0.05, abs=64)
    if attention == "eager":  # fused kernels' FLOP and operations are counted otherwise
        demand = step.demand()
        head_bias = 2 * 2 * batch_size * model.hidden_size
        assert demand.forward_flop == pytest.approx(probe.forward_flop, rel=0.001)
        assert demand.backward_flop == pytest.approx(probe.backward_flop, rel=0.001, abs=head_bias)
        assert demand.n_forward_operations == pytest.approx(probe.n_forward_operations, rel=0.2)
        assert demand.n_backward_operations == pytest.approx(probe.n_backward_operations, rel=0.3)
        assert demand.forward_element_bytes / 4 == pytest.approx(probe.n_forward_elements, rel=0.07)
        # A decoder's last norm, 20 h, is no part of the price of its layers.
        last_norm = 20 * batch_size * seq_len * model.hidden_size * model.is_decoder
        assert demand.backward_element_bytes / 4 == pytest.approx(probe.n_backward_elements, rel=0.14, abs=last_norm)
