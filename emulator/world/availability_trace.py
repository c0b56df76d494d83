"""Reads an availability trace: a Parquet or text file that lists when which device can be reached."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_profiles.text_files import FileError, lines_of, shortened, size_of

COLUMNS = ("device_id", "start_s", "end_s")
MOST_ROWS = 1_000_000
"""Spans of all devices that a trace may list."""
MOST_DEVICES = 2**31
MOST_S = 1e15
"""Later than any clock says, in whatever unit."""

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedSpans:
    """When devices can be reached, in seconds by the trace's own clock.

    Attributes:
        by_device: spans from a start to an end, ascending; those that overlap or touch are joined.
        n_empty: how many rows were left out, since they end as they begin.
    """

    by_device: Mapping[int, Spans]
    n_empty: int


def read_trace(path: Path) -> RecordedSpans:
    """The spans of each device.

    A Parquet file has the columns ``device_id``, ``start_s`` and ``end_s``, in seconds. A text file has the same on
    each line, separated by commas, semicolons or blanks, under a line with these names; what follows a ``#`` is left
    out.

    Raises:
        ValueError: it cannot be read or is not a trace; the message names the file and the line or row, from 1.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    try:
        numbers, values = _parquet_rows(path) if is_parquet else _text_rows(path)
    except FileError as error:
        raise ValueError(f"{path}: {error}") from None
    device_ids, starts_s, ends_s = values
    _check_rows(f"{path}, {'row' if is_parquet else 'line'}", numbers, values)
    is_span = starts_s < ends_s
    if not is_span.any():
        raise ValueError(f"{path}: lists no span of time in which any device can be reached")
    by_device: dict[int, list[tuple[float, float]]] = {}
    order = np.lexsort((ends_s, starts_s, device_ids))
    order = order[is_span[order]]
    rows = zip(device_ids[order].tolist(), starts_s[order].tolist(), ends_s[order].tolist(), strict=True)
    for device_id, start_s, end_s in rows:
        spans = by_device.setdefault(int(device_id), [])
        if spans and start_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end_s))
        else:
            spans.append((start_s, end_s))
    return RecordedSpans(by_device=by_device, n_empty=int((~is_span).sum()))


def _check_rows(where: str, numbers: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    device_ids, starts_s, ends_s = values
    with np.errstate(invalid="ignore"):
        is_id = (device_ids >= 0) & (device_ids < MOST_DEVICES) & (device_ids == np.floor(device_ids))
        is_time = (starts_s >= 0) & (starts_s <= ends_s) & (ends_s <= MOST_S)
    wrong = np.flatnonzero(~(is_id & is_time))
    if not len(wrong):
        return
    row = wrong[0]
    if not is_id[row]:
        raise ValueError(
            f"{where} {numbers[row]}: device_id must be a whole number of at least 0, got {float(device_ids[row])!r}"
        )
    raise ValueError(
        f"{where} {numbers[row]}: start_s must be at least 0 and not after end_s, which must be at most {MOST_S:g}, "
        f"got {float(starts_s[row])!r}, {float(ends_s[row])!r}"
    )


def _parquet_rows(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size_of(path)
    try:
        with pq.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
            if missing := [name for name in COLUMNS if name not in schema.names]:
                raise FileError(f"has no column {missing[0]!r}; it has: {', '.join(schema.names)[:200]}")
            for name in COLUMNS:
                kind = schema.field(name).type
                if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                    raise FileError(f"{name} must be a column of numbers, got {kind}")
            if n_rows > MOST_ROWS:
                raise FileError(f"may list {MOST_ROWS:,} spans, got {n_rows:,}")
            table = file.read(list(COLUMNS))
        columns = [table[name].cast(pa.float64(), safe=False).to_numpy() for name in COLUMNS]
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"not a Parquet file ({shortened(str(error), 200)})") from None
    # A number that is missing is none, which no column may have.
    return np.arange(1, table.num_rows + 1), np.array(columns, dtype=np.float64).reshape(3, -1)


def _text_rows(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order: list[int] = []
    numbers, values = array("q"), array("d")
    for number, line in lines_of(path, MOST_ROWS):
        fields = line.partition("#")[0].translate(_SEPARATORS).split()
        if not fields:
            continue
        if not order:
            if sorted(fields) != sorted(COLUMNS):
                names = ", ".join(COLUMNS)
                raise ValueError(f"{path}, line {number}: must name the columns {names}, got {shortened(line)}")
            order = [fields.index(name) for name in COLUMNS]
            continue
        if len(fields) != len(COLUMNS):
            raise ValueError(f"{path}, line {number}: must have {len(COLUMNS)} numbers, got {shortened(line)}")
        try:
            values.extend([float(fields[place]) for place in order])
        except ValueError:
            names = ", ".join(COLUMNS)
            raise ValueError(f"{path}, line {number}: {names} must be numbers, got {shortened(line)}") from None
        numbers.append(number)
    return np.array(numbers, dtype=np.int64), np.array(values, dtype=np.float64).reshape(-1, 3).T


_SEPARATORS = str.maketrans({",": " ", ";": " ", '"': " "})
