"""Multiple choice: questions with options, of which one is the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.learning.data.tables import CellError, shown

FIRST_LETTER = ord("A")


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked, as the model reads it, and the options; ``answer`` is the number of the right one, from 0."""

    given: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionRows:
    """Of rows that are each an option of a choice, ``(n,)``: whose, whether it is the answer, and how long it is.

    ``n_characters`` counts those of the option itself, without a blank before it.
    """

    choice: NDArray[np.int64]
    is_answer: NDArray[np.bool_]
    n_characters: NDArray[np.int64]

    def of(self, rows: NDArray[np.int64]) -> "OptionRows":
        """Those of the given rows."""
        return OptionRows(
            choice=self.choice[rows], is_answer=self.is_answer[rows], n_characters=self.n_characters[rows]
        )


def option_rows(choices: Sequence[Choice]) -> OptionRows:
    """All options of ``choices``, one after another."""
    every = [(row, number) for row, choice in enumerate(choices) for number in range(len(choice.options))]
    return OptionRows(
        choice=np.array([row for row, _ in every], dtype=np.int64),
        is_answer=np.array([choices[row].answer == number for row, number in every]),
        n_characters=np.array([len(choices[row].options[number]) for row, number in every], dtype=np.int64),
    )


def options_of(cell: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options of a cell, a list of texts or ``{text: [...], label: [...]}`` as ARC has it, and their labels.

    Raises:
        CellError: it is neither, or there are fewer than two.
    """
    labels: Sequence[Any] = ()
    if isinstance(cell, Mapping) and isinstance(cell.get("text"), list | tuple):
        labels, cell = cell.get("label") or (), cell["text"]
        if labels and len(labels) != len(cell):
            raise CellError(f"{len(cell)} options with {len(labels)} labels", "give each option its label")
    if not isinstance(cell, list | tuple):
        kind = "no options" if cell is None else f"a {type(cell).__name__} that is no list of options"
        raise CellError(kind, "give a list of texts, in a jsonl, json or parquet file, or a column for each option")
    if len(cell) < 2:
        number = "one option" if cell else "no options"
        raise CellError(f"an option list with {number}", "a choice needs two or more; remove such rows")
    if not all(isinstance(each, str | int | float) and str(each).strip() for each in cell):
        raise CellError("an option that is empty or no text", "options must be strings; remove such rows")
    return tuple(map(str, cell)), tuple(map(str, labels))


def answer_of(cell: Any, options: Sequence[str], labels: Sequence[str] = ()) -> int:
    """Which of ``options`` is meant: by its label, its text, its number from 0, or its letter from A.

    Raises:
        CellError: none of them is.
    """
    text = "" if cell is None else str(cell).strip()
    for names in (labels, [option.strip() for option in options]):
        if text in names:
            return list(names).index(text)
    if isinstance(cell, bool | int):
        number = int(cell)
    elif text.isdecimal():
        number = int(text)
    else:
        number = ord(text.upper()) - FIRST_LETTER if len(text) == 1 and not labels else -1
    if labels or not 0 <= number < len(options):
        allowed = ", ".join(shown(name, 20) for name in (labels or options))
        raise CellError(
            f"the answer {shown(text)!r}, which is none of its {len(options)} options",
            f"give one of {allowed}" + ("" if labels else f", its number from 0 to {len(options) - 1}, or its letter"),
        )
    return number


def choice_of(given: str, cell: Any, answer: Any) -> Choice:
    """A choice from the cells of its options and of its answer.

    Raises:
        CellError: there are fewer than two options, or the answer is none of them.
    """
    options, labels = options_of(cell)
    return Choice(given, options, answer_of(answer, options, labels))
