"""Labels as they are written in files, in one form: the same class is the same name in every format."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.tables import shown

_NUMBER = re.compile(r"[+-]?([0-9]{1,15}(\.[0-9]{0,15})?|\.[0-9]{1,15})")
"""As many digits as a float keeps."""
_SCIENTIFIC = re.compile(r"[+-]?[0-9]\.[0-9]{1,18}[eE][+-]?0[0-9]")
"""As numpy's savetxt writes numbers; without a point, as in ``1e5``, it may be a code."""
ROWS_PER_CLASS = 3
"""Fewer rows per class are no classification."""
LONG_LABEL = 40
"""Characters; labels that are as long as the texts, and longer than this, are texts."""


def label_text(value: Any) -> str:
    """The name of a class; empty for a value that is missing.

    Blanks around it do not count. Numbers have their shortest form, so that ``1``, ``1.0`` and ``01`` are one class,
    whatever their type; so do truth values, ``True`` and ``False``, in whatever letters.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str) and value.strip().lower() == "nan":  # as text files write what other formats have as one
        return ""
    if isinstance(value, float | Decimal) and math.isfinite(value):
        exact = Decimal(str(value))
        value = format(exact, "f") if abs(exact) < 10**15 else value
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.capitalize()
    if _NUMBER.fullmatch(text) or _SCIENTIFIC.fullmatch(text):
        number = float(text)
        return str(int(number)) if number.is_integer() else repr(number)
    return text


def label_names(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """The distinct labels, numbers in numeric order.

    Raises:
        DataError: there are fewer than two, or truth values stand beside the numbers that may mean the same.
    """
    names = sorted(set(labels))
    if all(_NUMBER.fullmatch(name) for name in names):
        names.sort(key=float)
    if len(names) < 2:
        raise DataError(f"{where} has fewer than two different labels: {', '.join(map(shown, names))}")
    if {"True", "False"} & set(names) and {"0", "1"} & set(names):
        raise DataError(f"{where} has labels that mix truth values with numbers: {listed(names)}; write one of them")
    return tuple(names)


def check_classes(texts: Sequence[str], labels: Sequence[str], names: Sequence[str], where: str, place: str) -> None:
    """Refuse labels that are no classes.

    Args:
        texts, labels: row by row.
        names: the distinct labels.
        where: with which messages begin.
        place: where the first row stands.

    Raises:
        DataError: there is more than one class for every three rows, or labels are as long as the texts.
    """
    row = f"{place} has the text {shown(texts[0])!r} and the label {shown(labels[0])!r}"
    advice = "; choose data.text_column and data.label_column, or set data.separator, data.quoting or data.header"
    if len(names) > max(2, len(labels) // ROWS_PER_CLASS):
        raise DataError(
            f"{where} has {len(names)} classes in {len(labels)} rows, so that labels are none: {row}{advice}"
        )
    n_label, n_text = (sum(map(len, column)) / len(column) for column in (labels, texts))
    if n_label >= max(n_text, LONG_LABEL):
        raise DataError(f"{where} has labels as long as its texts: {row}{advice}")


def as_indices(labels: Sequence[str], names: Sequence[str], where: str) -> NDArray[np.int64]:
    """Each label's place in ``names``.

    Raises:
        DataError: a label is none of them.
    """
    index = {name: position for position, name in enumerate(names)}
    unknown = sorted(set(labels) - set(names))
    if unknown:
        advice = "remove these rows" if set(labels) & set(names) else "write both in one way"
        raise DataError(
            f"{where} has labels that no training example has: {listed(unknown)}; training examples have: "
            f"{listed(names)}; {advice}"
        )
    return np.array([index[label] for label in labels], dtype=np.int64)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more
