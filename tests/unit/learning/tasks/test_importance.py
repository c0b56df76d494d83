"""Importance is what its formula says, measured on the gradients and parameters of the same step."""

import numpy as np
import pytest
import torch
from torch import Tensor

from emulator.forms.pruned_lora import PrunedLoraForm
from emulator.learning.attach.pruned_lora import StackedPrunedLora
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.learning.tasks.importance import weight_scores
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from tests.unit.learning.test_pruned_training import EVERY, SETTINGS, content, jobs, kept_of, state_of  # noqa: F401

TASK = "emulator.learning.tasks.importance:train_and_score"
FORM = PrunedLoraForm(ranks=(4, 4, 4), targets=EVERY)
HEADS, CHANNELS = 2, 32


def test_a_weight_s_score_by_hand() -> None:
    weight, a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[5.0]]])
    d_a, d_b = torch.tensor([[[0.1, 0.2]]]), torch.tensor([[[10.0]]])

    found = weight_scores(weight, 2.0, a, b, d_a, d_b)

    # G = dB A + B dA - dB dA = [30 + 0.5 - 1, 40 + 1 - 2]; W + 2 B A = [1 + 30, 2 + 40]
    assert found[0].tolist() == [[pytest.approx(29.5 * 31), pytest.approx(39 * 42)]]


def test_scores_never_need_a_gradient_of_the_weight_and_vanish_where_nothing_flows() -> None:
    weight, a, b = torch.ones(2, 3), torch.ones(1, 2, 3), torch.ones(1, 2, 2)

    assert not weight_scores(weight, 1.0, a, b, torch.zeros_like(a), torch.zeros_like(b)).any()


def reference(content: HostContent, job: Job, smoothing: float) -> tuple[Arrays, float]:  # noqa: F811
    """Plain torch: one device on the whole model, scores of each unit written out."""
    model = to_peft(content.model, FORM.project(job.state, job.assignment), FORM.scaling).eval()
    parameters = dict(model.named_parameters())
    trained = [name for name in job.state if not name.endswith("_mask")]
    leaves = {name: parameters[peft_name(content.model, name)].requires_grad_() for name in trained}
    optimizer = torch.optim.AdamW(leaves.values(), lr=job.assignment.learning_rate, weight_decay=0.05)
    smoothed: dict[tuple[int, str], Tensor] = {}
    total = 0.0
    for step, rows in enumerate(draw_rows(job, content.local_rows(job.device_id), Seeds(7))):
        batch = make_batch(rows, content.train, "cpu")
        optimizer.zero_grad()
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss.backward()
        first_order = 0.0
        for layer in range(3):
            for target in EVERY:
                a, b = (leaves[f"layers.{layer}.{target}.{name}"] for name in ("lora_A", "lora_B"))
                weight = torch.tensor(content.model.arrays[f"{content.model.sites[layer, target]}.weight"])
                gradient = b.grad @ a + b @ a.grad - b.grad @ a.grad
                score = (gradient * (weight + FORM.scaling * b @ a)).abs().detach()
                by_unit = score.sum(0 if target in ("attention_output", "mlp_down") else 1)
                by_unit = by_unit.view(CHANNELS if target.startswith("mlp") else HEADS, -1).sum(1)
                old = smoothed.get((layer, target), by_unit)
                smoothed[layer, target] = smoothing * old + (1 - smoothing) * by_unit
                first_order += float((a * a.grad).abs().sum().detach() + (b * b.grad).abs().sum().detach())
        total = first_order if step == 0 else smoothing * total + (1 - smoothing) * first_order
        optimizer.step()
    scores: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
    for (layer, target), values in smoothed.items():
        name = f"layers.{layer}.{'channel' if target.startswith('mlp') else 'head'}_score"
        scores[name] = scores.get(name, 0) + (values / values.norm()).numpy()
    return scores, total


@pytest.mark.parametrize("smoothing", [0.0, 0.7])
def test_reported_scores_are_those_of_plain_torch(content: HostContent, smoothing: float) -> None:  # noqa: F811
    kept = kept_of(content, 0.0, 0)
    work = jobs(state_of(content, FORM, kept), [kept, kept], n_steps=[3, 5], smoothing=[smoothing] * 2)

    updates = DeviceHost(content, SETTINGS).train(TASK, FORM, work)

    for job, update in zip(work, updates, strict=True):
        expected, total = reference(content, job, smoothing)
        assert set(update.reported) == set(expected)
        for name, scores in expected.items():
            assert update.reported[name] == pytest.approx(scores, rel=1e-3, abs=1e-5)
        assert update.metrics["adapter_importance"] == pytest.approx(total, rel=1e-3)


def test_magnitude_is_the_sum_over_the_weights_of_a_unit(content: HostContent) -> None:  # noqa: F811
    kept = kept_of(content, 0.0, 0)
    form = PrunedLoraForm(ranks=(4, 4, 4), targets=("query", "mlp_up"))
    state = state_of(content, form, kept)
    [update] = DeviceHost(content, SETTINGS).train(
        TASK, form, jobs(state, [kept], importance=["magnitude"], n_steps=[1])
    )

    a, b = (state[f"layers.1.query.{name}"] for name in ("lora_A", "lora_B"))
    weight = content.model.arrays[f"{content.model.sites[1, 'query']}.weight"] + form.scaling * b @ a
    by_head = np.abs(weight).reshape(HEADS, -1).sum(1)
    assert update.reported["layers.1.head_score"] == pytest.approx(by_head / np.linalg.norm(by_head), rel=1e-5)


