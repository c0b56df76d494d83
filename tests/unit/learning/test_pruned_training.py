"""Masked units train and predict exactly as on the network that is really smaller, many devices at once or one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator.forms.kept_units import KeptUnits, pruned_to_sparsity, score_name
from emulator.forms.pruned_lora import PrunedLoraAssignment, PrunedLoraForm
from emulator.learning.data.batches import make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.compact import compact_model, shrink, without_masks
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job
from tests.unit.learning.one_at_a_time import train_on
from tests.unit.learning.test_stacked_training import server_state
from tests.unit.learning.tiny_models import PRUNABLE, tiny_content

TASK = "emulator.learning.tasks.importance:train_and_score"
SETTINGS = NumericSettings(run_seed=7, weight_decay=0.05)
EVERY = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")
FORM = PrunedLoraForm(ranks=(4, 4, 4), targets=EVERY)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def kept_of(content: HostContent, sparsity: float, seed: int) -> KeptUnits:
    """A random part of the units."""
    config, rng = content.model.config, np.random.default_rng(seed)
    n_heads = config.get("num_key_value_heads") or config.get("num_attention_heads") or config["n_heads"]
    n_channels = config.get("intermediate_size") or config["hidden_dim"]
    whole = KeptUnits.all_of(3, n_heads, n_channels)
    scores = {
        score_name(layer, kind): rng.random(len(masks[0])).astype(np.float32)
        for kind, masks in (("head", whole.masks("head")), ("channel", whole.masks("channel")))
        for layer in range(3)
    }
    return pruned_to_sparsity(whole, scores, sparsity)


def jobs(state: Arrays, kept: Sequence[KeptUnits], **varying: Sequence[Any]) -> list[Job]:
    usual: Mapping[str, Any] = {
        "n_steps": 4,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "ranks": (4, 4, 4),
        "depth": 3,
        "importance": "gradient",
    }
    return [
        Job(
            device_id=device,
            round_index=2,
            inner_round=0,
            assignment=PrunedLoraAssignment(
                **{**usual, **{key: values[device] for key, values in varying.items()}}, device_id=device, kept=own
            ),
            state=state,
        )
        for device, own in enumerate(kept)
    ]


def state_of(content: HostContent, form: PrunedLoraForm, kept: KeptUnits) -> Arrays:
    return {**server_state(content, form), **kept.arrays()}


def compact_base(content: HostContent, kept: KeptUnits) -> Any:
    base = content.model.build()
    shrink(base, content.model.sites, kept)
    return base


@pytest.mark.parametrize("family", PRUNABLE)
def test_devices_train_as_on_the_smaller_network_alone(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    targets = (*EVERY, "mlp_gate") if family == "llama" else EVERY
    form = replace(FORM, targets=targets)
    kept = [kept_of(content, sparsity, seed) for seed, sparsity in enumerate([0.0, 0.3, 0.5, 0.4])]
    work = jobs(
        state_of(content, form, kept[0]),
        kept,
        ranks=[(4, 4, 4), (1, 2, 3), (2, 2, 2), (4, 1, 4)],
        n_steps=[4, 5, 2, 3],
        batch_size=[4, 2, 5, 4],
    )

    updates = DeviceHost(content, SETTINGS).train(TASK, form, work)

    for job, update, own in zip(work, updates, kept, strict=True):
        payload = form.project(job.state, job.assignment)
        expected, loss = train_on(content, form, job, payload, 7, 0.05, compact_base(content, own))
        assert {name: array.shape for name, array in update.payload.items()} == {
            name: array.shape for name, array in payload.items()
        }
        assert update.metrics["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert max(float(np.abs(update.payload[name] - array).max()) for name, array in expected.items()) < 1e-5


def test_a_stack_gives_what_each_device_gives_alone(content: HostContent) -> None:
    kept = [kept_of(content, sparsity, seed) for seed, sparsity in enumerate([0.2, 0.5, 0.0])]
    work = jobs(state_of(content, FORM, kept[2]), kept, importance=["gradient", "magnitude", "none"])
    host = DeviceHost(content, SETTINGS)

    together = host.train(TASK, FORM, work)

    for job, update in zip(work, together, strict=True):
        [alone] = host.train(TASK, FORM, [job])
        assert set(update.reported) == set(alone.reported)
        for one, other in ((update.payload, alone.payload), (update.reported, alone.reported)):
            assert all(np.allclose(one[name], other[name], atol=1e-5) for name in one)
    assert not together[2].reported


def test_pruned_rows_are_neither_trained_nor_sent_back(content: HostContent) -> None:
    kept = kept_of(content, 0.5, 3)
    host = DeviceHost(content, NumericSettings(run_seed=7, weight_decay=0.5))
    [update] = host.train(TASK, FORM, jobs(state_of(content, FORM, kept), [kept]))
    stack, n_heads = host.attach(FORM).stack, [int(mask.sum()) for mask in kept.masks("head")]

    for layer, mask in enumerate(kept.masks("head")):
        name = f"layers.{layer}.query.lora_B"
        assert update.payload[name].shape == (8 * n_heads[layer], 4)
        assert not stack.leaf(name)[0].reshape(2, 8, 4)[torch.from_numpy(~mask)].any()


@pytest.mark.parametrize("family", PRUNABLE)
def test_the_server_state_is_evaluated_as_its_pruned_network(family: str, tmp_path: Path) -> None:
    content = tiny_content(family, tmp_path)
    state = state_of(content, FORM, kept_of(content, 0.5, 5))
    host = DeviceHost(content, SETTINGS)
    batch = make_batch(np.arange(12), content.test, "cpu")

    with torch.no_grad():
        host.attach(FORM).load([state], assignments=None)
        ours = host.logits(batch, content.test)
        smaller = compact_model(content.model, state, FORM.scaling)
        theirs = smaller(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        host.attach(FORM).load([{**without_masks(state), **kept_of(content, 0.0, 0).arrays()}], assignments=None)
        unpruned = host.logits(batch, content.test)

    error, change = (float((ours - other).abs().max()) for other in (theirs, unpruned))
    assert error < 1e-5
    assert error < 0.01 * change


def test_a_pruned_layer_below_the_lowest_adapter_is_not_taken_from_the_frozen_model(content: HostContent) -> None:
    form = PrunedLoraForm(ranks=(0, 0, 2))
    state = state_of(content, form, kept_of(content, 0.5, 5))
    host = DeviceHost(content, SETTINGS)

    assert host.attach(form).lowest_layer(state) == 0
    assert host.evaluate(form, state, range(50)) == DeviceHost(
        content, replace(SETTINGS, prefix_cache_bytes=0)
    ).evaluate(form, state, range(50))


def test_another_form_finds_the_model_as_it_was(content: HostContent) -> None:
    host = DeviceHost(content, SETTINGS)
    before = {name: type(module) for name, module in host.model.named_modules()}
    adapters = host.attach(FORM)
    assert before != {name: type(module) for name, module in host.model.named_modules()}

    adapters.detach()

    assert before == {name: type(module) for name, module in host.model.named_modules()}
