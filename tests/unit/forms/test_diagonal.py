"""Adapters with a diagonal: what masks leave of payloads, bytes and work."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm, KeptRanks
from emulator.records import Update
from emulator.seeds import Seeds
from emulator.shapes.catalog import model_spec
from emulator.testing import tiny_model
from emulator.testing.small_world import tiny_state
from emulator.world.price.memory import peak_memory
from emulator.world.price.step_kinds import step_of

FORM = DiagonalLoraForm(rank=4)
MODEL = tiny_model(3)
ALL: KeptRanks = (((0, 1, 2, 3), (0, 1, 2, 3)),) * 3
SOME: KeptRanks = (((), ()), ((1, 3), ()), ((0, 1, 2, 3), (2,)))


def assignment(kept: KeptRanks, **other: Any) -> DiagonalAssignment:
    return DiagonalAssignment(device_id=0, n_steps=1, batch_size=2, learning_rate=0.1, kept=kept, **other)


def update(payload: Mapping[str, np.ndarray], kept: KeptRanks) -> Update:
    return Update(device_id=0, assignment=assignment(kept), payload=payload, n_examples=1, metrics={})


def test_a_and_b_start_alike_and_the_diagonal_at_zero() -> None:
    model = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
    state = DiagonalLoraForm(rank=12).initial(model, Seeds(0))
    for matrix, shape in (("lora_A", (12, 768)), ("lora_B", (768, 12)), ("lora_E", (12, 1))):
        assert {array.shape for name, array in state.items() if name.endswith(matrix)} == {shape}
    for matrix in ("lora_A", "lora_B"):
        drawn = np.concatenate([array.ravel() for name, array in state.items() if name.endswith(matrix)])
        # 221,184 draws: the deviation is known to 0.15 %, the mean to 0.00004
        assert drawn.std() == pytest.approx(0.02, rel=0.01)
        assert abs(drawn.mean()) < 0.0002
    assert not any(array.any() for name, array in state.items() if name.endswith("lora_E"))


@pytest.mark.parametrize("name", ["bert-base", "roberta-large"])
def test_a_start_by_width_has_rows_of_adaloras_norm_at_every_width(name: str) -> None:
    model = model_spec(name, n_labels=2, seq_len=128, head="output")
    state = DiagonalLoraForm(rank=12, start="width", targets=("query", "mlp_up")).initial(model, Seeds(0))
    for matrix, axis in (("lora_A", 1), ("lora_B", 0)):
        norms = [np.linalg.norm(array, axis=axis) for place, array in state.items() if place.endswith(matrix)]
        # 0.02 · sqrt(768), known to 0.1 % from a few hundred rows of some hundred numbers each
        assert np.concatenate(norms).mean() == pytest.approx(0.02 * 768**0.5, rel=0.005)


def test_a_start_by_width_is_the_fixed_one_at_adaloras_width() -> None:
    model = model_spec("bert-base", n_labels=2, seq_len=128, head="output")
    fixed, by_width = (DiagonalLoraForm(rank=2, start=start).initial(model, Seeds(0)) for start in ("fixed", "width"))
    assert all(np.array_equal(fixed[name], by_width[name]) for name in fixed)


def test_an_orthonormal_start_is_where_the_regulariser_is_zero() -> None:
    state = DiagonalLoraForm(rank=4, start="orthonormal", targets=("query", "mlp_up")).initial(MODEL, Seeds(0))
    for name, array in state.items():
        if name.endswith(("lora_A", "lora_B")):
            own = array.astype(float) if name.endswith("A") else array.astype(float).T
            assert own @ own.T == pytest.approx(np.eye(4), abs=1e-6)


def test_a_device_holds_the_kept_ranks_close_together_and_they_return_to_their_places() -> None:
    state = tiny_state(FORM, MODEL, Seeds(0))
    payload = FORM.project(state, assignment(SOME))
    assert not any(name.startswith("layers.0") for name in payload)
    assert (payload["layers.1.query.lora_A"] == state["layers.1.query.lora_A"][[1, 3]]).all()
    assert (payload["layers.1.query.lora_B"] == state["layers.1.query.lora_B"][:, [1, 3]]).all()
    assert (payload["layers.2.value.lora_E"] == state["layers.2.value.lora_E"][[2]]).all()
    embedded = FORM.embed(update(payload, SOME), state)
    assert set(embedded.arrays) == set(payload)
    for name, array in embedded.arrays.items():
        held = np.broadcast_to(embedded.support.get(name, np.True_), array.shape)
        assert (array[held] == state[name][held]).all()
        assert held.sum() == payload[name].size


def test_bytes_are_those_of_the_kept_ranks_and_a_bit_for_each_rank() -> None:
    held = assignment(SOME, n_votes=5)
    # 7 ranks of 16 inputs, 16 outputs and a number of E each; a head of 3 · 16 + 3
    arrays = 4 * (7 * (16 + 16 + 1) + 51)
    assert FORM.download_bytes(held, MODEL) == arrays + 3  # 24 ranks
    assert FORM.upload_bytes(held, MODEL) == arrays + 1  # 7 ranks that are voted on
    assert FORM.upload_bytes(assignment(SOME), MODEL) == arrays  # no vote
    whole = assignment(ALL)
    assert FORM.download_bytes(whole, MODEL) == 4 * (24 * 33 + 51)  # nothing is switched off: nothing to tell


def test_a_layer_without_ranks_ends_the_backward_pass_above_it() -> None:
    assert assignment(ALL).backward_layers == 3
    work = FORM.work(assignment(SOME), MODEL)
    assert (work.backward_layers, work.adapters.ranks) == (2, (0, 2, 4))
    held = [{adapter.place: rank for adapter, rank in layer} for layer in work.adapters.layers]
    assert held == [{}, {"query": 2}, {"query": 4, "value": 1}]
    assert FORM.work(assignment((((), ()),) * 3), MODEL).backward_layers == 0


def test_time_and_memory_fall_when_the_lowest_layers_lose_their_ranks() -> None:
    model = model_spec("roberta-base", n_labels=2, seq_len=128, head="output")
    form = DiagonalLoraForm(rank=4)
    rank: tuple[int, ...] = (0,)
    all_layers, top = ((rank, rank),) * 12, (((), ()),) * 6 + ((rank, rank),) * 6
    long, short = (form.work(assignment(kept), model) for kept in (all_layers, top))
    # without ranks in the lower half, about half of the backward pass and of what is kept for it is left
    ratio = step_of(model, short, "fp32").demand().backward_flop / step_of(model, long, "fp32").demand().backward_flop
    assert ratio == pytest.approx(0.5, abs=0.05)
    kept_bytes = [peak_memory(model, work, "fp32").activations_bytes for work in (short, long)]
    assert kept_bytes[0] / kept_bytes[1] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kept": SOME[:2]}, "kept must have 3 layers with 2 matrices each"),
        ({"kept": (((0, 4), ()), *SOME[1:])}, r"ranks kept at layer 0 must be ascending .* 0 to 3, got \(0, 4\)"),
        ({"kept": (((1, 0), ()), *SOME[1:])}, r"got \(1, 0\)"),
        ({"kept": SOME, "n_votes": 8}, "n_votes must be between 0 and the 7 ranks kept, got 8"),
    ],
)
def test_impossible_assignments_are_refused(given: dict[str, Any], message: str) -> None:
    FORM.check(assignment(SOME, n_votes=7), MODEL)
    with pytest.raises(ValueError, match=message):
        FORM.check(assignment(**given), MODEL)
