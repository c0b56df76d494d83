"""Merged training of a cut transformer agrees with plain torch: gradients, dispatch, and one shared top."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from emulator.algorithms.aggregation import contributions, weighted_coordinate_mean
from emulator.forms.cut_lora import CutLoraForm
from emulator.forms.lora import LoraForm, lora_assignment
from emulator.learning.cut.adapters import MergedTraining, merged_gradient
from emulator.learning.data.batches import draw_rows, make_batch
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.model.export import peft_name, to_peft
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job, LocalOptimizer, TrainingDefaults, Update
from emulator.seeds import Seeds
from tests.unit.learning.tiny_models import tiny_content

SETTINGS = NumericSettings(run_seed=7, weight_decay=0.0)
FORM = CutLoraForm(ranks=(3, 3, 3), cut=1)
MERGED, COPIES = (f"emulator.learning.tasks.cut:train_{name}" for name in ("merged", "copies"))
RATE, TOP_RATE = 2e-3, 1e-3


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


def server_state(content: HostContent) -> Arrays:
    rng = np.random.default_rng(5)
    state = dict(content.model.head_arrays())
    for (layer, target), path in content.model.sites.items():
        if target in FORM.targets:
            out_features, in_features = content.model.arrays[f"{path}.weight"].shape
            for name, shape in (("lora_A", (3, in_features)), ("lora_B", (out_features, 3))):
                state[f"layers.{layer}.{target}.{name}"] = rng.normal(0, 0.2, shape).astype(np.float32)
    return state


def jobs(state: Arrays, *batch_sizes: int, n_steps: int = 1, merges: bool = True) -> list[Job]:
    return [
        Job(
            device_id=device,
            round_index=0,
            inner_round=0,
            assignment=FORM.assignment(
                device,
                n_steps=n_steps,
                batch_size=size,
                learning_rate=RATE,
                top_learning_rate=TOP_RATE,
                merges=merges,
            ),
            state=state,
        )
        for device, size in enumerate(batch_sizes)
    ]


def is_bottom(name: str) -> bool:
    return name.startswith("layers.0.")


def gradients_of(training: MergedTraining) -> list[dict[str, Any]]:
    """By device, the gradients that the last step left."""
    stack = training.adapters.stack
    values = stack.gradients.numpy()
    return [
        {name: stack.read(values, row, name, shape) for name, shape in stack.shapes.items()}
        for row in range(len(training.jobs))
    ]


def peft_gradients(content: HostContent, state: Arrays, rows: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """Those of the mean loss over ``rows``, with peft, for every array of the state."""
    model = to_peft(content.model, state, FORM.scaling)
    model.eval()
    parameters = dict(model.named_parameters())
    leaves = {name: parameters[peft_name(content.model, name)].requires_grad_() for name in state}
    batch = make_batch(rows, content.train, "cpu")
    loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("sizes", [(4, 4, 4), (6, 1, 3)])
def test_the_merged_gradient_of_the_top_is_that_of_the_union_of_the_batches(
    content: HostContent, sizes: tuple[int, ...]
) -> None:
    state = server_state(content)
    training = MergedTraining(DeviceHost(content, SETTINGS), FORM, jobs(state, *sizes))
    training.run()
    rows = [draw_rows(job, content.local_rows(job.device_id), Seeds(7))[0] for job in training.jobs]
    expected = peft_gradients(content, state, np.concatenate(rows))

    for own in gradients_of(training):
        for name in state:
            if not is_bottom(name):
                assert np.abs(own[name] - expected[name].numpy()).max() < 2e-6, name


@pytest.mark.parametrize("sizes", [(4, 4, 4), (6, 1, 3)])
def test_a_bottom_gets_the_gradient_of_its_own_mean_loss(content: HostContent, sizes: tuple[int, ...]) -> None:
    state = server_state(content)
    training = MergedTraining(DeviceHost(content, SETTINGS), FORM, jobs(state, *sizes))
    training.run()

    for job, own in zip(training.jobs, gradients_of(training), strict=True):
        rows = draw_rows(job, content.local_rows(job.device_id), Seeds(7))[0]
        expected = peft_gradients(content, state, rows)
        for name in filter(is_bottom, state):
            assert np.abs(own[name] - expected[name].numpy()).max() < 2e-6, name


def test_dispatch_undoes_the_merged_mean() -> None:
    """The gradient of the merged mean at device i's features, times sum d / d_i, is that of its own mean loss."""
    generator = torch.Generator().manual_seed(0)
    top = torch.nn.Linear(5, 3)
    sizes = (4, 1, 3)
    features = [torch.randn(size, 5, generator=generator, requires_grad=True) for size in sizes]
    labels = [torch.randint(3, (size,), generator=generator) for size in sizes]

    merged = F.cross_entropy(top(torch.cat(features)), torch.cat(labels))
    for own, label, slice_ in zip(features, labels, torch.autograd.grad(merged, features), strict=True):
        [expected] = torch.autograd.grad(F.cross_entropy(top(own), label), own)
        assert torch.allclose(slice_ * sum(sizes) / len(own), expected, atol=1e-7)


def test_the_merged_gradient_is_the_mean_weighted_by_batches() -> None:
    gradients = torch.tensor([[1.0, 0.0], [5.0, 8.0]])

    assert merged_gradient(gradients, [3, 1]).tolist() == [2.0, 2.0]


