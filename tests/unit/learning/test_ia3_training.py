"""IA3 in one stack trains as peft trains it, one device at a time, and is exported as peft loads it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from emulator.forms.ia3 import Ia3Form
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.learning.attach.ia3 import PARAMETERS, StackedIa3, to_peft_ia3
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec_from_config
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_models import APART, N_LABELS, SEQ_LEN, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
FORM = Ia3Form()


def server_state(content: HostContent) -> Arrays:
    """Vectors around 1, all different, and the initial head.

    AdamW's first step makes of a gradient near its epsilon, which rounding decides, a step of any size; with this seed
    there is none.
    """
    config = content.model.config
    model = model_spec_from_config(config, name="tiny", n_labels=N_LABELS, seq_len=SEQ_LEN, head="output")
    rng = np.random.default_rng(6)
    initial = FORM.initial(model, Seeds(0))
    vectors = {name: (one + rng.normal(0, 0.3, one.shape)).astype(np.float32) for name, one in initial.items()}
    return {**content.model.head_arrays(), **vectors}


def jobs(state: Arrays, depth: int, n_steps: tuple[int, ...] = (3, 2, 3, 3)) -> list[Job]:
    return [
        Job(
            device_id=device_id,
            round_index=0,
            inner_round=0,
            assignment=LayerwiseAssignment(
                device_id=device_id, n_steps=steps, batch_size=2 + device_id, learning_rate=5e-3, depth=depth
            ),
            state=state,
        )
        for device_id, steps in enumerate(n_steps)
    ]


def trained_by_peft(content: HostContent, job: Job) -> Arrays:
    payload = FORM.project(job.state, job.assignment)
    model = to_peft_ia3(content.model, payload).eval()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    leaves = [parameters[peft_name(content.model, name, PARAMETERS)].requires_grad_() for name in payload]
    optimizer = torch.optim.AdamW(leaves, lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        batch = make_batch(rows, content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: leaf.detach().view(payload[name].shape).numpy() for name, leaf in zip(payload, leaves, strict=True)}


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("family", APART)
def test_a_stack_of_devices_trains_as_peft_does_one_at_a_time(family: str, depth: int, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    state = server_state(content)
    given = jobs(state, depth)
    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, given)

    for job, update in zip(given, updates, strict=True):
        expected = trained_by_peft(content, job)
        assert update.payload.keys() == expected.keys()
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5
        assert max(np.abs(update.payload[name] - state[name]).max() for name in expected) > 1e-3


@pytest.mark.parametrize("family", APART)
def test_the_exported_adapter_gives_the_hosts_logits(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path / "base")
    state = server_state(content)
    StackedIa3.export(content.model, FORM, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, FORM, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_devices_of_different_depths_do_not_share_a_stack(tmp_path: Path) -> None:
    content = tiny_content("bert", tmp_path)
    state = server_state(content)
    shallow, deep = jobs(state, 1)[0], jobs(state, 3)[1]
    assert shallow.assignment.stack_key != deep.assignment.stack_key
    with pytest.raises(ValueError, match="equal depths"):
        DeviceHost(content, SETTINGS).train(TASK, FORM, [shallow, deep])
