"""Gated adapters train as plain torch has it, are LoRA while gates are alike, and export as LoRA."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emulator.forms.gated_lora import GatedLoraForm
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.learning.attach.gated_lora import StackedGatedLora
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import SETTINGS, server_state
from tests.unit.learning.tiny_models import tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
PLAIN = LoraForm(ranks=(3, 3, 3), scaling=1.5)
FORM = GatedLoraForm(ranks=(3, 3, 3), scaling=1.5, temperature=0.5)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def gates(spread: float) -> Arrays:
    rng = np.random.default_rng(2)
    return {
        f"layers.{layer}.{target}.lora_gate": rng.normal(1.0, spread, (3, 1)).astype(np.float32)
        for layer in range(3)
        for target in FORM.targets
    }


def job(state: Arrays, device: int, depth: int = 3) -> Job:
    assignment = LoraAssignment(
        device_id=device, n_steps=3, batch_size=4, learning_rate=2e-3, ranks=(3, 3, 3), depth=depth
    )
    return Job(device_id=device, round_index=0, inner_round=0, assignment=assignment, state=state)


class Gated(nn.Module):
    """``W x + scaling · B (r softmax(g / T) ∘ A x)``, as written."""

    def __init__(self, base: nn.Module, a: nn.Parameter, b: nn.Parameter, gate: nn.Parameter) -> None:
        super().__init__()
        self.base, self.a, self.b, self.gate = base, a, b, gate

    def forward(self, x: Tensor) -> Tensor:
        scales = 3 * torch.softmax(self.gate[:, 0] / 0.5, dim=0)
        y: Tensor = self.base(x) + 1.5 * ((x @ self.a.T) * scales) @ self.b.T
        return y


def alone(content: HostContent, given: Job) -> Arrays:
    model: Any = content.model.build()
    leaves = {name: nn.Parameter(torch.tensor(array)) for name, array in given.state.items()}
    for layer in range(3):
        for target in FORM.targets:
            path = content.model.sites[layer, target]
            own = [leaves[f"layers.{layer}.{target}.{name}"] for name in ("lora_A", "lora_B", "lora_gate")]
            model.set_submodule(path, Gated(model.get_submodule(path), *own))
    for name, path in content.model.head.items():
        for kind in ("weight", "bias"):
            setattr(model.get_submodule(path), kind, leaves[f"head.{name}.{kind}"])
    optimizer = torch.optim.AdamW(
        leaves.values(), lr=given.assignment.learning_rate, weight_decay=SETTINGS.weight_decay
    )
    for rows in draw_rows(given, content.local_rows(given.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


def test_a_stack_of_devices_trains_as_plain_torch_does_one_at_a_time(content: HostContent) -> None:
    state = {**server_state(content, PLAIN), **gates(0.5)}
    given = [job(state, device) for device in range(3)]

    for one, update in zip(given, DeviceHost(content, SETTINGS).train(TASK, FORM, given), strict=True):
        expected = alone(content, one)
        assert update.payload.keys() == expected.keys()
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5
        assert np.abs(update.payload["layers.1.value.lora_gate"] - state["layers.1.value.lora_gate"]).max() > 1e-4


def test_with_equal_gates_it_is_lora(content: HostContent) -> None:
    plain = server_state(content, PLAIN)
    state = {**plain, **gates(0.0)}
    host = DeviceHost(content, SETTINGS)

    ours, theirs = host.evaluate(FORM, state, range(40)), host.evaluate(PLAIN, plain, range(40))
    assert ours.loss_sum == pytest.approx(theirs.loss_sum, rel=1e-5)


def test_layers_below_the_depth_are_not_trained(content: HostContent) -> None:
    state = {**server_state(content, PLAIN), **gates(0.5)}
    [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, [job(state, 0, depth=1)])

    assert {name.split(".")[1] for name in update.payload if name.startswith("layers")} == {"2"}


def test_the_export_is_a_lora_that_gives_the_hosts_logits(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path / "base")
    state = {**server_state(content, PLAIN), **gates(0.5)}
    StackedGatedLora.export(content.model, FORM, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, FORM, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-4)
