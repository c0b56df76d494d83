"""Reads an availability trace: a Parquet or text file that lists when which device can be reached."""

import math
from collections.abc import Iterable
from pathlib import Path

COLUMNS = ("device_id", "start_s", "end_s")

Row = tuple[str, float, float, float]  # where it stands, and the columns


def read_trace(path: Path) -> dict[int, list[tuple[float, float]]]:
    """The spans of each device, in ascending order; spans that overlap or touch are joined.

    A Parquet file has the columns ``device_id``, ``start_s`` and ``end_s``, in seconds of emulated time from the start
    of the run. A text file has the same on each line, separated by commas or blanks, under a line with these names;
    what follows a ``#`` is left out.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a trace; the message names the file and the row.
    """
    spans: dict[int, list[tuple[float, float]]] = {}
    for where, device_id, start_s, end_s in _parquet_rows(path) if path.suffix == ".parquet" else _text_rows(path):
        if not (device_id >= 0 and device_id == int(device_id)):
            raise ValueError(f"{where}: device_id must be a whole number of at least 0, got {device_id!r}")
        if not 0 <= start_s < end_s < math.inf:
            raise ValueError(f"{where}: start_s must be at least 0 and before end_s, got {start_s!r}, {end_s!r}")
        spans.setdefault(int(device_id), []).append((start_s, end_s))
    if not spans:
        raise ValueError(f"{path}: lists no span of time in which any device can be reached")
    return {device_id: _joined(own) for device_id, own in sorted(spans.items())}


def _joined(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def _parquet_rows(path: Path) -> Iterable[Row]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        table = pq.read_table(path)
    except ArrowException as error:
        raise ValueError(f"{path}: not a Parquet file ({error})") from None
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        raise ValueError(f"{path}: has no column {missing[0]!r}; it has: {', '.join(table.column_names)}")
    columns = [table[name].to_pylist() for name in COLUMNS]
    for number, row in enumerate(zip(*columns, strict=True)):
        yield f"{path}, row {number}", *_numbers(f"{path}, row {number}", row)


def _text_rows(path: Path) -> Iterable[Row]:
    header: list[str] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.partition("#")[0].replace(",", " ").split()
        where = f"{path}, line {number}"
        if not fields:
            continue
        if header is None:
            header = fields
            if sorted(header) != sorted(COLUMNS):
                raise ValueError(f"{where}: must name the columns {', '.join(COLUMNS)}, got {line!r}")
            continue
        if len(fields) != len(header):
            raise ValueError(f"{where}: must have {len(header)} numbers, got {line!r}")
        row = dict(zip(header, fields, strict=True))
        yield where, *_numbers(where, [row[name] for name in COLUMNS])


def _numbers(where: str, values: Iterable[object]) -> tuple[float, float, float]:
    try:
        device_id, start_s, end_s = (float(str(value)) for value in values)
    except ValueError:
        raise ValueError(f"{where}: {', '.join(COLUMNS)} must be numbers, got {values!r}") from None
    return device_id, start_s, end_s
