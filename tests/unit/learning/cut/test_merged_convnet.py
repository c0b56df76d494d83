"""Merged training of a convnet agrees with plain torch: one batch at the server, each device's own loss below."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from emulator.forms.convnet import ConvNetForm
from emulator.learning.attach.convnet import ConvNetWeights
from emulator.learning.cut.convnet import ConvNetContent, ConvNetHost, dispatched, forward
from emulator.learning.data.batches import draw_rows
from emulator.learning.data.images import ImageData
from emulator.learning.settings import NumericSettings
from emulator.records import Arrays, Job
from emulator.seeds import Seeds
from emulator.shapes.convnet_catalog import builtin_convnet

MODEL = builtin_convnet((1, 6, 6), 3)
FORM = ConvNetForm()
SETTINGS = NumericSettings(run_seed=7)
MERGED, COPIES = (f"emulator.learning.tasks.cut:train_{name}" for name in ("merged", "copies"))
RATE, TOP_RATE = 0.1, 0.05
Weights = dict[str, torch.Tensor]


def images(n: int) -> ImageData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    pixels = rng.standard_normal((n, 1, 6, 6)).astype(np.float32)
    pixels[np.arange(n), 0, labels] += 2.0  # the label is the row of pixels that is bright
    return ImageData(pixels=pixels, labels=labels)


CONTENT = ConvNetContent(model=MODEL, train=images(120), test=images(50), offsets=np.arange(0, 121, 30))
STATE = FORM.initial(MODEL, Seeds(3))


def jobs(*batch_sizes: int, n_steps: int = 1, merges: bool = True) -> list[Job]:
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
            state=STATE,
        )
        for device, size in enumerate(batch_sizes)
    ]


def leaves(state: Arrays) -> Weights:
    return {name: torch.tensor(array).requires_grad_() for name, array in state.items()}


def mean_loss(weights: Weights, rows: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    """Of the whole network over ``rows``, in the most obvious way."""
    features = forward(MODEL.layers[: MODEL.cut], "bottom", weights, torch.from_numpy(CONTENT.train.pixels[rows]))
    logits = forward(MODEL.layers[MODEL.cut :], "top", weights, features)
    return F.cross_entropy(logits, torch.from_numpy(CONTENT.train.labels[rows]))


def gradients(weights: Weights, rows: np.ndarray) -> Weights:  # type: ignore[type-arg]
    found = torch.autograd.grad(mean_loss(weights, rows), list(weights.values()))
    return dict(zip(weights, found, strict=True))


@pytest.mark.parametrize("sizes", [(5, 5, 5), (8, 1, 4)])
def test_one_merged_step_is_one_on_the_union_of_batches_above_and_on_own_batches_below(sizes: tuple[int, ...]) -> None:
    work = jobs(*sizes)
    rows = [draw_rows(job, CONTENT.local_rows(job.device_id), Seeds(7))[0] for job in work]
    union = gradients(leaves(STATE), np.concatenate(rows))
    for own, update in zip(rows, ConvNetHost(CONTENT, SETTINGS).train(MERGED, FORM, work), strict=True):
        alone = gradients(leaves(STATE), own)
        for name, before in STATE.items():
            is_top = name.startswith("top.")
            expected = before - (TOP_RATE * union[name] if is_top else RATE * alone[name]).numpy()
            assert np.abs(update.payload[name] - expected).max() < 1e-6, name


def test_the_dispatched_gradient_is_the_slice_times_the_share_of_the_batch() -> None:
    gradient = torch.arange(8.0).view(4, 2)

    first, second = dispatched(gradient, [3, 1])
    assert torch.allclose(first, gradient[:3] * 4 / 3)
    assert torch.equal(second, gradient[3:] * 4)


@pytest.mark.parametrize(("task", "merges"), [(MERGED, True), (COPIES, False)])
def test_one_device_trains_the_whole_network_by_plain_sgd(task: str, merges: bool) -> None:
    [job] = jobs(6, n_steps=5, merges=merges)
    job = replace(job, assignment=replace(job.assignment, top_learning_rate=RATE))  # type: ignore[call-arg]
    [update] = ConvNetHost(CONTENT, SETTINGS).train(task, FORM, [job])
    weights = leaves(STATE)
    optimizer, losses = torch.optim.SGD(list(weights.values()), lr=RATE), []
    for rows in draw_rows(job, CONTENT.local_rows(0), Seeds(7)):
        loss = mean_loss(weights, rows)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))

    for name, weight in weights.items():
        assert np.abs(update.payload[name] - weight.detach().numpy()).max() < 1e-5, name
    assert update.metrics["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_updates_of_a_cohort_share_the_top_and_nothing_else() -> None:
    first, second = ConvNetHost(CONTENT, SETTINGS).train(MERGED, FORM, jobs(4, 2, n_steps=3))

    for name, before in STATE.items():
        assert not np.array_equal(first.payload[name], before)
        assert np.array_equal(first.payload[name], second.payload[name]) == name.startswith("top.")


def test_copies_do_not_depend_on_who_else_is_trained() -> None:
    work, host = jobs(4, 2, n_steps=3, merges=False), ConvNetHost(CONTENT, SETTINGS)
    together, alone = host.train(COPIES, FORM, work)[1], host.train(COPIES, FORM, work[1:])[0]

    assert all(np.array_equal(together.payload[name], alone.payload[name]) for name in STATE)


def test_the_same_jobs_give_the_same_bytes() -> None:
    first, second = (ConvNetHost(CONTENT, SETTINGS).train(MERGED, FORM, jobs(4, 2, n_steps=3)) for _ in range(2))

    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(one.payload[name], other.payload[name]) for name in STATE)


def test_it_learns_and_is_evaluated_in_shards() -> None:
    host, state = ConvNetHost(CONTENT, SETTINGS), STATE
    before = host.evaluate(FORM, state, range(50))
    for update in host.train(MERGED, FORM, jobs(30, n_steps=60)):
        state = update.payload
    whole, parts = (
        host.evaluate(FORM, state, range(50)),
        [host.evaluate(FORM, state, r) for r in (range(20), range(20, 50))],
    )

    assert before.n_correct < 35
    assert whole.n_correct > 45
    assert (sum(part.n for part in parts), sum(part.n_correct for part in parts)) == (50, whole.n_correct)
    assert sum(part.loss_sum for part in parts) == pytest.approx(whole.loss_sum, rel=1e-5)


def test_weights_are_written_with_what_is_needed_to_rebuild_the_network(tmp_path: Path) -> None:
    ConvNetWeights.export(MODEL, FORM, STATE, tmp_path / "adapter")
    described = json.loads((tmp_path / "adapter" / "network.json").read_text())
    loaded = load_file(tmp_path / "adapter" / "model.safetensors")

    assert loaded.keys() == STATE.keys()
    assert all(np.array_equal(loaded[name], array) for name, array in STATE.items())
    assert (described["cut"], [layer["name"] for layer in described["layers"]]) == (
        2,
        ["conv1", "conv2", "linear1", "linear2"],
    )
