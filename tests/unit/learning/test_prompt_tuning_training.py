"""Virtual tokens in one stack train as peft trains them, one device at a time, and are exported as peft loads them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator.errors import ConfigError
from emulator.forms.layerwise import LayerwiseAssignment
from emulator.forms.prompt_tuning import EMBEDDING, PromptTuningForm
from emulator.learning.attach.prompt_tuning import PARAMETERS, StackedPrompt, to_peft_prompt
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name
from emulator.objective.causal import Causal
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from tests.unit.learning.exported import host_and_reloaded_logits
from tests.unit.learning.test_causal_training import labelled, prepared
from tests.unit.learning.test_stacked_training import SETTINGS
from tests.unit.learning.tiny_decoders import FAMILIES
from tests.unit.learning.tiny_models import CONFIGS, tiny_content

TASK = "emulator.learning.tasks.local:train_adapter"
FORM = PromptTuningForm(n_virtual_tokens=3)
SEQ_LEN = 12
"""Tokens of a row, with room for virtual ones among the positions of the tiny models."""
DECODERS = ("llama", "gpt2", "phi3")
ENCODERS = [family for family in CONFIGS if family not in (*DECODERS, "albert")]  # whose embeddings are narrow


def classifier(family: str, folder: Path, full: bool = False) -> HostContent:
    """Three devices, without a token that MPNet takes for padding, whatever its configuration says."""
    content = tiny_content(family, folder, n_devices=3, seq_len=SEQ_LEN, full=full)
    data = (content.train, content.test)
    train, test = (replace(part, input_ids=np.where(part.input_ids == 1, 3, part.input_ids)) for part in data)
    return replace(content, train=train, test=test)


def server_state(content: HostContent) -> Arrays:
    """Virtual tokens and the initial head."""
    table = content.model.build().get_input_embeddings().weight
    tokens = np.random.default_rng(6).normal(0, 0.3, (FORM.n_virtual_tokens, table.shape[1])).astype(np.float32)
    return {**content.model.head_arrays(), EMBEDDING: tokens}


def jobs(state: Arrays, depth: int = 3, n_steps: Sequence[int] = (3, 2, 3)) -> list[Job]:
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


def inputs(content: HostContent, rows: Any) -> dict[str, torch.Tensor]:
    if content.train.scored is not None:
        return labelled(content, rows)
    batch = make_batch(rows, content.train, "cpu")
    mask = batch.attention_mask
    mask = torch.ones_like(batch.input_ids) if mask is None else mask.long()
    return {"input_ids": batch.input_ids, "attention_mask": mask, "labels": batch.labels}


def trained_by_peft(content: HostContent, job: Job) -> tuple[Arrays, float]:
    """What PEFT and torch.optim.AdamW make of a device's job, and the mean of its losses."""
    model = to_peft_prompt(content.model, job.state).eval()
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    names = {name: peft_name(content.model, name, PARAMETERS, is_prompt_learning=True) for name in job.state}
    leaves = [parameters[name].requires_grad_() for name in names.values()]
    optimizer = torch.optim.AdamW(leaves, lr=job.assignment.learning_rate, weight_decay=SETTINGS.weight_decay)
    losses = []
    for rows in draw_rows(job, content.local_rows(job.device_id), Seeds(SETTINGS.run_seed)):
        loss = model(**inputs(content, rows)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {name: leaf.detach().numpy() for name, leaf in zip(names, leaves, strict=True)}, float(np.mean(losses))


def check_against_peft(content: HostContent) -> None:
    state = server_state(content)
    given = jobs(state)
    for job, update in zip(given, DeviceHost(content, SETTINGS).train(TASK, FORM, given), strict=True):
        expected, loss = trained_by_peft(content, job)
        assert update.payload.keys() == expected.keys()
        assert update.metrics["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert max(np.abs(update.payload[name] - expected[name]).max() for name in expected) < 1e-5
        assert np.abs(update.payload[EMBEDDING] - state[EMBEDDING]).max() > 1e-3


@pytest.mark.parametrize("family", ENCODERS)
def test_classifiers_in_a_stack_train_as_peft_does_one_at_a_time(family: str, tmp_path: Path) -> None:
    check_against_peft(classifier(family, tmp_path))


@pytest.mark.parametrize("family", DECODERS)
def test_decoders_that_classify_do_where_no_row_is_padded(family: str, tmp_path: Path) -> None:
    """Of padded rows PEFT classifies by the last place, which is padding."""
    check_against_peft(classifier(family, tmp_path, full=True))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "opt-narrow"])
def test_language_models_in_a_stack_train_as_peft_does_one_at_a_time(family: str, tmp_path: Path) -> None:
    check_against_peft(prepared(family, tmp_path)[0])


@pytest.mark.parametrize("family", ENCODERS)
def test_the_exported_adapter_gives_the_hosts_logits(family: str, tmp_path: Path) -> None:
    content = classifier(family, tmp_path / "base")
    state = server_state(content)
    StackedPrompt.export(content.model, FORM, state, tmp_path / "adapter")
    ours, theirs = host_and_reloaded_logits(content, FORM, state, tmp_path)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_model_that_is_let_go_has_its_own_embeddings_back(tmp_path: Path) -> None:
    host = DeviceHost(classifier("bert", tmp_path), SETTINGS)
    own = host.model.get_input_embeddings()
    adapters = host.attach(FORM)
    assert host.model.get_input_embeddings() is not own
    adapters.detach()
    assert host.model.get_input_embeddings() is own


def test_texts_that_share_a_row_are_refused(tmp_path: Path) -> None:
    content, _ = prepared("llama", tmp_path, Causal(packs=True))
    with pytest.raises(ConfigError, match=r"data\.packing: virtual tokens stand in front of one text"):
        DeviceHost(content, SETTINGS).train(TASK, FORM, jobs(server_state(content)))
