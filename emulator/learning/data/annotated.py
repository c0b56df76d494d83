"""Texts, or pairs of them, each with something that is learnt of it: read, held out, and drawn in part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.on_disk import kept_like, rows_of
from emulator.learning.data.owner_column import owners_in, read_source
from emulator.learning.data.parts import read_parts
from emulator.learning.data.source import DataSource
from emulator.learning.data.split import at_most, hold_out
from emulator.learning.data.tables import Column, TextTable, shown
from emulator.learning.data.texts import FEW_TEST_ROWS, TextOrPair, as_one, check_columns, texts_or_pairs
from emulator.seeds import Seeds
from emulator.shapes.names import BUILTIN_PREFIX


@dataclass(frozen=True, slots=True)
class AnnotatedTexts:
    """Rows of a data set: their texts, and what is learnt of each; ``place`` is where the first of them stands."""

    texts: Sequence[TextOrPair]
    values: Sequence[Any]
    place: str

    def of(self, rows: NDArray[np.int64]) -> "AnnotatedTexts":
        """The rows with the given numbers."""
        return AnnotatedTexts(rows_of(self.texts, rows), rows_of(self.values, rows), self.place)


class Meaning(Protocol):
    """What the cells of the label column mean to a kind of task."""

    kind: str

    def value(self, cell: Any) -> Any:
        """What a cell means.

        Raises:
            ValueError: it means nothing; the error says why, as in "has {error} in line 3".
        """
        ...

    def is_hidden(self, values: Sequence[Any]) -> bool:
        """Whether the values of a part for testing are stand-ins, as the hub's benchmarks hide theirs."""
        ...

    def learn(self, train: AnnotatedTexts, where: str) -> None:
        """See all training rows, before any is held out.

        Raises:
            DataError: nothing can be learnt from them.
        """
        ...

    def check(self, test: AnnotatedTexts, where: str) -> None:
        """Refuse rows for testing of which nothing was learnt.

        Raises:
            DataError: there are such.
        """
        ...

    def names(self) -> tuple[str, ...]:
        """What :meth:`strata` number."""
        ...

    def strata(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """``(n,)``, what stands for a label where rows are held out, or spread over devices by their labels."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotated:
    """What was read. ``form`` says in words as what, ``columns`` which columns there are; strata are ``(n,)``.

    ``train_rows (n,)`` are the numbers of the training rows in the source's part for training, from 0, and
    ``owners (n,)`` who owns them, where a column says so.
    """

    train: AnnotatedTexts
    train_strata: NDArray[np.int64]
    train_rows: NDArray[np.int64]
    owners: tuple[str, ...] | None
    test: AnnotatedTexts
    test_strata: NDArray[np.int64]
    strata: tuple[str, ...]
    form: str
    columns: tuple[str, ...]

    def understood(self, source: str) -> dict[str, Any]:
        """What was understood of ``source``, as plain data."""
        first = self.train.texts[0], self.train.values[0]
        return {
            "source": source,
            "form": self.form,
            "columns": list(self.columns),
            "n_train": len(self.train.texts),
            "n_test": len(self.test.texts),
            "example": {"text": shown(as_one(first[0]), 80), "label": shown(str(first[1]), 80)},
        }

    def remarks(self) -> tuple[str, ...]:
        """What somebody who reads the results should know."""
        n_test = len(self.test.texts)
        if n_test >= FEW_TEST_ROWS:
            return ()
        return (f"only {n_test} held-out examples: scores are uncertain",)

    def read_as(self, source: str, what: str) -> tuple[str, ...]:
        """A line about what a user's own data were understood to be; ``what`` the examples are about."""
        counts = f"{len(self.train.texts)} training and {len(self.test.texts)} held-out examples"
        return (f"data: {source} read as {self.form}: {counts} {what}",)


def load_annotated(data: DataSource, meaning: Meaning, seed: int) -> Annotated:
    """Reads texts with what is learnt of them. Held-out rows are found as for labels (``texts.load_data``).

    Raises:
        DataError: a missing file or column, no rows, an empty text, or a cell that means nothing.
    """
    if data.source.startswith(BUILTIN_PREFIX):
        raise DataError(
            f"data.source: {data.source!r} has one label for each text; for task.kind = {meaning.kind!r} give a file "
            "or hub id"
        )
    check_columns(data.text_column, data.label_column, data.text_pair_column)
    seeds, where = Seeds(seed), f"data.source: {data.source!r}"
    parts = read_source(data.source, _wanted(data), data.layout, data.configuration, data.owner_column)
    train, test = _part(parts["train"], data, meaning, where), None
    meaning.learn(train, where)
    if data.test_source is not None:
        where = f"data.test_source: {data.test_source!r}"
        tests = read_parts(data.test_source, _wanted(data), "data.test_source", data.layout, data.configuration)
        test = _part(tests.get("test", tests["train"]), data, meaning, where)
    else:
        named = (_part(parts[name], data, meaning, where) for name in ("test", "validation") if name in parts)
        test = next((part for part in named if not meaning.is_hidden(part.values)), None)
    strata = meaning.strata(train.values)
    kept = np.arange(len(strata))
    if test is None:
        kept, held_out = hold_out(strata, data.test_fraction, seeds.rng("data_split"), data.source)
        train, test, strata = train.of(kept), train.of(held_out), strata[kept]
    else:
        meaning.check(test, where)
    train_rows = at_most(strata, data.n_train, seeds.rng("data_train"))
    test_strata = meaning.strata(test.values)
    test_rows = at_most(test_strata, data.n_test, seeds.rng("data_test"))
    return Annotated(
        train=train.of(train_rows),
        train_strata=strata[train_rows],
        train_rows=kept[train_rows],
        owners=owners_in(parts["train"], data.owner_column, kept[train_rows], data.source),
        test=test.of(test_rows),
        test_strata=test_strata[test_rows],
        strata=meaning.names(),
        form=parts["train"].form,
        columns=tuple(str(name) for name in parts["train"].columns),
    )


def _wanted(data: DataSource) -> tuple[Column, ...]:
    pair = () if data.text_pair_column is None else (data.text_pair_column,)
    return (data.text_column, data.label_column, *pair)


def _part(table: TextTable, data: DataSource, meaning: Meaning, where: str) -> AnnotatedTexts:
    text, label, *pair = _wanted(data)
    texts = texts_or_pairs(table, (text, *pair), where)
    cells = table.values[label]

    def values() -> Iterator[Any]:
        for place, cell in zip(table.places, cells, strict=True):
            try:
                yield meaning.value(cell)
            except ValueError as error:
                raise DataError(
                    f"{where} has {error} in {table.place} {place} of {label!r}; correct or remove such rows"
                ) from None

    return AnnotatedTexts(texts, kept_like(cells, values()), f"{table.place} {table.places[0]}")
