"""Partitions that the data bring: owners stay whole, and what a file says holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import DataError, ShortageError
from emulator.learning.data import parts
from emulator.learning.data.owner_column import owners_in, read_source
from emulator.learning.data.owners import read_given, whole_owners
from emulator.learning.data.reading import read_table
from emulator.learning.data.source import DataSource
from emulator.learning.data.tables import Column, FileLayout, TextTable
from emulator.learning.host import imported
from emulator.objective.base import Objective
from emulator.objective.causal import Causal
from emulator.objective.classification import Classification
from emulator.objective.multi_label import MultiLabel
from emulator.objective.regression import Regression


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(1, 10), st.integers(0, 30), st.integers(0, 2**32))
def test_owners_stay_whole_and_their_numbers_differ_by_at_most_one(n_devices: int, n_more: int, seed: int) -> None:
    n_owners = n_devices + n_more
    owners = rng(seed).permutation(np.concatenate([np.arange(n_owners), rng(seed).integers(0, n_owners, 50)])).tolist()
    parts = whole_owners([str(owner) for owner in owners], n_devices, 1, rng(seed))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(owners)))
    held = [{owners[row] for row in part} for part in parts]
    assert sum(map(len, held)) == n_owners  # nobody is held twice
    assert max(map(len, held)) - min(map(len, held)) <= 1


def test_fewer_owners_than_devices_are_refused() -> None:
    with pytest.raises(ShortageError, match=r"2 owners cannot be shared out among 3 devices, since .* never split"):
        whole_owners(["a", "b", "a", "b"], 3, 1, rng())


def test_a_device_below_the_minimum_takes_the_smallest_owner_of_the_richest() -> None:
    # Four owners on two devices: whoever holds the two of one row takes the 5 rows of c or d.
    owners = ["a", "b"] + ["c"] * 5 + ["d"] * 6
    for seed in range(20):
        parts = whole_owners(owners, 2, 3, rng(seed))
        assert min(map(len, parts)) >= 3
        held = [{owners[row] for row in part} for part in parts]
        assert held[0] | held[1] == set("abcd")
        assert not held[0] & held[1]


def test_owners_that_leave_no_way_to_the_minimum_are_refused() -> None:
    with pytest.raises(
        ShortageError, match=r"data.partition.min_examples: owners cannot be shared out so that each of"
    ):
        whole_owners(["a"] * 10 + ["b"], 2, 2, rng())


def table(path: Path, **columns: list[object]) -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def read_owners(
    source: str, column: Column, rows: list[int], texts: Column = "text", labels: Column = "label"
) -> object:
    found = read_source(source, (texts, labels), FileLayout(), None, column)
    return owners_in(found["train"], column, np.array(rows), source)


def test_owners_are_those_of_the_rows_that_are_trained_on(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", text=list("abcd"), label=[0, 1, 0, 1], who=["x", "y", "z", "x"])
    assert read_owners(source, "who", [3, 1]) == ("x", "y")


def test_owners_may_be_found_by_number_where_texts_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,0,x\ntwo,1,y\n")
    source = str(tmp_path / "a.csv")
    assert read_owners(source, 2, [0, 1], 0, 1) == ("x", "y")
    with pytest.raises(DataError, match="both columns by name, or both by number"):
        read_owners(source, "who", [0, 1], 0, 1)


def test_an_empty_owner_says_its_line(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", text=list("abc"), label=[0, 1, 0], who=["x", " ", "z"])
    with pytest.raises(DataError, match="has an empty owner in line 3 of 'who'"):
        read_owners(source, "who", [0, 1, 2])


def test_a_missing_column_is_told_with_its_setting(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", text=list("ab"), label=[0, 1], user=["x", "y"])
    with pytest.raises(DataError, match=r"no column 'users'; did you mean user\?.* set by data.partition.column"):
        read_owners(source, "users", [0, 1])


def test_built_in_texts_have_no_owners() -> None:
    with pytest.raises(DataError, match=r"data.partition.column: 'builtin:intents' has no columns"):
        DataSource(source="builtin:intents", owner_column="user").load(0)


@pytest.mark.parametrize(
    "objective", [Classification(), MultiLabel(), Regression(), Causal()], ids=lambda one: one.kind
)
def test_owners_come_with_the_texts_and_the_source_is_read_once(
    objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": [f"text {row}" for row in range(40)], "label": [row % 4 for row in range(40)]}
    source = table(tmp_path / "a.csv", **rows, who=[f"owner {row}" for row in range(40)])
    opened: list[str] = []

    def counted(path: Path, *arguments: Any) -> TextTable:
        opened.append(path.name)
        return read_table(path, *arguments)

    monkeypatch.setattr(parts, "read_table", counted)
    data = DataSource(source=source, owner_column="who", n_train=20)
    read = imported(objective.learning)(objective).read(data, seed=3)
    assert opened == ["a.csv"]
    assert len(read.train_rows) == 20
    assert read.owners == tuple(f"owner {row}" for row in read.train_rows)


def test_a_file_gives_rows_to_devices_by_their_number_in_the_source(tmp_path: Path) -> None:
    file = table(tmp_path / "given.csv", row=[0, 1, 2, 3, 4], device=[1, 0, 1, 1, 0])
    parts = read_given(file, np.array([1, 2, 4]), 2, 1)  # rows 0 and 3 are held out
    assert [part.tolist() for part in parts] == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("rows", "devices", "message"),
    [
        ([0, 1], [0, 2], "names device 2 in line 3, and the run has the devices 0 to 1"),
        ([0, 1], [0, -1], "line 3: a device is a whole number from 0, got '-1'"),
        ([0, "x"], [0, 1], "line 3: a row is a whole number from 0, got 'x'"),
        ([0, 0], [0, 1], "has row 0 a second time in line 3"),
        ([0, 2], [0, 1], "gives row 1 of data.source to no device"),
        ([0, 1], [1, 1], "gives device 0 0 of the rows that are trained on, each device needs at least 1"),
    ],
)
def test_a_file_that_gives_what_there_is_not_is_refused(
    tmp_path: Path, rows: list[object], devices: list[object], message: str
) -> None:
    file = table(tmp_path / "given.csv", row=rows, device=devices)
    with pytest.raises(DataError, match=message):
        read_given(file, np.array([0, 1]), 2, 1)


def test_a_file_that_is_not_there_or_lacks_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.partition.file: there is no file"):
        read_given(str(tmp_path / "none.csv"), np.arange(2), 2, 1)
    with pytest.raises(DataError, match=r"no column 'device'.*it needs the columns row and device"):
        read_given(table(tmp_path / "a.csv", row=[0], owner=[1]), np.arange(1), 1, 1)
