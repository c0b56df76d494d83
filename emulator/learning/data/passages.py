"""Data sets for language models: plain texts, responses to prompts, chats, or questions with options."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.on_disk import rows_of
from emulator.learning.data.owner_column import check_owned, owners_in, read_source
from emulator.learning.data.parts import read_parts
from emulator.learning.data.passage_columns import PassageColumns, Responses, check_answers, columns_of
from emulator.learning.data.segments import Row, response_to, shown_parts
from emulator.learning.data.source import DataSource
from emulator.learning.data.split import at_most, hold_out
from emulator.learning.data.tables import MissingColumnError, shown
from emulator.learning.data.texts import BUILTIN, BUILTIN_TEST, BUILTIN_TRAIN
from emulator.seeds import Seeds
from emulator.shapes.names import BUILTIN_PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class PassageData:
    """Rows of a data set. ``what`` says in words what they are; the rest is as in ``TextData``."""

    train: Sequence[Row]
    test: Sequence[Row]
    train_rows: NDArray[np.int64]
    owners: tuple[str, ...] | None
    what: str
    form: str
    columns: tuple[str, ...]

    def understood(self, source: str) -> dict[str, Any]:
        """What was understood of ``source``, as plain data."""
        given, learnt = shown_parts(self.train[0])
        return {
            "source": source,
            "form": self.form,
            "columns": list(self.columns),
            "n_train": len(self.train),
            "n_test": len(self.test),
            "example": {
                "given": shown(given, 80),
                "learnt": shown(learnt, 80),
            },
        }


def load_responses(data: DataSource, seed: int) -> PassageData:
    """As :func:`load_passages`, for models that read a prompt and answer it.

    Raises:
        DataError: as there, or there are no prompts with responses or options.
    """
    if data.source != BUILTIN:
        check_answers(data)
    return load_passages(data, seed)


def load_passages(data: DataSource, seed: int) -> PassageData:
    """Reads the rows that the columns of ``data`` make.

    Held-out rows are found as for labelled texts (:func:`emulator.learning.data.texts.load_data`).

    Raises:
        DataError: a missing file or column, a cell that cannot be used, no rows, or settings that do not go together.
    """
    seeds = Seeds(seed)
    check_owned(data.source, data.owner_column)
    if data.source == BUILTIN:
        return _builtin(data.n_train or BUILTIN_TRAIN, data.n_test or BUILTIN_TEST, seeds)
    if data.source.startswith(BUILTIN_PREFIX):
        raise DataError(f"data.source: there is no built-in data set {data.source!r}; there is: {BUILTIN}")
    columns = columns_of(data)
    with _named(columns):
        parts = read_source(data.source, columns.wanted, data.layout, data.configuration, data.owner_column)
    train = columns.rows(parts["train"], data.source, "data.source")
    test = next(
        (columns.rows(parts[name], data.source, "data.source") for name in ("test", "validation") if name in parts),
        None,
    )
    if data.test_source is not None:
        with _named(columns):
            key = "data.test_source"
            tests = read_parts(data.test_source, columns.wanted, key, data.layout, data.configuration)
        test = columns.rows(tests.get("test", tests["train"]), data.test_source, "data.test_source")
    kept = np.arange(len(train))
    if test is None:
        kept, held_out = hold_out(
            np.zeros(len(train), dtype=np.int64), data.test_fraction, seeds.rng("data_split"), data.source
        )
        train, test = rows_of(train, kept), rows_of(train, held_out)
    train_rows = _at_most(len(train), data.n_train, seeds.rng("data_train"))
    test_rows = _at_most(len(test), data.n_test, seeds.rng("data_test"))
    return PassageData(
        train=rows_of(train, train_rows),
        test=rows_of(test, test_rows),
        train_rows=kept[train_rows],
        owners=owners_in(parts["train"], data.owner_column, kept[train_rows], data.source),
        what=columns.what,
        form=parts["train"].form,
        columns=tuple(str(name) for name in parts["train"].columns),
    )


def _builtin(n_train: int, n_test: int, seeds: Seeds) -> PassageData:
    """The commands of the built-in task, each with what is to be done as its response."""
    from emulator.learning.builtin import intents

    commands = intents.generate_commands(n_train + n_test, seeds.integer("builtin_data"))
    rows = tuple(response_to(f"{each.text} {intents.CALL} ", each.answer, ends=True) for each in commands)
    return PassageData(
        train=rows[:n_train],
        test=rows[n_train:],
        train_rows=np.arange(n_train),
        owners=None,
        what=Responses.what,
        form="built in",
        columns=(),
    )


@contextmanager
def _named(columns: PassageColumns) -> Iterator[None]:
    """Lets the message about a missing column say by which settings ``columns`` are chosen."""
    try:
        yield
    except MissingColumnError as error:
        raise DataError(f"{error.found}; columns are set by {columns.settings}") from None


def _at_most(n: int, n_most: int | None, rng: np.random.Generator) -> NDArray[np.int64]:
    return at_most(np.zeros(n, dtype=np.int64), n_most, rng)
