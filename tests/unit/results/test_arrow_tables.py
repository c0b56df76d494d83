"""Columns of numpy arrays and lists become Arrow tables, or are refused."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from emulator.records import ActivityKind
from emulator.results.arrow_tables import arrow_table
from emulator.results.schemas import SCHEMAS


def test_numpy_columns_get_the_types_of_the_schema(one_device_columns: dict[str, Any]) -> None:
    table = arrow_table("activities", one_device_columns | {"kind": [ActivityKind.WAIT]})
    assert table.schema.equals(SCHEMAS["activities"], check_metadata=True)
    assert table.to_pylist()[0]["kind"] == "wait"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": ["wait", "wait"]}, "equally long"),
        ({"n_bytes": [1.5]}, r"activities\.n_bytes: cannot be stored as int64"),
        ({"n_bytes": np.array([1.5])}, r"activities\.n_bytes: cannot be stored as int64"),
        ({"device_id": [2**40]}, r"activities\.device_id: cannot be stored as int32"),
        ({"kind": [3]}, r"activities\.kind: cannot be stored as string"),
        ({"energy_j": [float("nan")]}, r"activities\.energy_j: must not be null"),
        ({"colour": ["red"]}, "no such columns: colour"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    one_device_columns: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        arrow_table("activities", one_device_columns | change)


def test_a_missing_column_is_named(one_device_columns: dict[str, Any]) -> None:
    del one_device_columns["kind"]
    with pytest.raises(ValueError, match="missing: kind"):
        arrow_table("activities", one_device_columns)


def test_not_a_number_is_null_where_null_is_allowed(round_tables: Any) -> None:
    table = arrow_table("rounds", round_tables(0)["rounds"] | {"accuracy": np.array([np.nan])})
    assert table["accuracy"].to_pylist() == [None]


@pytest.mark.parametrize(
    "ranks",
    [
        np.array([[1, 2], [3, 4], [5, 6], [7, 8]]),
        [(1, 2), (3, 4), (5, 6), (7, 8)],
        [np.array([1, 2]), np.array([3, 4]), np.array([5, 6]), np.array([7, 8])],
        pa.array([[1, 2], [3, 4], [5, 6], [7, 8]]),
    ],
    ids=["two-dimensional array", "tuples", "arrays", "arrow"],
)
def test_ranks_come_as_any_rows_of_numbers(round_tables: Any, ranks: Any) -> None:
    table = arrow_table("devices", round_tables(0)["devices"] | {"ranks": ranks})
    assert table["ranks"].to_pylist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_equal_metrics_are_stored_alike_whatever_their_order(round_tables: Any) -> None:
    devices = round_tables(0)["devices"]
    forward = arrow_table("devices", devices | {"metrics": [{"a": 1.0, "b": 2.0}] * 4})
    backward = arrow_table("devices", devices | {"metrics": [{"b": 2.0, "a": 1.0}] * 4})
    assert forward.equals(backward)
