"""Payloads of real forms: bytes by their closed form, what devices begin with, and what error feedback adds up to."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from emulator.compression.payloads import download_bytes, received, sent, upload_bytes
from emulator.forms.controlled_lora import ControlledLoraForm
from emulator.forms.lora import LoraForm, lora_assignment
from emulator.forms.residual import ResidualAssignment, ResidualLoraForm
from emulator.records import Arrays, Compression, Encoding, Job, TrainingDefaults, Update
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec

MODEL = model_spec("roberta-base", n_labels=4, seq_len=16, head="output")
TRAINING = TrainingDefaults(n_steps=2, batch_size=4, learning_rate=1e-3)
RANKS, DEPTH = (2,) * 12, 3
FORM = LoraForm(ranks=RANKS)
ASSIGNMENT = lora_assignment(5, TRAINING, RANKS, DEPTH)
N_LORA = 4 * 2 * 768  # of a layer: query and value, two factors each, rank 2
N_SENT = DEPTH * N_LORA + MODEL.n_head_parameters
N_RECEIVED = 12 * N_LORA + MODEL.n_head_parameters  # those below the depth as well
INT8 = Encoding(kind="int8", bucket_size=100)
TOPK = Encoding(kind="topk", topk_fraction=0.1)
SEEDS = Seeds(11)


def state() -> Arrays:
    rng = np.random.default_rng(0)
    head = {"head.weight": np.zeros((4, 3), np.float32)}
    return {
        name: rng.normal(size=array.shape).astype(np.float32)
        for name, array in {**FORM.initial(MODEL, SEEDS), **head}.items()
    }


def job(server: Arrays, unsent: Arrays | None = None, round_index: int = 1) -> Job:
    return Job(
        device_id=5, round_index=round_index, inner_round=0, assignment=ASSIGNMENT, state=server, unsent=unsent or {}
    )


def trained(server: Arrays, change: float, *, seed: int = 1) -> Update:
    """The device's arrays after a change of that size."""
    rng = np.random.default_rng(seed)
    payload = {
        name: array + np.float32(change) * rng.normal(size=array.shape).astype(np.float32)
        for name, array in FORM.project(server, ASSIGNMENT).items()
        if FORM.is_trained(name, ASSIGNMENT, MODEL)
    }
    return Update(device_id=5, assignment=ASSIGNMENT, payload=payload, n_examples=3, metrics={})


