"""Texts with numbers: what is read, how it is spread, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.data.numbers import load_numbers
from emulator.learning.data.source import DataSource


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def scored(n: int) -> list[dict[str, Any]]:
    return [{"text": f"text {k}", "label": k / 10} for k in range(n)]


def test_numbers_are_read_whatever_their_form(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,1\ntwo, 2.50 \nthree,-3e-1\nfour,+4\n")

    read = load_numbers(DataSource(source=str(tmp_path / "a.csv"), test_fraction=0.25), 0)

    found = {
        *zip(read.train.texts, read.train.values, strict=True),
        *zip(read.test.texts, read.test.values, strict=True),
    }
    assert found == {("one", 1.0), ("two", 2.5), ("three", -0.3), ("four", 4.0)}
    assert read.understood("a")["n_train"] == 3  # a quarter is held out


def test_pairs_have_one_number(tmp_path: Path) -> None:
    rows = [{"a": f"first {k}", "b": f"second {k}", "label": float(k)} for k in range(12)]
    source = write(tmp_path / "a.jsonl", rows)
    data = DataSource(source=source, text_column="a", text_pair_column="b", test_source=source)

    read = load_numbers(data, 0)

    assert dict(zip(read.train.texts, read.train.values, strict=True)) == {
        (f"first {k}", f"second {k}"): float(k) for k in range(12)
    }


def test_rows_are_told_apart_by_ten_bins_of_as_many_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", scored(200))

    read = load_numbers(DataSource(source=source, test_fraction=0.1), 3)

    # 20 rows in each tenth of the numbers, of which a tenth is held out.
    assert np.bincount(read.train_strata).tolist() == [18] * 10
    assert np.bincount(read.test_strata).tolist() == [2] * 10
    # The tenth of 0.0, 0.1, ..., 19.9 ends before 2.0, and so on.
    assert (read.strata[0], read.strata[1], read.strata[9]) == ("below 2", "2 to 4", "18 or more")
    order = np.argsort(read.train.values)
    assert (np.diff(read.train_strata[order]) >= 0).all()


def test_numbers_that_come_again_and_again_have_fewer_bins(tmp_path: Path) -> None:
    rows = [{"text": f"text {k}", "label": k % 3} for k in range(60)]

    read = load_numbers(DataSource(source=write(tmp_path / "a.jsonl", rows)), 0)

    assert {(value, stratum) for value, stratum in zip(read.train.values, read.train_strata, strict=True)} == {
        (0.0, 0),
        (1.0, 1),
        (2.0, 2),
    }


def test_a_test_source_is_taken_as_it_is(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a.jsonl", scored(30)), write(tmp_path / "b.jsonl", scored(100)[90:])

    read = load_numbers(DataSource(source=train, test_source=test), 0)

    assert len(read.train.texts) == 30
    assert read.test.values == pytest.approx([k / 10 for k in range(90, 100)])


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("high", "'high', which is no number, in line 6 of 'label'"),
        (None, "a missing number in line 6 of 'label'"),
        ("", "a missing number in line 6"),
        ("inf", "'inf', which is no number"),
        (1e31, "which is no number"),
        ("9" * 400, "which is no number"),
        ([1, 2], "a list for a number in line 6"),
        (True, "a bool for a number in line 6"),
    ],
)
def test_a_cell_that_is_no_number_is_named(cell: Any, said: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [*scored(5), {"text": "this", "label": cell}, *scored(5)])

    with pytest.raises(DataError) as caught:
        load_numbers(DataSource(source=source), 0)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [{"text": f"text {k}", "label": 2} for k in range(20)])

    with pytest.raises(DataError, match="has the number 2 in all rows"):
        load_numbers(DataSource(source=source), 0)


def test_the_built_in_task_has_no_numbers() -> None:
    with pytest.raises(DataError, match="has one label for each text; for task"):
        load_numbers(DataSource(source="builtin:intents"), 0)
