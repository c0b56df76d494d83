"""A table that a user has: the wanted columns of a file, as they stand there. What they mean is told elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from emulator.errors import DataError, did_you_mean

Column = str | int
"""A column's name, or its number counted from 0 in a text file without a header line."""

MOST_NAMES = 20
"""So many names of columns are said in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLayout:
    """How a file is to be read; None is found out.

    Attributes:
        streams: whether rows are kept on disk in place of memory, and read from it as they are needed.
        header: whether the first line has the names of the columns.
        separator: the character between fields.
        is_quoted: whether quotes enclose fields; without, they are characters like others.
    """

    header: bool | None = None
    separator: str | None = None
    is_quoted: bool | None = None
    streams: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """The wanted columns of a file.

    Attributes:
        columns: the names of all columns, or their numbers where there is no header line.
        values: the cells of the wanted columns, row by row: texts, or what the format has.
        places: of each row, the line of the file on which it begins, or its number from 1 where there are no lines.
        place: which of the two.
        form: what the file was understood to be, in words.
    """

    columns: tuple[Column, ...]
    values: Mapping[Column, Sequence[Any]]
    places: Sequence[int]
    place: Literal["line", "row"]
    form: str


class MissingColumnError(DataError):
    """A table does not have ``column``. ``found`` says so, without the settings by which columns are chosen."""

    def __init__(self, found: str, column: Column | None = None) -> None:
        super().__init__(f"{found}; columns are set by data.text_column and data.label_column")
        self.found, self.column = found, column


class CellError(Exception):
    """A cell cannot be used; ``found`` says what is there, ``remedy`` what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy

    def of(self, source: str, key: str, where: str) -> DataError:
        """What is said of that cell of ``source``, the value of the setting ``key``."""
        return DataError(f"{key}: {source!r} has {self.found} in {where}; {self.remedy}")


def missing_column(where: str, column: Column, there: Sequence[Column], advice: str = "") -> MissingColumnError:
    """The error about a column that a table does not have."""
    names = [str(name) for name in there]
    said = ", ".join(shown(name) for name in names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
    hint = did_you_mean(str(column), [name for name in names if len(name) < 100][:1000])
    found = f"{where} has no column {column!r}{hint or ';'} it has: {said or 'none'}{advice}"
    return MissingColumnError(found, column)


def shown(text: str, most: int = 40) -> str:
    """A text as a message says it: on one line, and not all of a long one."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[:most]}..."