@pytest.mark.parametrize(
    ("encoding", "bytes_of"),
    [
        (Encoding(), lambda n: 4 * n),
        (Encoding(kind="fp16"), lambda n: 2 * n),
        (Encoding(kind="bf16"), lambda n: 2 * n),
        (INT8, lambda n: n + 4 * -(-n // 100)),
        (TOPK, lambda n: 8 * -(-n // 10)),
    ],
)
def test_bytes_follow_from_the_shapes_of_the_priced_model(encoding: Encoding, bytes_of: Callable[[int], int]) -> None:
    both = Compression(upload=encoding, download=encoding)
    assert upload_bytes(FORM, ASSIGNMENT, MODEL, both) == bytes_of(N_SENT)
    assert download_bytes(FORM, ASSIGNMENT, MODEL, both) == bytes_of(N_RECEIVED)


def test_what_travels_beside_arrays_is_not_compressed() -> None:
    halves = Compression(upload=Encoding(kind="fp16"), download=Encoding(kind="fp16"))
    form = ControlledLoraForm(ranks=RANKS)  # a control variate for each trained number, both ways
    assert upload_bytes(form, ASSIGNMENT, MODEL, halves) == (2 + 4) * N_SENT
    assert download_bytes(form, ASSIGNMENT, MODEL, halves) == 2 * N_RECEIVED + 4 * N_SENT


def test_what_a_device_makes_itself_is_neither_counted_nor_rounded() -> None:
    halves = Compression(download=Encoding(kind="fp16"))
    form = ResidualLoraForm(ranks=RANKS, restarts=True)
    held = ResidualAssignment(
        device_id=5, n_steps=1, batch_size=1, learning_rate=0.1, depth=12, ranks=RANKS, residual_rank=1
    )
    factors_bytes = 4 * 12 * 2 * (768 + 768)
    assert download_bytes(form, held, MODEL, halves) == 2 * MODEL.n_head_parameters + factors_bytes
    server = {**form.initial(MODEL, SEEDS), "head.weight": np.full((4, 3), np.float32(1 / 3))}
    asked = Job(device_id=5, round_index=0, inner_round=0, assignment=held, state=server)
    begun, exact = received(form, asked, halves, SEEDS), form.project(server, held)
    assert [name for name in exact if not np.array_equal(begun[name], exact[name])] == ["head.weight"]

    frozen = LoraForm(ranks=RANKS, trains_a=False)
    begun = received(frozen, job(state()), halves, SEEDS)
    assert all((begun[name] == state()[name]).all() == name.endswith("lora_A") for name in begun)


def test_a_device_begins_with_what_it_reads_of_the_servers_arrays() -> None:
    server = state()
    begun = received(FORM, job(server), Compression(download=Encoding(kind="fp16")), SEEDS)
    exact = FORM.project(server, ASSIGNMENT)
    assert begun.keys() == exact.keys()
    assert all(np.array_equal(begun[name], exact[name].astype(np.float16).astype(np.float32)) for name in exact)


def test_the_server_adds_the_rounded_change_to_its_own_values() -> None:
    server, halves = state(), Compression(upload=Encoding(kind="fp16"), download=Encoding(kind="bf16"))
    update = trained(server, 1e-3)
    begun = received(FORM, job(server), halves, SEEDS)
    got = sent(FORM, job(server), update, halves, SEEDS)
    for name, array in update.payload.items():
        change = (array - begun[name]).astype(np.float16).astype(np.float32)
        assert np.array_equal(got.payload[name], server[name] + change)
    assert got.unsent == {}
    assert (got.n_examples, got.assignment) == (update.n_examples, update.assignment)


def test_without_compression_an_update_is_as_the_device_has_it() -> None:
    update = trained(state(), 1.0)
    assert sent(FORM, job(state()), update, Compression(), SEEDS) is update


@pytest.mark.parametrize("encoding", [Encoding(kind="fp16"), INT8, TOPK, replace(INT8, rounding="nearest")])
def test_what_was_sent_and_what_is_kept_add_up_to_all_changes(encoding: Encoding) -> None:
    """``sum of sent + kept = sum of changes`` (Karimireddy et al. 2019, section 4), round by round."""
    server, feedback = state(), Compression(upload=encoding, error_feedback=True)
    names = trained(server, 1.0).payload.keys()
    changes, arrived = ({name: np.zeros(server[name].shape) for name in names} for _ in range(2))
    unsent: Arrays = {}
    for round_index in range(4):
        update = trained(server, 0.1, seed=round_index)
        got = sent(FORM, job(server, unsent, round_index), update, feedback, SEEDS)
        unsent = got.unsent
        for name in names:
            changes[name] += update.payload[name] - server[name]
            arrived[name] += got.payload[name] - server[name]
        for name in names:
            # Up to the rounding of float32 sums of numbers of the size of the state.
            assert arrived[name] + unsent[name] == pytest.approx(changes[name], abs=1e-5)
    if encoding is TOPK:
        assert any(np.abs(array).max() > 0.1 for array in unsent.values())


def test_what_is_kept_of_arrays_that_a_device_does_not_train_now_waits() -> None:
    server, feedback = state(), Compression(upload=TOPK, error_feedback=True)
    waiting = {"layers.0.query.lora_A": np.ones((2, 768), np.float32)}
    other_shape = {"layers.11.query.lora_A": np.ones((7, 768), np.float32)}
    got = sent(FORM, job(server, {**waiting, **other_shape}), trained(server, 0.1), feedback, SEEDS)
    fresh = sent(FORM, job(server), trained(server, 0.1), feedback, SEEDS)
    assert got.unsent["layers.0.query.lora_A"] is waiting["layers.0.query.lora_A"]
    # Of an array that had another shape nothing is left.
    assert all(np.array_equal(got.payload[name], fresh.payload[name]) for name in fresh.payload)
    assert got.unsent["layers.11.query.lora_A"].shape == (2, 768)


def test_chance_is_that_of_the_job_alone() -> None:
    server, by_chance = state(), Compression(upload=INT8)
    first, again = (sent(FORM, job(server), trained(server, 0.1), by_chance, SEEDS) for _ in range(2))
    other = sent(FORM, job(server, round_index=2), trained(server, 0.1), by_chance, SEEDS)
    assert all(np.array_equal(first.payload[name], again.payload[name]) for name in first.payload)
    assert not all(np.array_equal(first.payload[name], other.payload[name]) for name in first.payload)
