"""Reads labelled texts from a file, the hub or the built-in task, and splits them for training and evaluation."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emulator.errors import DataError, did_you_mean
from emulator.seeds import Seeds
from emulator.shapes.names import BUILTIN_PREFIX

Column = str | int
"""A column's name, or its index in a csv or tsv file that has no header line."""

BUILTIN = "builtin:intents"
BUILTIN_TRAIN, BUILTIN_TEST = 8000, 1000
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextData:
    """Labelled texts. Labels are indices into ``label_names``, int64 ``(n,)``."""

    train_texts: tuple[str, ...]
    train_labels: NDArray[np.int64]
    test_texts: tuple[str, ...]
    test_labels: NDArray[np.int64]
    label_names: tuple[str, ...]


def load_data(
    source: str,
    *,
    text_column: Column = "text",
    label_column: Column = "label",
    test_source: str | None = None,
    test_fraction: float = 0.1,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> TextData:
    """Reads a labelled text data set.

    Args:
        source: ``builtin:intents``, a csv, tsv, parquet or jsonl file, or a hub id.
        text_column, label_column: names; or indices, for a csv or tsv file without a header line.
        test_source: a file with the held-out data; without it a hub id's ``test`` (or ``validation``) part is used, and
            otherwise a stratified part of ``source``, drawn from ``seed``.
        test_fraction: size of that part.
        n_train, n_test: at most so many examples, drawn from ``seed`` (for the built-in task: how many are made).
        seed: the run's seed.

    Raises:
        DataError: a missing file or column, no rows, an empty text or label, one that is no plain value, or fewer than
            two labels.
    """
    seeds = Seeds(seed)
    if source == BUILTIN:
        return _builtin(n_train or BUILTIN_TRAIN, n_test or BUILTIN_TEST, seeds)
    if source.startswith(BUILTIN_PREFIX):
        raise DataError(f"data.source: there is no built-in data set {source!r}; there is: {BUILTIN}")
    if not 0 < test_fraction < 1:
        raise DataError(f"data.test_fraction must lie between 0 and 1, got {test_fraction!r}")
    _check_columns(text_column, label_column)
    train, test = _read(source, text_column, label_column, held_out=test_source is None)
    if test_source is not None:
        test, _ = _read(test_source, text_column, label_column, held_out=False, key="data.test_source")
    names = _label_names(train[1], source)
    train_labels = _as_indices(train[1], names, f"data.source: {source!r}")
    if test is None:
        chosen = stratified(train_labels, round(test_fraction * len(train_labels)), seeds.rng("data_split"))
        if len(chosen) == len(train_labels):
            raise DataError(
                f"data.test_fraction: {test_fraction!r} of the {len(train_labels)} rows of {source!r} leaves none for "
                "training; lower it, or give data.test_source"
            )
        test_texts, test_labels = [train[0][row] for row in chosen], train_labels[chosen]
        rest = np.setdiff1d(np.arange(len(train_labels)), chosen)
        train_texts, train_labels = [train[0][row] for row in rest], train_labels[rest]
    else:
        held_out = f"data.source: the held-out part of {source!r}"
        if test_source is not None:
            held_out = f"data.test_source: {test_source!r}"
        test_texts, test_labels = test[0], _as_indices(test[1], names, held_out)
        train_texts = train[0]
    train_rows = at_most(train_labels, n_train, seeds.rng("data_train"))
    test_rows = at_most(test_labels, n_test, seeds.rng("data_test"))
    return TextData(
        train_texts=tuple(train_texts[row] for row in train_rows),
        train_labels=train_labels[train_rows],
        test_texts=tuple(test_texts[row] for row in test_rows),
        test_labels=test_labels[test_rows],
        label_names=names,
    )


Labelled = tuple[list[str], list[str]]
"""Texts and labels as strings, row by row."""


def _builtin(n_train: int, n_test: int, seeds: Seeds) -> TextData:
    from emulator.learning.builtin import intents

    texts, labels = intents.generate(n_train + n_test, seeds.integer("builtin_data"))
    all_labels = np.asarray(labels, dtype=np.int64)
    return TextData(
        train_texts=tuple(texts[:n_train]),
        train_labels=all_labels[:n_train],
        test_texts=tuple(texts[n_train:]),
        test_labels=all_labels[n_train:],
        label_names=tuple(intents.LABELS),
    )


def _check_columns(text: Column, label: Column) -> None:
    for key, column in (("text_column", text), ("label_column", label)):
        if isinstance(column, int) and column < 0:
            raise DataError(f"data.{key}: columns are counted from 0, from the left; got {column!r}")
    if text == label:
        raise DataError(
            f"data.text_column and data.label_column must be two different columns, got {text!r} for both; give the "
            "column that holds the labels as data.label_column"
        )


def _read(
    source: str, text: Column, label: Column, *, held_out: bool, key: str = "data.source"
) -> tuple[Labelled, Labelled | None]:
    """The rows of ``source``, and those that it sets apart for testing itself (a hub data set may)."""
    if Path(source).suffix in SUFFIXES or Path(source).exists():
        return _columns(_read_file(source, text, label, key), text, label, source, key), None
    parts = _read_hub(source)
    names = [name for name in ("test", "validation") if name in parts]
    test = _columns(parts[names[0]], text, label, source) if held_out and names else None
    if test is not None and set(test[1]) <= {"-1"}:  # the hub's benchmarks hide the labels of their test part
        test = _columns(parts[names[1]], text, label, source) if len(names) > 1 else None
    return _columns(parts["train"], text, label, source), test


def _read_file(source: str, text: Column, label: Column, key: str) -> pd.DataFrame:
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{key}: there is no file {source!r}")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{key}: {source!r} has a suffix that is not one of {', '.join(SUFFIXES)}")
    by_index = isinstance(text, int) or isinstance(label, int)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        frame = pd.read_csv(
            path,
            sep="\t" if path.suffix == ".tsv" else ",",
            quoting=csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL,
            header=None if by_index else 0,
            dtype=str,
            keep_default_na=False,  # "null" and "NA" are words
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{key}: cannot read {source!r} as {path.suffix[1:]}: {reason}") from error

    if not isinstance(frame.index, pd.RangeIndex):  # what pandas makes of the fields that have no column
        raise DataError(
            f"{key}: {source!r} has rows with more fields than its header line names; quote texts that contain the "
            "separator"
        )
    return frame


def _read_hub(source: str) -> dict[str, pd.DataFrame]:
    import datasets

    try:
        parts = datasets.load_dataset(source)
    except Exception as error:  # the hub client has no common base class for "not there" and "not reachable"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"data.source: {source!r} is neither a file nor a data set that the hub gives: {reason}; give "
            f"{BUILTIN!r}, a {', '.join(SUFFIXES)} file, or a hub id"
        ) from error
    if "train" not in parts:
        raise DataError(f"data.source: {source!r} has no part 'train'; it has: {', '.join(parts)}")
    frames = {}
    for name, part in parts.items():
        frame = part.to_pandas()
        for column, feature in part.features.items():
            if isinstance(feature, datasets.ClassLabel):
                known = dict(enumerate(feature.names))
                frame[column] = frame[column].map(lambda value, known=known: known.get(value, value))
        frames[str(name)] = frame
    return frames


