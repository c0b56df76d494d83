"""Pruned LoRA: rows go to their index, bytes and width follow what is kept, in the shapes that are priced."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from emulator.algorithms.aggregation import contributions, weighted_coordinate_mean
from emulator.forms.kept_units import KeptUnits
from emulator.forms.pruned_lora import (
    PrunedLoraAssignment,
    PrunedLoraForm,
    bytes_of_number,
    priced_units,
    pruned_plan,
    width_fraction,
)
from emulator.records import Arrays, Update
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.testing import small_testbed, tiny_model
from emulator.testing.small_world import tiny_state
from policies.fedspine import FedSpine

MODEL = tiny_model(2)  # width 16, 2 heads of 8, 32 channels
EVERY = ("query", "key", "value", "attention_output", "mlp_up", "mlp_down")
FIRST_HEAD = KeptUnits(heads=(b"\1\0", b"\1\1"), channels=(b"\1" * 32, b"\0" * 8 + b"\1" * 24))


def settings(kept: KeptUnits, rank: int = 4, **others: Any) -> PrunedLoraAssignment:
    usual: dict[str, Any] = {"n_steps": 2, "batch_size": 4, "learning_rate": 1e-3, "depth": 2, "device_id": 0}
    return PrunedLoraAssignment(**{**usual, "ranks": (rank, rank), "kept": kept, **others})


def update(form: PrunedLoraForm, state: Arrays, assignment: PrunedLoraAssignment, plus: float, n: int) -> Update:
    payload = {name: array + np.float32(plus) for name, array in form.project(state, assignment).items()}
    return Update(device_id=assignment.device_id, assignment=assignment, payload=payload, n_examples=n, metrics={})


def whole(model: ModelSpec) -> KeptUnits:
    return KeptUnits.all_of(model.n_layers, model.n_kv_heads, model.intermediate_size)


def test_only_what_belongs_to_kept_units_is_shipped() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=EVERY)
    payload = form.project(tiny_state(form, MODEL, Seeds(0)), settings(FIRST_HEAD, rank=3))

    shapes = {name.removeprefix("layers."): array.shape for name, array in payload.items() if "lora_" in name}
    expected = {
        "0.query.lora_A": (3, 16),
        "0.query.lora_B": (8, 3),
        "0.attention_output.lora_A": (3, 8),
        "0.attention_output.lora_B": (16, 3),
        "1.query.lora_B": (16, 3),
        "0.mlp_up.lora_B": (32, 3),
        "1.mlp_up.lora_B": (24, 3),
        "1.mlp_down.lora_A": (3, 24),
        "1.mlp_down.lora_B": (16, 3),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not any(name.endswith("_mask") for name in payload)


def test_an_update_goes_back_to_its_index_and_supports_nothing_else() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=EVERY)
    state = tiny_state(form, MODEL, Seeds(0))
    embedded = form.embed(update(form, state, settings(FIRST_HEAD, rank=3), 1.0, 1), state)

    for name, array in embedded.arrays.items():
        held = embedded.support.get(name, np.ones(array.shape, bool))
        assert np.array_equal(array[held], state[name][held] + 1)
        assert not array[~held].any()
    held = embedded.support["layers.1.mlp_up.lora_B"]
    assert held[8:, :3].all()
    assert held.sum() == 24 * 3


def test_aggregation_by_index_is_the_mean_over_those_who_keep_a_coordinate() -> None:
    form = PrunedLoraForm(ranks=(2, 2))
    state = tiny_state(form, MODEL, Seeds(0))
    channels = (b"\1" * 32,) * 2
    kept = [KeptUnits(heads=heads, channels=channels) for heads in ((b"\1\0",) * 2, (b"\1\1",) * 2)]
    updates = [
        update(form, state, settings(kept[0], rank=2, device_id=0), 1.0, 30),
        update(form, state, settings(kept[1], rank=1, device_id=1), 4.0, 10),
    ]

    merged = weighted_coordinate_mean(state, contributions(form, state, updates))

    change = merged["layers.0.query.lora_B"] - state["layers.0.query.lora_B"]
    assert change[:8, 0] == pytest.approx(np.full(8, (30 * 1 + 10 * 4) / 40), abs=1e-5)  # both
    assert change[8:, 0] == pytest.approx(np.full(8, 4), abs=1e-5)  # the second alone
    assert change[:8, 1] == pytest.approx(np.full(8, 1), abs=1e-5)  # the first alone
    assert change[8:, 1] == pytest.approx(np.zeros(8), abs=0)  # nobody
    assert np.array_equal(merged["layers.0.head_mask"], state["layers.0.head_mask"])


def test_bytes_are_those_of_the_arrays_where_the_priced_model_is_the_trained_one() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=EVERY)
    assignment = settings(FIRST_HEAD, rank=3, importance="gradient")
    payload = form.project(tiny_state(form, MODEL, Seeds(0)), assignment)
    n_bytes = sum(array.nbytes for array in payload.values())

    # a bit for each of 2 + 32 units of 2 layers goes down; a float32 for each comes up
    assert form.download_bytes(assignment, MODEL) == n_bytes + 2 * 5
    assert form.upload_bytes(assignment, MODEL) == n_bytes + 2 * 34 * 4
    assert form.upload_bytes(replace(assignment, importance="none"), MODEL) == n_bytes


def test_another_priced_model_keeps_the_same_shares() -> None:
    priced = replace(MODEL, hidden_size=48, n_heads=6, n_kv_heads=6, intermediate_size=192)
    form = PrunedLoraForm(ranks=(4, 4))
    assignment = settings(FIRST_HEAD, rank=4)

    assert priced_units(FIRST_HEAD, priced) == {"head": [3, 6], "channel": [192, 144]}
    # query and value (48 in, 24 or 48 out), up (48 in, 192 or 144 out); head 16 x 3 + 3
    first, second = 4 * (2 * (48 + 24) + 48 + 192), 4 * (2 * (48 + 48) + 48 + 144)
    assert form.download_bytes(assignment, priced) == 4 * (first + second + 51) + 2 * 25


def test_the_width_is_the_share_of_the_matrices_that_is_left() -> None:
    # a layer has 4 h h of attention and 2 h i of feed-forward: 1024 each at h = 16, i = 32
    assert width_fraction(FIRST_HEAD, MODEL) == (0.5 * 1024 + 1024 + 1024 + 0.75 * 1024) / 4096
    assert width_fraction(whole(MODEL), MODEL) == 1.0
    work = PrunedLoraForm(ranks=(4, 4)).work(settings(FIRST_HEAD), MODEL)
    assert (work.width_fraction, work.backward_layers) == (width_fraction(FIRST_HEAD, MODEL), 2)


def test_half_of_everything_is_a_width_of_one_half_in_any_shapes() -> None:
    half = KeptUnits(heads=(b"\1\0\1\0",) * 12, channels=(b"\1\0" * 128,) * 12)
    roberta = replace(tiny_model(12), hidden_size=768, n_heads=12, n_kv_heads=12, head_size=64, intermediate_size=3072)

    assert width_fraction(half, roberta) == 0.5


def test_heads_that_share_keys_and_values_go_together() -> None:
    grouped = replace(MODEL, n_heads=4, n_kv_heads=2, head_size=4)
    form = PrunedLoraForm(ranks=(4, 4), targets=("query", "value"))
    payload = form.project(form.initial(grouped, Seeds(0)), settings(FIRST_HEAD))

    assert payload["layers.0.query.lora_B"].shape == (8, 4)
    assert payload["layers.0.value.lora_B"].shape == (4, 4)


def test_the_server_starts_with_the_whole_network() -> None:
    state = PrunedLoraForm(ranks=(4, 4)).initial(MODEL, Seeds(0))

    assert KeptUnits.in_state(state) == whole(MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": KeptUnits(heads=(b"\1\1",), channels=(b"\1" * 32,))}, "each of 2 layers which heads are left"),
        ({"kept": KeptUnits(heads=(b"\1\1", b"\0\0"), channels=(b"\1",) * 2)}, "at least one head in layer 1"),
        ({"kept": KeptUnits(heads=(b"\1",) * 2, channels=(b"\1\2",) * 2)}, "at least one channel in layer 0"),
        ({"candidates": 1.5}, r"candidates must be between 0 and 1, or None, got 1\.5"),
        ({"smoothing": 1.0}, r"smoothing must be at least 0 and below 1, got 1\.0"),
        ({"importance": "gradient", "depth": 1}, "depth must be 2 and every rank at least 1, got depth 1"),
    ],
)
def test_impossible_assignments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrunedLoraForm(ranks=(4, 4)).check(replace(settings(whole(MODEL)), **changes), MODEL)


def test_candidates_cost_their_numbers_and_nothing_where_there_are_none() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=("query", "value"))
    silent = settings(whole(MODEL), importance="gradient", candidates=0.0)
    quarter = replace(silent, candidates=0.25)
    roberta = replace(tiny_model(12), hidden_size=768, n_heads=12, n_kv_heads=12, head_size=64, intermediate_size=3072)

    assert form.extra_upload_bytes(silent, MODEL) == 0
    # a quarter of 4 heads and of 64 channels, and one more of each, a byte each
    assert form.extra_upload_bytes(quarter, MODEL) == (1 + 1) + (16 + 1)
    # of 144 heads a byte each, of 36864 channels two
    assert form.extra_upload_bytes(quarter, roberta) == (36 + 1) + 2 * (9216 + 1)
    assert form.extra_upload_bytes(replace(quarter, importance="none"), MODEL) == 0


def test_no_more_units_are_named_than_there_are() -> None:
    every = settings(whole(MODEL), importance="gradient", candidates=1.0)

    assert PrunedLoraForm(ranks=(4, 4)).extra_upload_bytes(every, MODEL) == 4 + 64


@pytest.mark.parametrize(("n_units", "expected"), [(1, 1), (2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3)])
def test_a_number_takes_as_few_bytes_as_tell_units_apart(n_units: int, expected: int) -> None:
    assert bytes_of_number(n_units) == expected


def test_magnitudes_are_the_normalised_sums_over_the_matrices_of_a_unit() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=("query", "value"), magnitude=True)
    rng = np.random.default_rng(0)
    weights = {
        (layer, target): rng.standard_normal(
            (MODEL.matrix(target).out_features, MODEL.matrix(target).in_features)
        ).astype(np.float32)
        for layer, target in form.sites_at_start()
    }

    fitted = form.fitted(form.initial(MODEL, Seeds(0)), weights)

    up = np.abs(weights[1, "mlp_up"]).sum(axis=1)
    down = np.abs(weights[1, "mlp_down"]).sum(axis=0)
    expected = up / np.linalg.norm(up) + down / np.linalg.norm(down)
    assert fitted["layers.1.channel_score"] == pytest.approx(expected, rel=1e-6)
    rows = [np.abs(weights[0, target]).reshape(2, -1).sum(axis=1) for target in ("query", "key", "value")]
    columns = np.abs(weights[0, "attention_output"]).reshape(16, 2, 8).sum(axis=(0, 2))
    assert fitted["layers.0.head_score"] == pytest.approx(
        sum(one / np.linalg.norm(one) for one in [*rows, columns]), rel=1e-6
    )


def test_magnitudes_are_never_shipped() -> None:
    form = PrunedLoraForm(ranks=(4, 4), targets=("query", "value"), magnitude=True)
    state = tiny_state(form, MODEL, Seeds(0))

    assert any(name.endswith("_score") for name in state)
    assert not any(name.endswith("_score") for name in form.project(state, settings(whole(MODEL))))


def test_without_being_asked_for_nobody_looks_at_the_weights() -> None:
    form = PrunedLoraForm(ranks=(4, 4))

    assert form.sites_at_start() == ()
    assert not any(name.endswith("_score") for name in form.initial(MODEL, Seeds(0)))


def test_a_plan_for_all_gives_each_device_the_same_model() -> None:
    view = small_testbed(FedSpine(), n_devices=3, n_layers=2).view()

    plan = pruned_plan(view, 3, FIRST_HEAD)

    assert {device: one.device_id for device, one in plan.assignments.items()} == {0: 0, 1: 1, 2: 2}
    for one in plan.assignments.values():
        assert isinstance(one, PrunedLoraAssignment)
        assert (one.kept, one.ranks) == (FIRST_HEAD, (3, 3))
