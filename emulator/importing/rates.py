"""Recorded rates as the text of a trace link: seconds and Mb/s, ``format = "time_rate"``."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.trace_files import MAHIMAHI_PACKET_BYTES, MOST_STEPS
from device_profiles.text_files import FileError, lines_of, shortened
from emulator.importing.recording import (
    ALL_COLUMNS,
    GAP_STEPS,
    MOST_BACKWARD_FRACTION,
    MOST_BYTES,
    MOST_LINES,
    Columns,
    Imported,
    check_finite,
    column,
    is_missing,
    read_table,
    seconds,
)

UNITS = {"b/s": 1e-6, "kb/s": 1e-3, "Mb/s": 1.0, "Gb/s": 1e3, "B/s": 8e-6, "kB/s": 8e-3, "MB/s": 8.0}
"""Mb/s in each unit of a rate: b is a bit, B a byte, k a thousand."""
TIME_COLUMNS = ("time", "timestamp", "time_s", "seconds", "dtime", "seq_num", "Timestamp")
"""By which names published logs have their times: 5G logs, FCC's (dtime), Lumos5G's (seq_num)."""
RATE_COLUMNS = {
    "bytes_sec": "B/s",  # FCC, Measuring Broadband America
    "net_usage_in": "B/s",  # CoLExT, hw_metrics.csv
    "net_usage_out": "B/s",
    "Throughput": "Mb/s",  # Lumos5G
    "throughput": "Mb/s",
    "throughput_mbps": "Mb/s",
    "rate_mbps": "Mb/s",
    "mbps": "Mb/s",
}
"""The unit in which a published log has the column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """Rows as recorded: times in seconds and rates in the file's unit, shape ``(n,)``."""

    time_s: NDArray[np.float64]
    rate: NDArray[np.float64]
    n_missing: int


def import_mahimahi(path: Path, window_s: float) -> Imported:
    """Mahimahi's times in ms at which 1500 bytes can pass (Netravali et al., USENIX ATC 2015), over windows.

    Raises:
        FileError: it is no such file, or comes to too many windows or to less than two.
    """
    times = array("q")
    n_backward = 0
    for number, line in lines_of(path, MOST_LINES, MOST_BYTES):
        if not (text := line.strip()):
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise FileError(f"line {number} must be a whole number of milliseconds, got {shortened(line)}")
        if times and int(text) < times[-1]:
            n_backward += 1
        else:
            times.append(int(text))
    _check_backward(n_backward, len(times) + n_backward)
    if not times:
        raise FileError("must have at least one line of a whole number of milliseconds")
    window_ms = 1e3 * window_s
    n_windows = int(np.ceil(times[-1] / window_ms - 1e-9))
    _check_number(n_windows, "windows", "make --window-s larger")
    windows = np.minimum((np.frombuffer(times, np.int64) / window_ms + 1e-9).astype(np.int64), n_windows - 1)
    delivered_bytes = MAHIMAHI_PACKET_BYTES * np.bincount(windows, minlength=n_windows)
    rate: NDArray[np.float64] = np.asarray(delivered_bytes * 8e-6 / window_s, dtype=np.float64)
    notes = [
        f"units: each line lets {MAHIMAHI_PACKET_BYTES} bytes pass; rates hold for {window_s:g} s",
        *_notes_of_backward(n_backward),
        "gaps: where no line is, nothing can pass, which is a rate of 0",
        *_notes_of_zeros(rate),
        f"end: the recording's {times[-1] / 1e3:,.10g} s are filled up to whole windows",
    ]
    return _imported(window_s * np.arange(n_windows, dtype=np.float64), rate, notes)


def import_throughput(path: Path, columns: Columns, unit: str | None) -> Imported:
    """A log of times and rates: two columns of text as Pensieve's traces, or a CSV file with a header.

    ``unit`` is one of :data:`UNITS`; without it, that of the published log which has a column of that name, and Mb/s in
    a file of two columns.

    Raises:
        FileError: it is no such log, a rate is negative, or what is left of it is too little.
    """
    headless = _without_header(path)
    rows, known_unit = _two_columns(path) if headless else _csv_rows(path, columns)
    if headless and columns != ALL_COLUMNS:
        raise FileError("has no header, so that --time-column, --rate-column and --only mean nothing; leave them out")
    if (said := unit or known_unit) is None:
        raise FileError(f"does not say the unit of its rates; name it by --unit, one of {', '.join(UNITS)}")
    rate = rows.rate * UNITS[said]
    time_s, rate, notes = _cleaned(rows, rate)
    where = "as given" if unit else "as such files have it"
    return _imported(time_s, rate, [f"units: rates in {said}, {where}", *notes])


