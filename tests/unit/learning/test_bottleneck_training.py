"""Bottleneck adapters in one stack train as plain PyTorch does one device at a time, and are rebuilt from files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSequenceClassification

from emulator.forms.bottleneck import BottleneckAssignment, BottleneckForm
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.learning.attach.bottleneck import StackedBottleneck, load_bottleneck
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import CONFIGS, N_LABELS, SEQ_LEN, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
FORM = BottleneckForm(width=5, initial_deviation=0.3)


def server_state(content: HostContent) -> Arrays:
    """Adapters that matter to the logits, biases too, and the initial head."""
    config = content.model.config
    model = model_spec_from_config(config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    rng = np.random.default_rng(5)
    initial = FORM.initial(model, Seeds(0))
    adapters = {name: (one + rng.normal(0, 0.2, one.shape)).astype(np.float32) for name, one in initial.items()}
    return {**content.model.head_arrays(), **adapters}


def jobs(state: Arrays, depth: int, n_steps: tuple[int, ...] = (3, 2, 3, 3)) -> list[Job]:
    return [
        Job(
            device_id=device_id,
            round_index=0,
            inner_round=0,
            assignment=LayerwiseAssignment(
                device_id=device_id, n_steps=steps, batch_size=2 + device_id, learning_rate=2e-3, depth=depth
            ),
            state=state,
        )
        for device_id, steps in enumerate(n_steps)
    ]


class Reference(nn.Module):
    """Behind a frozen map, as the paper has it."""

    def __init__(self, base: nn.Linear, arrays: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.base, self.arrays = base, arrays

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        inner = F.gelu(y @ self.arrays["down_weight"].T + self.arrays["down_bias"])
        return y + inner @ self.arrays["up_weight"].T + self.arrays["up_bias"]


def trained_alone(content: HostContent, job: Job) -> Arrays:
    payload = FORM.project(job.state, job.assignment)
    leaves = {name: nn.Parameter(torch.tensor(array)) for name, array in payload.items()}
    model: Any = content.model.build()
    for layer in {int(name.split(".")[1]) for name in payload if name.startswith("layers.")}:
        path, prefix = content.model.sites[layer, "mlp_down"], f"layers.{layer}.mlp_down."
        arrays = {name.removeprefix(prefix): leaf for name, leaf in leaves.items() if name.startswith(prefix)}
        model.set_submodule(path, Reference(model.get_submodule(path), arrays))
    for name, path in content.model.head.items():
        for kind in ("weight", "bias"):
            if f"head.{name}.{kind}" in leaves:
                setattr(model.get_submodule(path), kind, leaves[f"head.{name}.{kind}"])
    optimizer = torch.optim.AdamW(leaves.values(), lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().numpy() for name, leaf in leaves.items()}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_stack_of_devices_trains_as_plain_torch_does_one_at_a_time(family: str, depth: int, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    state = server_state(content)
    given = jobs(state, depth)
    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, given)

    for job, update in zip(given, updates, strict=True):
        expected = trained_alone(content, job)
        assert update.payload.keys() == expected.keys()
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5
        assert max(np.abs(update.payload[name] - state[name]).max() for name in expected) > 1e-3


def test_devices_of_different_widths_share_a_stack(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    given = [
        replace(
            job,
            assignment=BottleneckAssignment(
                device_id=job.device_id, n_steps=3, batch_size=2, learning_rate=2e-3, depth=2, width=width
            ),
        )
        for job, width in zip(jobs(server_state(content), 2), (2, 5, 1, 4), strict=True)
    ]

    for job, update in zip(given, DeviceHost(content, SETTINGS).train(TASK, FORM, given), strict=True):
        expected = trained_alone(content, job)
        assert {name: array.shape for name, array in update.payload.items()} == {
            name: array.shape for name, array in expected.items()
        }
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5


@pytest.mark.parametrize("head", ["output", "full"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_model_rebuilt_from_the_files_gives_the_hosts_logits(family: str, head: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base", head=head)
    state = server_state(content)
    StackedBottleneck.export(content.model, FORM, state, tmp_path / "adapter")
    host = DeviceHost(content, SETTINGS)
    host.attach(FORM).load([state], assignments=None)
    batch = make_batch(np.arange(12), content.test, "cpu")
    base: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=N_LABELS)
    base.config.pad_token_id = 0
    with torch.no_grad():
        ours = host.logits(batch, content.test)
        theirs = load_bottleneck(base, tmp_path / "adapter")(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long()
        ).logits
    assert torch.allclose(ours, theirs, atol=1e-5)
    files = {path.name: path.stat().st_mode for path in (tmp_path / "adapter").iterdir()}
    assert files.keys() == {"adapter_config.json", "adapter_model.safetensors", "labels.json"}
    assert files["adapter_model.safetensors"] == files["adapter_config.json"]
