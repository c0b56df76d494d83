"""A class is one name in every format, and what is lost in a split is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emulator.errors import DataError
from emulator.learning.data.labels import label_text
from emulator.learning.data.split import stratified
from emulator.learning.data.texts import load_data


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((1, 1.0, "1", "1.0", "01", " 1 ", "+1"), "1"),
        ((0, 0.0, "0", "-0"), "0"),
        ((0.5, "0.50", ".5"), "0.5"),
        ((True, "True", "true", "TRUE"), "True"),
        ((None, float("nan"), "", "  "), ""),
        (("a b ", " a b"), "a b"),
        (("1e3",), "1e3"),
    ],
)
def test_one_class_has_one_name(values: tuple[Any, ...], name: str) -> None:
    assert {label_text(value) for value in values} == {name}


def test_train_and_test_files_that_write_numbers_in_two_ways_agree(tmp_path: Path) -> None:
    for name, labels in (("train", ["0", "1"]), ("test", ["0.0", "1.0"])):
        rows = "".join(f"film {i},{labels[i % 2]}\n" for i in range(12))
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{rows}")
    data = load_data(str(tmp_path / "train.csv"), test_source=str(tmp_path / "test.csv"))
    assert data.label_names == ("0", "1")


def test_truth_values_beside_numbers_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"film {i},{[1, 0, 'True'][i % 3]}\n" for i in range(12))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    with pytest.raises(DataError, match="mix truth values with numbers"):
        load_data(str(tmp_path / "a.csv"))


def test_dates_are_texts_in_every_format(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"t {i}" for i in range(12)], "created_at": ["2024-01-01", "1000000000"] * 6})
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "a.csv", index=False)
    found = {load_data(str(tmp_path / f), label_column="created_at").label_names for f in ("a.jsonl", "a.csv")}
    assert found == {("1000000000", "2024-01-01")}


def test_every_class_with_two_rows_is_trained_and_held_out() -> None:
    labels = np.array([0] * 40 + [1] * 40 + [2] * 2)
    held_out = stratified(labels, 8, np.random.default_rng(0), leaves_all=True)
    assert len(held_out) == 8
    assert set(labels[held_out]) == {0, 1, 2} == set(np.delete(labels, held_out))


def test_a_split_that_leaves_nothing_to_evaluate_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nfine,1\npoor,0\n")
    with pytest.raises(DataError, match="leaves none for evaluation, since no class has two; add rows, or give"):
        load_data(str(tmp_path / "a.csv"))


def test_a_class_that_is_lost_is_named(tmp_path: Path) -> None:
    rows = "".join(f"film {i},{'rare' if i == 0 else i % 2}\n" for i in range(40))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}")
    data = load_data(str(tmp_path / "a.csv"))
    assert "no held-out example is of the class rare" in data.remarks
    assert "only 4 held-out examples: accuracy moves in steps of 0.25" in data.remarks


@pytest.mark.parametrize(
    ("written", "name"), [("1.000000000000000000e+00", "1"), ("-2.50e-01", "-0.25"), ("1e5", "1e5")]
)
def test_numbers_as_numpy_writes_them_are_the_same_classes(written: str, name: str) -> None:
    assert label_text(written) == name


def test_nan_is_missing_in_every_format() -> None:
    assert [label_text(value) for value in (None, float("nan"), "nan", " NaN ")] == [""] * 4