def _cleaned(rows: _Rows, rate: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Times from 0 that ascend and have no gaps, their rates, and what was done to that end."""
    notes = [f"missing: {rows.n_missing} rows without a rate are left out"] if rows.n_missing else []
    latest_s = np.maximum.accumulate(rows.time_s) if len(rows.time_s) else rows.time_s
    is_later = np.r_[True, rows.time_s[1:] > latest_s[:-1]][: len(latest_s)]
    n_backward = int((~is_later).sum())
    _check_backward(n_backward, len(is_later))
    notes += _notes_of_backward(n_backward)
    time_s, rate = rows.time_s[is_later], rate[is_later]
    _check_number(len(time_s), "rates", "select fewer by --only")
    steps_s = np.diff(time_s)
    median_s = float(np.median(steps_s))
    is_gap = steps_s > GAP_STEPS * median_s
    if is_gap.any():
        cut_s = float((steps_s[is_gap] - median_s).sum())
        notes.append(
            f"gaps: {int(is_gap.sum())} of more than {GAP_STEPS:g} median steps of {median_s:g} s are cut to one such "
            f"step, {cut_s:,.10g} s in all, for nobody knows the rate then"
        )
    kept_s = np.where(is_gap, median_s, steps_s)
    notes += _notes_of_zeros(rate)
    notes.append(f"beginning: 0 s is {float(time_s[0]):,.10g} s of the recording")
    # Without a gap the differences from the first time, which a sum of steps would round.
    from_0_s = np.r_[0.0, np.cumsum(kept_s)] if is_gap.any() else time_s - time_s[0]
    return from_0_s, rate, notes


def _imported(time_s: NDArray[np.float64], rate: NDArray[np.float64], notes: Sequence[str]) -> Imported:
    if not rate.any():
        raise FileError("must carry something at some time, got rates of 0 throughout")
    period_s = float(2 * time_s[-1] - time_s[-2])
    mean = float(np.diff(time_s, append=period_s) @ rate) / period_s
    lines = [f"{start_s:.12g} {value:.12g}\n" for start_s, value in zip(time_s.tolist(), rate.tolist(), strict=True)]
    size = f"{len(lines):,} rates over {period_s:,.6g} s, {mean:,.4g} Mb/s in the mean"
    return Imported(
        lines=["# seconds, Mb/s\n", *lines],
        holds=f'a trace for links (format = "time_rate"): {size}',
        notes=list(notes),
    )


def _csv_rows(path: Path, columns: Columns) -> tuple[_Rows, str | None]:
    time_name = rate_name = None
    times, rates = array("d"), array("d")
    n_missing = 0
    for number, row in read_table(path, columns.only):
        if time_name is None or rate_name is None:
            time_name = column(row, TIME_COLUMNS, columns.time, "times", "--time-column")
            rate_name = column(row, tuple(RATE_COLUMNS), columns.rate, "rates", "--rate-column")
        if is_missing(row[rate_name]) or is_missing(row[time_name]):
            n_missing += 1
            continue
        times.append(check_finite(seconds(row[time_name], number), f"line {number}: {time_name}"))
        rates.append(_rate(row[rate_name], number))
    if rate_name is None:
        raise FileError("has no rows" + (f" with {columns.only[0]} = {columns.only[1]!r}" if columns.only else ""))
    return _Rows(time_s=np.array(times), rate=np.array(rates), n_missing=n_missing), RATE_COLUMNS.get(rate_name)


def _two_columns(path: Path) -> tuple[_Rows, str]:
    times, rates = array("d"), array("d")
    for number, fields in _fields(path):
        if len(fields) != 2:
            raise FileError(f"line {number} must be a time in s and a rate, got {shortened(' '.join(fields))}")
        times.append(check_finite(seconds(fields[0], number), f"line {number}: a time"))
        rates.append(_rate(fields[1], number))
    return _Rows(time_s=np.array(times), rate=np.array(rates), n_missing=0), "Mb/s"


def _without_header(path: Path) -> bool:
    """Whether the first line has numbers, and not names."""
    for _, fields in _fields(path):
        try:
            float(fields[0])
        except ValueError:
            return False
        return True
    raise FileError("has no line")


def _fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines_of(path, MOST_LINES, MOST_BYTES):
        if (text := line.strip()) and not text.startswith("#"):
            yield number, text.replace(",", " ").replace(";", " ").split()


def _rate(text: str, number: int) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise FileError(f"line {number}: a rate must be a number, got {text!r}") from None
    if not check_finite(rate, f"line {number}: a rate") >= 0:
        raise FileError(f"line {number}: a rate must be at least 0, got {rate!r}")
    return rate


def _check_backward(n_backward: int, n_rows: int) -> None:
    if n_backward > MOST_BACKWARD_FRACTION * n_rows:
        raise FileError(
            f"goes back in time in {n_backward} of {n_rows} rows, so that it is not one recording; import one at a "
            "time, in a table by --only COLUMN=VALUE"
        )


def _check_number(number: int, what: str, remedy: str) -> None:
    if not 2 <= number <= MOST_STEPS:
        raise FileError(f"must come to 2 to {MOST_STEPS:,} {what}, got {number:,}{f'; {remedy}' if number > 2 else ''}")


def _notes_of_backward(n_backward: int) -> list[str]:
    if not n_backward:
        return []
    return [f"backward times: {n_backward} rows that are not later than all before them are left out"]


def _notes_of_zeros(rate: NDArray[np.float64]) -> list[str]:
    n_zeros = int((rate == 0).sum())
    return [f"zero rates: {n_zeros} are kept; nothing passes then"] if n_zeros else []
