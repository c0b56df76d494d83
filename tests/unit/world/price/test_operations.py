"""Operations of a step are about as many as PyTorch dispatches, views left out."""

import pytest

from emulator.forms.lora import low_rank_adapters
from emulator.records import Work, WorkKind
from emulator.world.price.layers import Layers
from emulator.world.price.operations import n_backward_operations, n_forward_operations

QUERY_VALUE = ("query", "value")
ALL = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        *("bert", "roberta", "distilbert", "llama", "gemma"),
        *("deberta-v2", "deberta-v3", "modernbert", "gpt2", "phi3", "opt"),
    ],
)
@pytest.mark.parametrize(
    ("targets", "depth", "kind"),
    [
        (QUERY_VALUE, 3, WorkKind.ADAPTERS),
        (QUERY_VALUE, 1, WorkKind.ADAPTERS),
        (ALL, 2, WorkKind.ADAPTERS),
        (("mlp_down",), 1, WorkKind.ADAPTERS),
        (("mlp_up",), 2, WorkKind.ADAPTERS),
        ((), 3, WorkKind.WEIGHTS),
    ],
)
def test_operations_are_those_that_pytorch_dispatches(
    family: str, targets: tuple[str, ...], depth: int, kind: WorkKind
) -> None:
    from tests.unit.world.price.autograd_probe import N_LAYERS, priced, run_step

    model = priced(family, "full")
    work = Work(
        n_steps=1,
        batch_size=2,
        seq_len=32,
        forward_layers=N_LAYERS,
        backward_layers=depth,
        adapters=low_rank_adapters(model, model.stored(targets), (0,) * (N_LAYERS - depth) + (4,) * depth),
        kind=kind,
    )
    probe = run_step(family, work)
    assert n_forward_operations(Layers(model, work)) == pytest.approx(probe.n_forward_operations, rel=0.2)
    assert n_backward_operations(Layers(model, work)) == pytest.approx(probe.n_backward_operations, rel=0.3)