def _columns(frame: pd.DataFrame, text: Column, label: Column, source: str, setting: str = "data.source") -> Labelled:
    """Texts and labels of ``frame``, which was read from ``source``, the value of ``setting``."""
    if not len(frame):
        raise DataError(f"{setting}: {source!r} has no rows; give a data set with at least one example per label")
    for key, column in (("text_column", text), ("label_column", label)):
        if column not in frame.columns:
            there = ", ".join(str(name) for name in frame.columns)
            hint = did_you_mean(str(column), [str(name) for name in frame.columns])
            where = f"data.{key}" if setting == "data.source" else f"{setting}, data.{key}"
            raise DataError(f"{where}: {source!r} has no column {column!r}{hint or ';'} it has: {there}")
    for column in (text, label):
        _check_plain(frame[column], f"{setting}: {source!r}")
    texts = ["" if pd.isna(value) else str(value) for value in frame[text]]
    empty = next((row for row, value in enumerate(texts) if not value.strip()), None)
    if empty is not None:
        raise DataError(
            f"{setting}: {source!r} has an empty text in row {empty} (counted from 0) of {text!r}; remove such rows"
        )
    labels = ["" if pd.isna(value) else _label_text(value) for value in frame[label]]
    missing = next((row for row, value in enumerate(labels) if not value.strip()), None)
    if missing is not None:
        raise DataError(
            f"{setting}: {source!r} has a missing label in row {missing} (counted from 0) of {label!r}; remove such"
            " rows"
        )
    return texts, labels


def _check_plain(values: "pd.Series[Any]", where: str) -> None:
    """Nested values and bytes have a text of their own in Python, which is never what a data set means."""
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | dict | set | np.ndarray | bytes):
            raise DataError(
                f"{where} has a {type(value).__name__} in row {row} (counted from 0) of {values.name!r}; texts must be "
                "strings, labels strings or numbers"
            )


def _label_text(value: Any) -> str:
    """Labels as text; a whole number that a parser made a float keeps its plain form."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _label_names(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """The distinct labels, numbers in numeric order."""
    names = sorted(set(labels))
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(f"data.source: {source!r} has fewer than two different labels: {', '.join(names)}")
    return tuple(names)


def _as_indices(labels: Sequence[str], names: Sequence[str], where: str) -> NDArray[np.int64]:
    index = {name: position for position, name in enumerate(names)}
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise DataError(f"{where} has labels that no training example has: {', '.join(unknown[:5])}; remove these rows")
    return np.array([index[label] for label in labels], dtype=np.int64)


def at_most(labels: NDArray[np.int64], n_most: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows, or a stratified draw of ``n_most`` of them; in ascending order."""
    if n_most is None or n_most >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, n_most, rng)


def stratified(labels: NDArray[np.int64], n_chosen: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``n_chosen`` (at least 1) rows with the labels in proportion, by largest remainders; in ascending order."""
    n_chosen = min(max(n_chosen, 1), len(labels))
    kinds, counts = np.unique(labels, return_counts=True)
    quotas = n_chosen * counts / len(labels)
    sizes = np.floor(quotas).astype(np.int64)
    sizes[np.argsort(sizes - quotas, kind="stable")[: n_chosen - sizes.sum()]] += 1
    drawn = [rng.permutation(np.flatnonzero(labels == kind))[:size] for kind, size in zip(kinds, sizes, strict=True)]
    return np.sort(np.concatenate(drawn))
