"""Adapters beside frozen directions train as plain torch has it, are LoRA in the first phase, and export as LoRA."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from emulator.forms.decoupled_lora import DecoupledAssignment, DecoupledLoraForm
from emulator.forms.lora import LoraForm
from emulator.learning.attach.decoupled_lora import StackedDecoupledLora
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import SETTINGS, server_state
from tests.unit.learning.tiny_models import N_LABELS, SEQ_LEN, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
RANKS = (3, 3, 3)
PLAIN = LoraForm(ranks=RANKS, scaling=1.5)
FORM = DecoupledLoraForm(ranks=RANKS, scaling=1.5, most_frozen=2)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def phase_state(content: HostContent, n_frozen: int) -> Arrays:
    """Random adapters, after so many phases with other ones."""
    config = content.model.config
    model = model_spec_from_config(config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    state = {**FORM.initial(model, Seeds(0)), **server_state(content, PLAIN)}
    for number in range(n_frozen):
        state = {**FORM.frozen(state, number, draw_seed=number, restarts=False), **server_state(content, PLAIN)}
    return state


def job(state: Arrays, device: int, n_frozen: int, depth: int = 3) -> Job:
    assignment = DecoupledAssignment(
        device_id=device,
        n_steps=3,
        batch_size=4,
        learning_rate=2e-3,
        ranks=RANKS,
        depth=depth,
        n_frozen=n_frozen,
        n_lacking=0,
    )
    return Job(device_id=device, round_index=0, inner_round=0, assignment=assignment, state=state)


class Decoupled(nn.Module):
    """``W x + scaling · (sum_i m_i B_i A_i x + m B A x)``, direction by direction, as written."""

    def __init__(self, base: nn.Module, held: dict[str, Tensor]) -> None:
        super().__init__()
        self.base, self.held = base, held

    def forward(self, x: Tensor) -> Tensor:
        held = self.held
        y: Tensor = self.base(x) + 1.5 * held["lora_magnitude"][0, 0] * (x @ held["lora_A"].T) @ held["lora_B"].T
        for number, magnitude in enumerate(held.get("frozen_magnitude", ())):
            ranks = slice(3 * number, 3 * number + 3)
            y = y + 1.5 * magnitude * (x @ held["frozen_A"][ranks].T) @ held["frozen_B"][:, ranks].T
        return y


def trained_alone(content: HostContent, one: Job) -> Arrays:
    payload = FORM.project(one.state, one.assignment)
    model: Any = content.model.build()
    trained: dict[str, nn.Parameter] = {}
    for (layer, target), path in content.model.sites.items():
        place = f"layers.{layer}.{target}."
        held = {name.removeprefix(place): torch.tensor(array) for name, array in payload.items() if place in name}
        if not held:
            continue
        if layer >= 3 - one.assignment.backward_layers:
            own = {name: nn.Parameter(array) for name, array in held.items() if name not in ("frozen_A", "frozen_B")}
            trained |= {f"{place}{name}": array for name, array in own.items()}
            held |= own
        model.set_submodule(path, Decoupled(model.get_submodule(path), held))
    for name, path in content.model.head.items():
        for kind in ("weight", "bias"):
            own_head = nn.Parameter(torch.tensor(payload[f"head.{name}.{kind}"]))  # the frozen model's is shared
            setattr(model.get_submodule(path), kind, own_head)
            trained[f"head.{name}.{kind}"] = own_head
    optimizer = torch.optim.AdamW(trained.values(), lr=one.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    for rows in draw_rows(one, content.local_rows(one.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: array.detach().numpy() for name, array in trained.items()}


@pytest.mark.parametrize("n_frozen", [0, 1, 2])
def test_a_stack_trains_as_written_one_device_at_a_time(content: HostContent, n_frozen: int) -> None:
    state = phase_state(content, n_frozen)
    given = [job(state, 0, n_frozen), job(state, 1, n_frozen, depth=2), job(state, 2, n_frozen)]
    for one, update in zip(given, DeviceHost(content, SETTINGS).train(TASK, FORM, given), strict=True):
        expected = trained_alone(content, one)
        assert set(update.payload) == set(expected)
        assert max(np.abs(update.payload[name] - array).max() for name, array in expected.items()) < 1e-5


def test_the_first_phase_is_lora_with_a_magnitude(content: HostContent) -> None:
    state = {
        name: np.ones_like(array) if "magnitude" in name else array for name, array in phase_state(content, 0).items()
    }
    plain = {name: array for name, array in state.items() if name.endswith(("lora_A", "lora_B", "weight", "bias"))}
    hosts = (DeviceHost(content, SETTINGS), DeviceHost(content, SETTINGS))
    one = hosts[0].evaluate(FORM, state, range(20))
    other = hosts[1].evaluate(PLAIN, plain, range(20))
    assert one.loss_sum == pytest.approx(other.loss_sum, rel=1e-6)


@pytest.mark.parametrize("n_frozen", [0, 2])
def test_the_exported_adapter_gives_the_hosts_logits(n_frozen: int, tmp_path: Path) -> None:
    content = tiny_content("roberta", tmp_path / "base")
    state = phase_state(content, n_frozen)
    StackedDecoupledLora.export(content.model, FORM, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, FORM, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-5)
