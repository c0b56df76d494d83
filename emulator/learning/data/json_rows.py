"""Reads rows from JSON: an object on each line, or one array of objects."""

import io
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from device_profiles.text_files import shortened
from emulator.errors import DataError
from emulator.learning.data.on_disk import DiskRows
from emulator.learning.data.tables import Column, TextTable, missing_column

MOST_COLUMNS = 10_000


def read_json(text: str, where: str, wanted: Sequence[Column], *, is_lines: bool) -> TextTable:
    """The values of the keys ``wanted`` in each object of ``text``; None where an object lacks one.

    Args:
        text: the whole file.
        where: with which messages begin.
        wanted: the keys.
        is_lines: whether each line is an object (``.jsonl``); without, an array is read, too.

    Raises:
        DataError: a line is no JSON object, or no object has such a key.
    """
    is_array = text.lstrip().startswith("[") and _is_one_array(text)
    if is_array and is_lines:
        raise _one_array(where)
    rows = _array(text, where) if is_array else _lines(io.StringIO(text, newline="\n"), where)
    names: dict[str, None] = {}
    places: list[int] = []
    values: dict[Column, list[Any]] = {column: [] for column in wanted}
    for place, row in rows:
        places.append(place)
        if len(names) < MOST_COLUMNS:
            names.update(dict.fromkeys(row))
        for column, own in values.items():
            own.append(row.get(column) if isinstance(column, str) else None)
    for column in wanted:
        if places and column not in names:
            raise missing_column(where, column, tuple(names))
    form = "one JSON array" if is_array else "a JSON object on each line"
    return TextTable(columns=tuple(names), values=values, places=places, place="row" if is_array else "line", form=form)


def stream_json(lines: Iterable[str], where: str, wanted: Sequence[Column]) -> TextTable:
    """As :func:`read_json`, of a file whose ``lines`` are read one by one; the values are kept on disk."""
    names: dict[str, None] = {}
    places = array("q")

    def cells() -> Iterator[tuple[Any, ...]]:
        for place, row in _lines(_no_array(lines, where), where):
            places.append(place)
            if len(names) < MOST_COLUMNS:
                names.update(dict.fromkeys(row))
            yield tuple(row.get(column) if isinstance(column, str) else None for column in wanted)

    rows = DiskRows.of(cells())
    for column in wanted:
        if places and column not in names:
            raise missing_column(where, column, tuple(names))
    values = {column: DiskRows.of(row[number] for row in rows) for number, column in enumerate(wanted)}
    form = "a JSON object on each line"
    return TextTable(columns=tuple(names), values=values, places=places, place="line", form=form)


def _no_array(lines: Iterable[str], where: str) -> Iterator[str]:
    """``lines``, of which the first does not begin an array over several of them."""
    for number, line in enumerate(lines):
        if number == 0 and line.lstrip().startswith("[") and _is_one_array(f"{line}\n[]"):
            raise _one_array(where)
        yield line


def _one_array(where: str) -> DataError:
    return DataError(f"{where} is one JSON array; jsonl has one object on each line: name it .json, or convert it")


def _is_one_array(text: str) -> bool:
    """Whether it is not a list on each line."""
    first = next(line for line in text.splitlines() if line.strip())
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return True
    return first.strip() == text.strip()


def _lines(lines: Iterable[str], where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(_parsed(line, f"{where}: line {number}"), f"{where}: line {number}")


def _array(text: str, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in enumerate(_parsed(text, where), start=1):
        yield number, _object(value, f"{where}: element {number}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is no object with the columns as its keys, got {shortened(value, 40)}")
    return value


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "line" in where.rpartition(": ")[2] else f"line {error.lineno}"
        raise DataError(f"{where} is no JSON ({error.msg}, {place}), got {shortened(text.strip(), 40)}") from None
    except RecursionError:
        raise DataError(f"{where} is nested too deeply to be read") from None
    except ValueError:  # more digits than Python reads
        raise DataError(f"{where} has a number with too many digits to be read") from None
