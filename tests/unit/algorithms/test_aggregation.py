"""Merging: closed forms of the weighted coordinate mean, and which coordinates a group speaks for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emulator.algorithms.aggregation import (
    BLOCK_DEVICES,
    Contribution,
    added,
    block_sums,
    blocks_of,
    contributions,
    group_contribution,
    joint_support,
    mean_of,
    mean_product,
    weighted_coordinate_mean,
    zero_padded_mean,
)
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.records import Update

Array = NDArray[np.float32]


def f32(*values: float) -> Array:
    return np.array(values, np.float32)


def holds(weight: float, values: Array, mask: list[bool] | None = None) -> Contribution:
    return Contribution(weight=weight, arrays={"w": values}, support={"w": np.array(mask)} if mask else {})


def lora_update(device_id: int, rank: int, value: float, n_examples: int) -> Update:
    """An update of one layer of width 2 with one adapted matrix, all of whose numbers are ``value``."""
    assignment = LoraAssignment(device_id=device_id, n_steps=1, batch_size=1, learning_rate=1.0, ranks=(rank,), depth=1)
    payload = {
        "layers.0.query.lora_A": np.full((rank, 2), value, np.float32),
        "layers.0.query.lora_B": np.full((2, rank), value, np.float32),
    }
    return Update(device_id=device_id, assignment=assignment, payload=payload, n_examples=n_examples, metrics={})


LORA_STATE = {
    "layers.0.query.lora_A": np.full((3, 2), 9, np.float32),
    "layers.0.query.lora_B": np.full((2, 3), 9, np.float32),
}
FORM = LoraForm(ranks=(3,), targets=("query",))


def test_a_block_is_a_range_of_device_ids_whoever_is_in_the_cohort() -> None:
    devices = [0, BLOCK_DEVICES - 1, BLOCK_DEVICES, 5 * BLOCK_DEVICES + 1]
    updates = [lora_update(device, 3, 1.0, 1) for device in devices]

    assert blocks_of(updates) == [range(2), range(2, 3), range(3, 4)]
    assert blocks_of([]) == []


def test_within_one_block_sums_give_the_bytes_of_the_flat_mean() -> None:
    updates = [lora_update(device, 1 + device % 3, 0.1 * device, 1 + device) for device in range(80)]
    weights = [float(update.n_examples) for update in updates]
    flat = weighted_coordinate_mean(LORA_STATE, contributions(FORM, LORA_STATE, updates))

    in_blocks = mean_of(LORA_STATE, added(block_sums(FORM, LORA_STATE, updates, weights)))

    assert {name: array.tobytes() for name, array in in_blocks.items()} == {
        name: array.tobytes() for name, array in flat.items()
    }


def test_the_mean_over_blocks_is_that_over_all() -> None:
    # Whole numbers: their sums are exact in any order. Rank 1 leaves two thirds of the coordinates to the others.
    values = {10: 3.0, 200: 5.0, 300: 7.0}
    updates = [lora_update(device, 1 if device == 300 else 3, value, device) for device, value in values.items()]

    mean = mean_of(
        LORA_STATE, added(block_sums(FORM, LORA_STATE, updates, [float(update.n_examples) for update in updates]))
    )

    of_all, of_two = (10 * 3 + 200 * 5 + 300 * 7) / 510, (10 * 3 + 200 * 5) / 210
    expected = np.array([[of_all] * 2, [of_two] * 2, [of_two] * 2], np.float32)
    np.testing.assert_array_equal(mean["layers.0.query.lora_A"], expected)


def test_where_all_hold_everything_the_mean_is_fedavg() -> None:
    # (1 * [2, 4] + 3 * [6, 0]) / (1 + 3) = [5, 1]
    merged = weighted_coordinate_mean({"w": f32(0, 0)}, [holds(1, f32(2, 4)), holds(3, f32(6, 0))])

    assert merged["w"].tolist() == [5, 1]
    assert merged["w"].dtype == np.float32


def test_an_array_is_averaged_over_its_owners_only() -> None:
    state = {"low": f32(7), "high": f32(7)}
    deep = Contribution(weight=2, arrays={"low": f32(1), "high": f32(1)})
    shallow = Contribution(weight=6, arrays={"high": f32(5)})

    merged = weighted_coordinate_mean(state, [deep, shallow])

    # low: 1, from its one owner. high: (2 * 1 + 6 * 5) / 8 = 4.
    assert (merged["low"].tolist(), merged["high"].tolist()) == ([1], [4])


def test_what_nobody_holds_keeps_its_value() -> None:
    state = {"w": f32(3, 4), "unheld": f32(5)}

    merged = weighted_coordinate_mean(state, [holds(2, f32(1, 0), [True, False])])

    assert (merged["w"].tolist(), merged["unheld"].tolist()) == ([1, 4], [5])


def test_without_contributions_the_state_stays_as_it_is() -> None:
    state = {"w": f32(3, 4)}

    assert weighted_coordinate_mean(state, [])["w"].tolist() == [3, 4]


def test_numbers_outside_a_mask_count_for_nothing() -> None:
    merged = weighted_coordinate_mean({"w": f32(0, 0)}, [holds(1, f32(2, 1e9), [True, False]), holds(1, f32(4, 6))])

    # First: (2 + 4) / 2. Second: 6, as the other contributor does not hold it.
    assert merged["w"].tolist() == [3, 6]


def test_a_contributor_without_examples_changes_nothing() -> None:
    assert weighted_coordinate_mean({"w": f32(7)}, [holds(0, f32(1))])["w"].tolist() == [7]


def test_padded_ranks_are_averaged_row_by_row() -> None:
    updates = [lora_update(0, rank=1, value=2, n_examples=1), lora_update(1, rank=2, value=6, n_examples=3)]

    merged = weighted_coordinate_mean(LORA_STATE, contributions(FORM, LORA_STATE, updates))

    # Row 0 is held by both: (1 * 2 + 3 * 6) / 4 = 5; row 1 by the second alone; row 2 by nobody.
    assert merged["layers.0.query.lora_A"].tolist() == [[5, 5], [6, 6], [9, 9]]
    assert merged["layers.0.query.lora_B"].tolist() == [[5, 6, 9], [5, 6, 9]]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-100, 100, width=32)), min_size=1, max_size=8))
def test_a_mean_lies_between_the_least_and_the_greatest(held: list[tuple[int, float]]) -> None:
    merged = weighted_coordinate_mean({"w": f32(0)}, [holds(weight, f32(value)) for weight, value in held])

    values = [value for _, value in held]
    # Rounding to float32 moves a number by at most 2^-24 of its size.
    slack = 100 * 2**-23
    assert min(values) - slack <= merged["w"][0] <= max(values) + slack


def test_sums_run_in_float64() -> None:
    # In float32, 2^24 + 1 = 2^24: a thousand ones behind it would all be lost.
    merged = weighted_coordinate_mean({"w": f32(0)}, [holds(1, f32(2**24)), *[holds(1, f32(1))] * 1000])

    assert merged["w"][0] == np.float32((2**24 + 1000) / 1001)


def test_a_mask_of_everything_counts_like_no_mask_to_the_last_bit() -> None:
    values, others = f32(0.1, -0.7), f32(-0.1 / 3, 0.7 / 3)

    masked = weighted_coordinate_mean({"w": f32(0, 0)}, [holds(13, values, [True, True]), holds(10, others)])
    whole = weighted_coordinate_mean({"w": f32(0, 0)}, [holds(13, values), holds(10, others)])

    assert masked["w"].tobytes() == whole["w"].tobytes()


def test_merging_leaves_its_inputs_alone() -> None:
    state, given_array = {"w": f32(1, 2)}, f32(3, 4)

    weighted_coordinate_mean(state, [holds(1, given_array, [True, False])])

    assert (state["w"].tolist(), given_array.tolist()) == ([1, 2], [3, 4])


def test_joint_support_is_the_union_over_contributors() -> None:
    state = {"w": f32(0, 0, 0), "unheld": f32(0)}
    first, second = holds(1, f32(1, 0, 0), [True, False, False]), holds(1, f32(0, 1, 0), [False, True, False])

    joint = joint_support(state, [first, second])

    assert {name: mask.tolist() for name, mask in joint.items()} == {"w": [True, True, False]}


def test_joint_support_is_everything_where_one_holds_all() -> None:
    joint = joint_support({"w": f32(0, 0)}, [holds(1, f32(1, 0), [True, False]), holds(1, f32(1, 1))])

    assert joint["w"].tolist() == [True, True]


def test_a_group_weighs_as_much_as_its_devices_whatever_its_inner_rounds() -> None:
    updates = [lora_update(device_id, rank=2, value=1, n_examples=5 + device_id) for device_id in (0, 1, 0, 1)]
    after = {name: array + 1 for name, array in LORA_STATE.items()}

    group = group_contribution(FORM, LORA_STATE, after, updates)

    assert group.weight == 5 + 6
    assert group.support["layers.0.query.lora_A"].tolist() == [[True, True], [True, True], [False, False]]
    assert group.arrays["layers.0.query.lora_B"] is after["layers.0.query.lora_B"]


@pytest.mark.parametrize("n_examples", [1, 7])
def test_contributions_weigh_by_examples_and_lie_in_server_coordinates(n_examples: int) -> None:
    [contribution] = contributions(FORM, LORA_STATE, [lora_update(0, rank=1, value=4, n_examples=n_examples)])

    assert contribution.weight == n_examples
    assert contribution.arrays["layers.0.query.lora_A"].tolist() == [[4, 4], [0, 0], [0, 0]]


def test_a_stale_update_is_a_change_to_the_newest_state_with_less_weight() -> None:
    base = {name: array - 1 for name, array in LORA_STATE.items()}
    stale = replace(lora_update(0, rank=1, value=4, n_examples=6), staleness=3, base=base)

    [contribution] = contributions(FORM, LORA_STATE, [stale])

    assert contribution.weight == 6 / 2
    # From a base of one less than the state, a value of 4 is a value of 5.
    assert contribution.arrays["layers.0.query.lora_A"][0].tolist() == [5, 5]
    assert contribution.support["layers.0.query.lora_A"].tolist() == [[True, True], [False, False], [False, False]]


def test_a_zero_padded_mean_counts_what_a_contributor_lacks_as_zeros() -> None:
    state = {"w": f32(7, 7, 7), "unheld": f32(5)}
    whole = holds(1, f32(2, 4, 0), [True, True, False])
    part = holds(3, f32(6, 100, 100), [True, False, False])

    merged = zero_padded_mean(state, [whole, part])

    # (1 * 2 + 3 * 6) / 4 = 5; (1 * 4 + 3 * 0) / 4 = 1; the third number is nobody's.
    assert merged["w"].tolist() == [5, 1, 7]
    assert merged["unheld"].tolist() == [5]


def test_the_mean_product_is_that_of_the_products_whatever_the_ranks() -> None:
    rng = np.random.default_rng(0)
    all_b = [rng.standard_normal((4, rank)).astype(np.float32) for rank in (1, 3, 2)]
    all_a = [rng.standard_normal((rank, 5)).astype(np.float32) for rank in (1, 3, 2)]

    expected = (2 * all_b[0] @ all_a[0] + 3 * all_b[1] @ all_a[1] + 5 * all_b[2] @ all_a[2]) / 10
    assert np.allclose(mean_product([2, 3, 5], all_b, all_a), expected, atol=1e-6)