def test_every_update_of_a_merged_cohort_has_the_same_top_and_a_bottom_of_its_own(content: HostContent) -> None:
    state = server_state(content)
    updates = DeviceHost(content, SETTINGS).train(MERGED, FORM, jobs(state, 5, 2, 3, n_steps=4))

    for name, before in state.items():
        arrays = [update.payload[name] for update in updates]
        assert not np.array_equal(arrays[0], before)
        assert all(np.array_equal(arrays[0], other) for other in arrays[1:]) == (not is_bottom(name))


def test_averaging_updates_with_one_top_gives_that_top_to_the_bit(content: HostContent) -> None:
    state = server_state(content)
    updates = DeviceHost(content, SETTINGS).train(MERGED, FORM, jobs(state, 5, 2, 3, n_steps=2))
    weighted = [replace(update, n_examples=weight) for update, weight in zip(updates, (7, 3, 13), strict=True)]
    merged = weighted_coordinate_mean(state, contributions(FORM, state, weighted))

    for name in state:
        if not is_bottom(name):
            assert np.array_equal(merged[name], updates[0].payload[name])


def whole_model_training(content: HostContent, state: Arrays, rate: float) -> Update:
    """What the engine's plain local training makes of device 0."""
    form = LoraForm(ranks=FORM.ranks)
    training = TrainingDefaults(n_steps=4, batch_size=5, learning_rate=rate)
    job = Job(
        device_id=0,
        round_index=0,
        inner_round=0,
        assignment=lora_assignment(0, training, form.ranks, 3),
        state=state,
    )
    return DeviceHost(content, SETTINGS).train("emulator.learning.tasks.local:train_adapter", form, [job])[0]


@pytest.mark.parametrize(("task", "merges"), [(MERGED, True), (COPIES, False)])
def test_one_device_trains_as_if_the_model_were_not_cut(content: HostContent, task: str, merges: bool) -> None:
    state = server_state(content)
    [job] = jobs(state, 5, n_steps=4, merges=merges)
    job = replace(job, assignment=replace(job.assignment, top_learning_rate=RATE))  # type: ignore[call-arg]
    [update] = DeviceHost(content, SETTINGS).train(task, FORM, [job])
    expected = whole_model_training(content, state, RATE)

    assert set(update.payload) == set(expected.payload) == set(state)
    for name, array in expected.payload.items():
        assert np.abs(update.payload[name] - array).max() < 1e-6, name
    assert update.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], abs=1e-6)


def test_bottom_and_top_have_learning_rates_of_their_own(content: HostContent) -> None:
    """In the first step AdamW moves every number by its rate, but for those with next to no gradient."""
    state = server_state(content)
    for task, merges in ((MERGED, True), (COPIES, False)):
        [update, _] = DeviceHost(content, SETTINGS).train(task, FORM, jobs(state, 4, 4, merges=merges))
        for name, before in state.items():
            moved = np.abs(update.payload[name] - before)
            assert np.median(moved) == pytest.approx(RATE if is_bottom(name) else TOP_RATE, rel=0.02), name


def test_copies_of_the_top_do_not_see_one_another(content: HostContent) -> None:
    state = server_state(content)
    work = jobs(state, 4, 4, n_steps=3, merges=False)
    together = DeviceHost(content, SETTINGS).train(COPIES, FORM, work)
    alone = DeviceHost(content, SETTINGS).train(COPIES, FORM, work[1:])

    for name, array in alone[0].payload.items():
        assert np.abs(together[1].payload[name] - array).max() < 1e-5


def test_the_same_jobs_give_the_same_bytes(content: HostContent) -> None:
    state = server_state(content)
    first, second = (DeviceHost(content, SETTINGS).train(MERGED, FORM, jobs(state, 5, 2, n_steps=3)) for _ in range(2))

    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one.payload[name], other.payload[name]) for name in state)


def test_a_cohort_too_large_for_one_pass_trains_as_in_one(content: HostContent) -> None:
    state = server_state(content)
    whole, parted = (
        DeviceHost(content, replace(SETTINGS, devices_stacked=most)).train(
            MERGED, FORM, jobs(state, 5, 2, 3, n_steps=3)
        )
        for most in (16, 2)
    )
    for one, other in zip(whole, parted, strict=True):
        assert one.metrics["train_loss"] == pytest.approx(other.metrics["train_loss"], abs=1e-6)
        for name in state:
            assert np.abs(one.payload[name] - other.payload[name]).max() < 1e-5, name


def test_the_top_is_clipped_by_a_norm_of_its_own(content: HostContent) -> None:
    state = server_state(content)
    settings = replace(SETTINGS, optimizer=LocalOptimizer(name="sgd", max_gradient_norm=1e-3))
    work = jobs(state, 4, 4)
    updates = DeviceHost(content, settings).train(MERGED, FORM, work)
    for update, job in zip(updates, work, strict=True):
        bottom = FORM.project(state, job.assignment)
        # One step of SGD on a gradient of that norm; the rates of bottom and top differ.
        for rate, is_own in ((RATE, True), (TOP_RATE, False)):
            moved = [
                (update.payload[name] - state[name]).ravel() for name in update.payload if (name in bottom) == is_own
            ]
            assert np.linalg.norm(np.concatenate(moved)) == pytest.approx(1e-3 * rate, rel=1e-2)
    assert all(
        np.array_equal(updates[0].payload[name], updates[1].payload[name])
        for name in updates[0].payload
        if name not in FORM.project(state, work[0].assignment)
    )
