"""What goes into a checkpoint comes out of it, to the last bit; what cannot is refused by its place."""

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.forms.lora import LoraAssignment
from emulator.records import Group, RoundPlan, Status
from emulator.running.checkpoints.codec import CheckpointError, Encoded, decoded, encoded

MODULES = (__name__.partition(".")[0],)


@dataclass
class Memory:
    seen: dict[int, float] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    mask: Any


def through_json(value: object) -> Any:
    made = encoded(value, "it")
    return decoded(Encoded(json.loads(json.dumps(made.document)), made.arrays), MODULES)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_values_come_back_with_their_types(value: object) -> None:
    found = through_json(value)

    assert found == value
    assert repr(found) == repr(value)  # tells 1 from 1.0 and from True, and -0.0 from 0.0


def test_sets_come_back() -> None:
    assert through_json([{1, 2}, frozenset({("a", 1)})]) == [{1, 2}, frozenset({("a", 1)})]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), -0.0, 5e-324])
def test_every_float_comes_back(value: float) -> None:
    assert repr(through_json(value)) == repr(value)


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8", "float16", "float32", "float64"])
def test_arrays_come_back_in_their_shape_and_kind(dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).T.astype(dtype)  # not contiguous
    for given_array in (array, array[1, 2], np.zeros((0, 3), dtype), np.asarray(array[0, 0])):
        found = through_json({"a": given_array})["a"]
        assert type(found) is type(given_array)
        assert (found.dtype, found.shape) == (given_array.dtype, given_array.shape)
        assert np.array_equal(found, given_array)


def test_records_enums_and_plans_come_back() -> None:
    assignment = LoraAssignment(device_id=3, n_steps=2, batch_size=4, learning_rate=0.1, ranks=(2, 2), depth=1)
    plan = RoundPlan(assignments={3: assignment}, groups=(Group(members=(3,), inner_rounds=2),), deadline_s=1.5)

    assert through_json(plan) == plan
    assert through_json({Status.LATE: Status.OK}) == {Status.LATE: Status.OK}


def test_the_assignments_of_a_round_name_their_fields_once_and_come_back() -> None:
    assignments = {
        device: LoraAssignment(
            device_id=device, n_steps=2, batch_size=4, learning_rate=float("inf"), ranks=(2, device), depth=1
        )
        for device in (3, 1, 2)
    }
    found = through_json(RoundPlan(assignments=assignments))

    assert list(found.assignments.items()) == list(assignments.items())
    assert json.dumps(encoded(assignments, "it").document).count("batch_size") == 1


def test_records_that_hold_what_can_be_changed_hold_it_again() -> None:
    shared = [1]
    found = through_json({"a": Point(0.1, shared), "b": Point(0.2, shared), "c": [shared]})

    assert found["a"].mask is found["b"].mask is found["c"][0]


def test_records_of_two_classes_and_with_fields_that_were_never_set_come_back() -> None:
    group, unset = Group(members=(3,), inner_rounds=2), object.__new__(Point)
    found = through_json([{1: Point(0.1, None), 2: group}, {1: Point(0.1, None), 2: unset}])

    assert found[0] == {1: Point(0.1, None), 2: group}
    assert not hasattr(found[1][2], "x")


def test_a_record_without_a_default_constructor_comes_back() -> None:
    mask = np.array([True, False])
    found = through_json(Point(0.1, mask))

    assert found.x == 0.1
    assert np.array_equal(found.mask, mask)


def test_what_is_one_object_is_one_again() -> None:
    shared, array = Memory({1: 0.5}), np.ones(3)
    one, other, first, second = through_json([shared, shared, {"a": array}, {"b": array}])

    assert one is other
    assert one == shared
    assert first["a"] is second["b"]


def test_mappings_that_cannot_be_changed_become_dicts() -> None:
    assert through_json(MappingProxyType({1: "a"})) == {1: "a"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda: 0, "function"),
        (np.random.default_rng(0), "Generator"),
        (np.array(["a"]), "array of <U1"),
        (1j, "complex"),
    ],
)
def test_what_cannot_be_kept_is_named_with_its_place(value: object, named: str) -> None:
    with pytest.raises(CheckpointError, match=named) as told:
        encoded({"scores": [1, value]}, "mine:Policy")
    assert "mine:Policy['scores'][1]" in str(told.value)


@pytest.mark.parametrize(
    "document",
    [
        {"record": "subprocess:Popen", "fields": {}, "can_change": True},
        {"enum": "os:environ", "name": "PATH"},
        {"record": "emulator.seeds:Seeds.rng", "fields": {}, "can_change": False},
        {"array": "a7"},
        {"strange": 1},
        {"same": 4},
    ],
)
def test_a_document_that_names_what_is_not_known_is_refused(document: Any) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        decoded(Encoded(document, {}))