def test_a_unit_that_is_gone_scores_zero_and_all_others_do_not(content: HostContent) -> None:  # noqa: F811
    kept = kept_of(content, 0.5, 2)
    [update] = DeviceHost(content, SETTINGS).train(TASK, FORM, jobs(state_of(content, FORM, kept), [kept]))

    for kind in ("head", "channel"):
        for layer, mask in enumerate(kept.masks(kind)):
            assert np.array_equal(update.reported[f"layers.{layer}.{kind}_score"] > 0, mask)
    assert update.metrics["kept_fraction"] == kept.kept_fraction == 0.5


BARE = PrunedLoraForm(ranks=(4, 4, 4), targets=("query", "value"))


def by_weight_and_gradient(content: HostContent, job: Job, form: PrunedLoraForm) -> Arrays:  # noqa: F811
    """``|Σ_ij W_ij dL/dW_ij|`` over the columns of each unit, added up over examples, with gradients of the weights.

    Where the matrix has an adapter, ``W`` is what both give together.
    """
    model = to_peft(content.model, form.project(job.state, job.assignment), form.scaling).eval()
    parameters = dict(model.named_parameters())
    readers = {"head": ("attention_output", HEADS), "channel": ("mlp_down", CHANNELS)}
    weights, merged = {}, {}
    for kind, (target, _) in readers.items():
        for layer in range(3):
            path = f"base_model.model.{content.model.sites[layer, target]}"
            weight = parameters.get(f"{path}.base_layer.weight", parameters.get(f"{path}.weight"))
            assert weight is not None
            weights[layer, kind] = weight.requires_grad_()
            merged[layer, kind] = weight.detach().clone()
            if target in form.targets:
                a, b = (job.state[f"layers.{layer}.{target}.{name}"] for name in ("lora_A", "lora_B"))
                merged[layer, kind] += torch.from_numpy(form.scaling * b @ a)
    [rows] = draw_rows(job, content.local_rows(job.device_id), Seeds(7))
    total = {place: torch.zeros(readers[place[1]][1]) for place in weights}
    for row in rows:
        batch = make_batch(np.array([row]), content.train, "cpu")
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (place, weight), gradient in zip(merged.items(), gradients, strict=True):
            total[place] += (weight * gradient).view(len(weight), readers[place[1]][1], -1).sum((0, 2)).abs()
    return {f"layers.{layer}.{kind}_score": (sums / sums.norm()).numpy() for (layer, kind), sums in total.items()}


@pytest.mark.parametrize("form", [FORM, BARE], ids=["every", "query and value"])
def test_taylor_is_weight_times_gradient_of_what_reads_a_unit(content: HostContent, form: PrunedLoraForm) -> None:  # noqa: F811
    kept = kept_of(content, 0.0, 0)
    work = jobs(state_of(content, form, kept), [kept, kept], n_steps=[1, 1], importance=["taylor"] * 2)

    updates = DeviceHost(content, SETTINGS).train(TASK, form, work)

    for job, update in zip(work, updates, strict=True):
        expected = by_weight_and_gradient(content, job, form)
        assert set(update.reported) == set(expected)
        for name, scores in expected.items():
            assert update.reported[name] == pytest.approx(scores, rel=2e-3, abs=1e-5)


def test_units_without_an_adapter_are_scored_by_the_gradient_of_what_they_give(content: HostContent) -> None:  # noqa: F811
    kept = kept_of(content, 0.0, 0)
    state = state_of(content, BARE, kept)
    [by_adapters] = DeviceHost(content, SETTINGS).train(TASK, BARE, jobs(state, [kept]))
    [by_units] = DeviceHost(content, SETTINGS).train(TASK, BARE, jobs(state, [kept], importance=["taylor"]))

    for layer in range(3):
        channels, heads = f"layers.{layer}.channel_score", f"layers.{layer}.head_score"
        assert np.array_equal(by_adapters.reported[channels], by_units.reported[channels])
        assert not np.allclose(by_adapters.reported[heads], by_units.reported[heads], rtol=1e-2)


def test_magnitude_of_units_without_an_adapter_is_that_of_the_pre_trained_weights(content: HostContent) -> None:  # noqa: F811
    kept = kept_of(content, 0.0, 0)
    work = jobs(state_of(content, BARE, kept), [kept], importance=["magnitude"], n_steps=[2])
    [update] = DeviceHost(content, SETTINGS).train(TASK, BARE, work)

    up, down = (
        np.abs(content.model.arrays[f"{content.model.sites[2, name]}.weight"]) for name in ("mlp_up", "mlp_down")
    )
    sums = up.sum(1), down.sum(0)
    expected = sum(one / np.linalg.norm(one) for one in sums)
    assert update.reported["layers.2.channel_score"] == pytest.approx(expected, rel=1e-5)


def test_measuring_changes_nothing_that_is_trained_and_ends_with_the_round(content: HostContent) -> None:  # noqa: F811
    kept = kept_of(content, 0.5, 2)
    state, host = state_of(content, BARE, kept), DeviceHost(content, SETTINGS)
    [measured] = host.train(TASK, BARE, jobs(state, [kept], importance=["taylor"]))
    [plain] = host.train(TASK, BARE, jobs(state, [kept], importance=["none"]))

    assert all(np.array_equal(measured.payload[name], array) for name, array in plain.payload.items())
    adapters = host.attach(BARE)
    assert isinstance(adapters, StackedPrunedLora)
    assert all(reader.first_order is None for reader in adapters.readers.values())
    for kind in ("head", "channel"):
        for layer, mask in enumerate(kept.masks(kind)):
            assert np.array_equal(measured.reported[f"layers.{layer}.{kind}_score"] > 0, mask)
