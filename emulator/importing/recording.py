"""What an importer makes of a recording, and how files that others wrote are read."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from device_profiles.text_files import FileError, decoded, lines_of, read_bytes, shortened

MOST_BYTES = 2**29
"""Of a recording; a hundred thousand clients of FedScale's, as JSON, are less."""
MOST_LINES = 5_000_000
MOST_BACKWARD_FRACTION = 0.1
"""With more rows that go back in time, a file holds several recordings, and is not one with a wrong line."""
GAP_STEPS = 10.0
"""Nothing recorded for more than so many median steps is a gap."""

_PICKLES = (".pkl", ".pickle")


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """A trace file that is not written yet.

    Attributes:
        lines: the file's text, with line ends.
        holds: what it is, in one sentence.
        notes: what was met in the recording and by which rule, a sentence each.
    """

    lines: Sequence[str]
    holds: str
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which rows and columns of a table are meant; None takes what the importer knows by name.

    Attributes:
        time: the column of times.
        rate: the column of rates.
        only: a column and the text that rows must have in it; else all rows.
    """

    time: str | None = None
    rate: str | None = None
    only: tuple[str, str] | None = None


ALL_COLUMNS = Columns()


def read_json(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file.

    Raises:
        FileError: it cannot be read, is a pickle, or holds something else.
    """
    content = read_bytes(path, MOST_BYTES)
    if path.suffix.lower() in _PICKLES or content.startswith(b"\x80"):
        raise FileError(
            "is a pickle, which is never loaded here, for it can run any code; if you trust who made it, convert it "
            "where nothing can be harmed, and import the result: python -c 'import json, pickle; json.dump({str(key): "
            'value for key, value in pickle.load(open("FILE", "rb")).items()}, open("NEW.json", "w"), '
            "default=lambda value: value.tolist())'"
        )
    try:
        value = json.loads(decoded(content))
    except ValueError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"is not JSON: {error}") from None
    except RecursionError:
        raise FileError("is nested too deeply to be read") from None
    if not isinstance(value, dict) or not value:
        raise FileError(f"must be a JSON object with an entry for each client, got {shortened(value)}")
    return value


def read_table(path: Path, only: tuple[str, str] | None) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The rows of a CSV file with a header, each with its line's number from 1.

    Raises:
        FileError: it cannot be read, a row has another number of fields, or ``only`` names no column.
    """
    names: list[str] = []
    for number, line in lines_of(path, MOST_LINES, MOST_BYTES):
        fields = [field.strip() for field in next(csv.reader([line]), [])]
        if not any(fields):
            continue
        if not names:
            names = fields
            if only and only[0] not in names:
                raise FileError(f"has no column {only[0]!r}; it has: {', '.join(names)[:200]}")
            continue
        if len(fields) != len(names):
            raise FileError(f"line {number} must have {len(names)} fields as the header has, got {shortened(line)}")
        row = dict(zip(names, fields, strict=True))
        if only is None or row[only[0]] == only[1]:
            yield number, row


def column(row: Mapping[str, str], names: Sequence[str], given: str | None, what: str, option: str) -> str:
    """The column that is ``given``, or else the first of ``names`` that there is.

    Raises:
        FileError: there is none.
    """
    for name in [given] if given else names:
        if name in row:
            return name
    wanted = repr(given) if given else f"of {what} ({', '.join(names)})"
    raise FileError(f"has no column {wanted}; it has: {', '.join(row)[:200]}; name one by {option}")


def seconds(text: str, number: int) -> float:
    """A time in seconds: a number, or a date with a time, in UTC where it names no zone.

    Raises:
        FileError: it is neither; ``number`` is the line.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise FileError(
            f"line {number}: a time must be seconds or a date and time such as 2024-05-01 12:00:00, got {text!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def is_missing(text: str) -> bool:
    """Whether a field says that nothing was recorded."""
    return text.lower() in ("", "nan", "na", "n/a", "null", "none")


def check_finite(value: float, what: str) -> float:
    """``value``.

    Raises:
        FileError: it is not finite.
    """
    if not math.isfinite(value):
        raise FileError(f"{what} must be a finite number, got {value!r}")
    return value
