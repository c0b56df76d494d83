"""Texts with sets of labels: what is read, how it is spread, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.data.label_sets import indicators, load_label_sets
from emulator.learning.data.source import DataSource


def write(path: Path, cells: list[Any]) -> str:
    rows = [{"text": f"text {number} of several words", "label": cell} for number, cell in enumerate(cells)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sets_of(source: str, **changed: Any) -> set[tuple[str, ...]]:
    """All distinct sets of labels that are read, whichever part they are in."""
    read = load_label_sets(DataSource(source=source, **changed), 0)
    return {*read.rows.train.values, *read.rows.test.values}


USUAL: list[Any] = [["joy"], ["anger", "joy"], []] * 8


def test_labels_are_a_list_or_a_text_with_separators(tmp_path: Path) -> None:
    expected = {("joy",), ("anger", "joy"), ()}
    assert sets_of(write(tmp_path / "a.jsonl", USUAL)) == expected
    assert sets_of(write(tmp_path / "b.jsonl", ["joy", "anger, joy", ""] * 8)) == expected
    assert sets_of(write(tmp_path / "c.jsonl", ["joy", "anger | joy", None] * 8), label_separator="|") == expected
    assert sets_of(write(tmp_path / "d.jsonl", ['["joy"]', '["anger", "joy", "joy"]', "[]"] * 8)) == expected
    (tmp_path / "e.csv").write_text("text,label\n" + 'a text,joy\nb text,"anger,joy"\nc text,\n' * 8)
    assert sets_of(str(tmp_path / "e.csv")) == expected


def test_numbers_of_labels_are_in_numeric_order_and_in_one_form(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [[10, 2], ["2.0"], [1]] * 8)

    assert load_label_sets(DataSource(source=source), 0).label_names == ("1", "2", "10")
    assert sets_of(source) == {("10", "2"), ("2",), ("1",)}


def test_a_row_stands_for_the_rarest_of_its_labels(tmp_path: Path) -> None:
    # joy is in 22 rows, anger in 12, fear in 2; two rows have none.
    cells = [["joy"]] * 10 + [["joy", "anger"]] * 12 + [["fear", "anger"]] * 2 + [[]] * 2
    test = write(tmp_path / "test.jsonl", [["joy"], ["joy", "fear", "anger"], []])

    read = load_label_sets(DataSource(source=write(tmp_path / "a.jsonl", cells), test_source=test), 0)

    assert read.label_names == ("anger", "fear", "joy")
    assert read.rows.train_strata.tolist() == [2] * 10 + [0] * 12 + [1] * 2 + [3] * 2
    assert read.rows.test_strata.tolist() == [2, 1, 3]
    assert read.rows.strata == ("anger", "fear", "joy", "without labels")


def test_indicators_tell_which_labels_a_row_has() -> None:
    found = indicators([("b", "a"), (), ("c",)], ("a", "b", "c"))

    assert found.dtype == np.float32
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("joy,,anger", "a label without a name"),
        (["joy", None], "a label without a name"),
        (["joy", ["anger"]], "a list of what is no label"),
        ({"joy": 1}, "a dict for labels"),
        ("['joy', 'anger']", "begins as a list and is none in JSON"),
        (["\ud800"], "half of a character"),
    ],
)
def test_a_cell_that_is_no_set_of_labels_is_named(cell: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        sets_of(write(tmp_path / "a.jsonl", [*USUAL, cell]))

    assert said in str(caught.value)
    assert "in line 25 of 'label'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([["joy"], []] * 8, "fewer than two different labels"),
        ([[]] * 8, "fewer than two different labels"),
        ([[f"label {k}"] for k in range(30)], "has 30 classes in 30 rows"),
    ],
)
def test_labels_of_which_nothing_can_be_learnt_are_refused(cells: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        sets_of(write(tmp_path / "a.jsonl", cells))


def test_a_held_out_label_that_no_training_row_has_is_named(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a.jsonl", USUAL), write(tmp_path / "b.jsonl", [["joy", "fear"]])

    with pytest.raises(DataError, match="labels that no training example has: fear"):
        sets_of(train, test_source=test)
