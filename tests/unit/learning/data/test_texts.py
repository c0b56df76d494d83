"""Every file format reads alike; splits are seeded and stratified; messages name file, column and what there is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emulator.errors import DataError
from emulator.learning.data.texts import TextData, load_data

FRAME = pd.DataFrame({"text": [f"sentence {i}" for i in range(40)], "label": [i % 4 for i in range(40)]})
SECOND = {"csv": "line 3", "tsv": "line 3", "jsonl": "line 2", "parquet": "row 2"}
"""Where the second example stands: lines count the header."""
WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True),
}


def written(suffix: str, folder: Path, frame: pd.DataFrame = FRAME) -> str:
    path = folder / f"data.{suffix}"
    WRITERS[suffix](frame, path)
    return str(path)


def pairs(data: TextData) -> list[tuple[str, str]]:
    train = zip(data.train_texts, data.train_labels, strict=True)
    test = zip(data.test_texts, data.test_labels, strict=True)
    return sorted((text, data.label_names[label]) for text, label in [*train, *test])


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_examples(suffix: str, tmp_path: Path) -> None:
    data = load_data(written(suffix, tmp_path), test_fraction=0.2)
    assert data.label_names == ("0", "1", "2", "3")
    assert pairs(data) == sorted((text, str(label)) for text, label in FRAME.itertuples(index=False))


def test_the_split_is_stratified_and_seeded(tmp_path: Path) -> None:
    source = written("csv", tmp_path)
    first, again, other = (load_data(source, test_fraction=0.3, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.test_labels).tolist() == [3, 3, 3, 3]
    assert first.test_texts == again.test_texts
    assert first.test_texts != other.test_texts


def test_a_tsv_without_header_is_read_by_column_index(tmp_path: Path) -> None:
    path = tmp_path / "data.tsv"
    path.write_text('he said " no\t0\nnull\t1\nNA ok\t1\n')
    data = load_data(str(path), text_column=0, label_column=1, test_source=str(path))
    assert tuple(data.train_texts) == ('he said " no', "null", "NA ok")
    assert data.train_labels.tolist() == [0, 1, 1]


def test_string_labels_are_numbered_in_order(tmp_path: Path) -> None:
    frame = pd.DataFrame({"said": ["a", "b", "c", "d"], "mood": ["sad", "glad", "sad", "glad"]})
    data = load_data(written("jsonl", tmp_path, frame), text_column="said", label_column="mood", test_fraction=0.5)
    assert data.label_names == ("glad", "sad")
    assert dict(pairs(data)) == {"a": "sad", "b": "glad", "c": "sad", "d": "glad"}


def test_numeric_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": list("abcd"), "label": [10, 9, 10, 9]})
    assert load_data(written("parquet", tmp_path, frame), test_fraction=0.5).label_names == ("9", "10")


def test_a_separate_test_file_and_caps_are_honoured(tmp_path: Path) -> None:
    source = written("csv", tmp_path)
    data = load_data(source, test_source=source, n_train=12, n_test=8)
    assert np.bincount(data.train_labels).tolist() == [3, 3, 3, 3]
    assert len(data.test_texts) == 8


def refusal(source: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_data(source, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "there is no file" in refusal(str(tmp_path / "none.csv"))


def test_a_missing_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    message = refusal(written("csv", tmp_path), label_column="labels")
    assert "has no column 'labels'; did you mean label? it has: text, label" in message


def test_a_column_index_needs_a_file_without_header(tmp_path: Path) -> None:
    assert "; it has: text, label" in refusal(written("parquet", tmp_path), text_column=0, label_column=1)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_text_is_refused_with_its_row(suffix: str, tmp_path: Path) -> None:
    frame = FRAME.assign(text=["x", " ", *["y"] * 38])
    assert f"an empty text in {SECOND[suffix]} " in refusal(written(suffix, tmp_path, frame))


def test_a_single_label_is_refused(tmp_path: Path) -> None:
    assert "fewer than two different labels: 7" in refusal(written("csv", tmp_path, FRAME.assign(label=7)))


def test_an_unknown_held_out_label_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    FRAME.assign(label=9).to_csv(other, index=False)
    message = refusal(written("csv", tmp_path), test_source=str(other))
    assert message.startswith(f"data.test_source: {str(other)!r} has labels that no training example has: 9")


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("not parquet")
    assert "cannot be read as parquet" in refusal(str(path))


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.xlsx"
    path.write_text("x")
    assert ".csv, .tsv, .txt, .jsonl, .json, .parquet" in refusal(str(path))


def test_an_unknown_builtin_is_refused() -> None:
    assert "there is: builtin:intents" in refusal("builtin:poems")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_an_impossible_test_fraction_is_refused(fraction: float, tmp_path: Path) -> None:
    assert "data.test_fraction" in refusal(written("csv", tmp_path), test_fraction=fraction)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.csv", ""), ("x.csv", "text,label\n"), ("x.tsv", "text\tlabel\n"), ("x.jsonl", ""), ("x.jsonl", "\n")],
)
def test_a_file_without_rows_is_refused_under_the_setting_that_names_it(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    empty = str(tmp_path / name)
    assert refusal(empty).startswith(f"data.source: {empty!r} has no rows")
    assert refusal(written("csv", tmp_path), test_source=empty).startswith(f"data.test_source: {empty!r} has no rows")


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    assert "has no rows" in refusal(written("parquet", tmp_path, FRAME[:0]))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("cell", "kind"), [(["a"], "(list|ndarray)"), (["a", "b"], "(list|ndarray)"), ({"a": 1}, "dict")]
)
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_nested_value_is_refused_with_its_row(suffix: str, cell: Any, kind: str, column: str, tmp_path: Path) -> None:
    cells = pd.Series([cell if row != 0 else None for row in range(40)], dtype=object)
    message = refusal(written(suffix, tmp_path, FRAME.assign(**{column: cells})))
    assert re.search(f"data.source: .* has a {kind} in (row|line) 2 .*'{column}'", message)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_label_is_refused_with_its_row(suffix: str, tmp_path: Path) -> None:
    frame = FRAME.assign(label=["x", "", *["y"] * 38])
    assert "data.source: " in (message := refusal(written(suffix, tmp_path, frame)))
    assert f"has a missing label in {SECOND[suffix]} " in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\n,1\n", "data.test_source: {path!r} has an empty text in line 2 "),
        ("text,label\na,\n", "data.test_source: {path!r} has a missing label in line 2 "),
        ("text,mood\na,1\n", "data.test_source: {path!r} has no column 'label'"),
        (
            'text,label\n"a,1\n',
            "data.test_source: {path!r}: cannot be read as csv: line 2: a quote is opened and never closed",
        ),
    ],
)
def test_a_refusal_of_the_test_file_names_its_setting(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(content)
    assert refusal(written("csv", tmp_path), test_source=str(path)).startswith(said.format(path=str(path)))


def test_columns_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    source = written("csv", tmp_path)
    assert "must be two different columns, got 'text' for both" in refusal(source, label_column="text")
    assert "data.text_column: columns are counted from 0" in refusal(source, text_column=-1, label_column=1)


def test_rows_with_more_fields_than_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\nyes, no,1\nno, yes,2\n")
    assert "rows with more fields than its header line names" in refusal(str(path))


def test_a_test_part_that_takes_every_row_is_refused(tmp_path: Path) -> None:
    assert "leaves none for training" in refusal(written("csv", tmp_path), test_fraction=0.999)


def test_labels_that_only_look_like_numbers_are_words(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": list("abcd"), "label": ["--1", "9" * 30] * 2})
    assert load_data(written("csv", tmp_path, frame), test_fraction=0.5).label_names == ("--1", "9" * 30)
