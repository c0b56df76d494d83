"""Texts, or pairs of them, each with any number of labels."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.learning.data.annotated import Annotated, AnnotatedTexts, load_annotated
from emulator.learning.data.labels import as_indices, check_classes, label_names, label_text
from emulator.learning.data.on_disk import kept_like
from emulator.learning.data.source import DataSource
from emulator.learning.data.tables import shown
from emulator.learning.data.texts import as_one, is_encodable

Labels = tuple[str, ...]
"""The labels of an example, each once; it may have none."""


class LabelSets:
    """Cells are lists of labels, or texts with a separator between labels; an empty one has none.

    An example's stratum is the rarest of its labels among the training rows, that with the lower number where two are
    as rare; those without labels have one of their own, the last.

    Attributes:
        label_names: the labels of the training rows, in order.
    """

    kind = "multi_label"

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._counts: Counter[str] = Counter()
        self.label_names: tuple[str, ...] = ()

    def value(self, cell: Any) -> Labels:
        labels = [label_text(each) for each in self._listed(cell)]
        if "" in labels:
            raise ValueError(f"a label without a name, got {shown(str(cell))!r},")
        if not all(map(is_encodable, labels)):
            raise ValueError("half of a character (a lone surrogate)")
        return tuple(dict.fromkeys(labels))

    def _listed(self, cell: Any) -> Sequence[Any]:
        if isinstance(cell, list | tuple | np.ndarray):
            if any(isinstance(each, list | tuple | dict | set | np.ndarray | bytes) for each in cell):
                raise ValueError(f"a list of what is no label, got {shown(str(cell))!r},")
            return list(cell)
        if isinstance(cell, dict | set | bytes):
            raise ValueError(f"a {type(cell).__name__} for labels")
        text = label_text(cell)
        if not text:
            return []
        if not text.startswith("["):
            return text.split(self._separator)
        try:
            return self._listed(json.loads(text))
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"{shown(text)!r}, which begins as a list and is none in JSON,") from None

    def is_hidden(self, values: Sequence[Labels]) -> bool:
        return set(values) <= {("-1",)}

    def learn(self, train: AnnotatedTexts, where: str) -> None:
        self._counts = Counter(label for labels in train.values for label in labels)
        self.label_names = label_names(list(self._counts), where)
        joined = [self._separator.join(labels) for labels in train.values]
        check_classes(kept_like(train.texts, map(as_one, train.texts)), joined, self.label_names, where, train.place)

    def check(self, test: AnnotatedTexts, where: str) -> None:
        as_indices([label for labels in test.values for label in labels], self.label_names, where)

    def names(self) -> tuple[str, ...]:
        return (*self.label_names, "without labels")

    def strata(self, values: Sequence[Labels]) -> NDArray[np.int64]:
        order = {name: (self._counts[name], number) for number, name in enumerate(self.label_names)}
        rarest = [min((order[label] for label in labels), default=(0, len(self.label_names))) for labels in values]
        return np.array([number for _, number in rarest], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSetData:
    """Texts with their sets of labels, and the names of all labels."""

    rows: Annotated
    label_names: tuple[str, ...]

    @property
    def train_rows(self) -> NDArray[np.int64]:
        """``(n,)``, the numbers of the training rows in the source's part for training, from 0."""
        return self.rows.train_rows

    @property
    def owners(self) -> tuple[str, ...] | None:
        """``(n,)``, who owns them, where a column says so."""
        return self.rows.owners


def load_label_sets(data: DataSource, seed: int) -> LabelSetData:
    """The texts of ``data`` with their labels.

    Raises:
        DataError: they cannot be read, or there are fewer than two labels, or labels that are no classes.
    """
    meaning = LabelSets(data.label_separator)
    rows = load_annotated(data, meaning, seed)
    return LabelSetData(rows=rows, label_names=meaning.label_names)


def indicators(values: Sequence[Labels], names: Sequence[str]) -> NDArray[np.float32]:
    """``(n, n_labels)``, 1 for each label that an example has."""
    index = {name: number for number, name in enumerate(names)}
    found = np.zeros((len(values), len(names)), dtype=np.float32)
    for row, labels in enumerate(values):
        found[row, [index[label] for label in labels]] = 1.0
    return found
