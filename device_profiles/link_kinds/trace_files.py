"""Reading recorded rates: Mahimahi's delivery opportunities, "time rate" text, and Parquet."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.replay import RateTrace
from device_profiles.tables import ProfileError

MAHIMAHI_PACKET_BYTES = 1500
"""What one line of a Mahimahi trace delivers (its manual page mm-link: "MTU-sized packet"), headers included."""


def file_sha256(path: Path) -> str:
    """The SHA-256 digest of a file in hexadecimal.

    Raises:
        ProfileError: the file cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def read_mahimahi(path: Path, bin_s: float) -> RateTrace:
    """A trace of Mahimahi (Netravali et al., USENIX ATC 2015): each line is a time in ms at which 1500 bytes can pass.

    The last time is the period of the loop, as in Mahimahi. Opportunities are counted in bins of ``bin_s``, within
    which the rate is constant; a last bin that the period cuts off counts for its own length.

    Raises:
        ProfileError: the file cannot be read, or a line is no time or is earlier than the one before.
    """
    numbers = _numbers(path, n_columns=1, what="a whole number of milliseconds")[:, 0]
    _check_order(path, numbers, strictly=False)
    if numbers[-1] == 0:
        raise ProfileError(f"{path.name}: must reach beyond 0 ms, got {len(numbers)} lines of 0")
    period_s = float(numbers[-1]) / 1e3
    n_bins = math.ceil(period_s / bin_s - 1e-9)
    # Whatever falls on the end of the period is delivered in its last moment.
    bins = np.minimum((numbers / 1e3 / bin_s + 1e-9).astype(np.int64), n_bins - 1)
    start_s: NDArray[np.float64] = bin_s * np.arange(n_bins, dtype=np.float64)
    lengths_s = np.diff(start_s, append=period_s)
    delivered_bytes = MAHIMAHI_PACKET_BYTES * np.bincount(bins, minlength=n_bins)
    return RateTrace(start_s=start_s, bytes_per_s=delivered_bytes / lengths_s, period_s=period_s)


def read_time_rate(path: Path) -> RateTrace:
    """Text of two columns, seconds and Mb/s: a rate holds from its time to the next one's.

    Empty lines and lines that begin with ``#`` do not count; times need not begin at 0. The last rate holds as long as
    the one before it.

    Raises:
        ProfileError: the file cannot be read, or a line is not two numbers, or times do not ascend.
    """
    numbers = _numbers(path, n_columns=2, what="a time in s and a rate in Mb/s")
    return _trace(path, numbers[:, 0], numbers[:, 1] * 1e6 / 8)


def read_parquet(path: Path) -> tuple[RateTrace, RateTrace]:
    """Parquet with the columns ``time_s``, ``down_bytes_per_s`` and ``up_bytes_per_s``: download, upload.

    Times as for :func:`read_time_rate`.

    Raises:
        ProfileError: the file cannot be read, lacks a column, or times do not ascend.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _content(path)
    columns = ["time_s", "down_bytes_per_s", "up_bytes_per_s"]
    try:
        table = pq.read_table(path)
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise ProfileError(f"{path.name}: needs the columns {', '.join(columns)}, got {table.column_names!r}")
        time_s, down, up = (np.asarray(table[name].cast(pa.float64()), dtype=np.float64) for name in columns)
    except pa.ArrowException as error:
        raise ProfileError(f"{path.name} is not Parquet of numbers: {error}") from None
    return _trace(path, time_s, down), _trace(path, time_s, up)


def _trace(path: Path, time_s: NDArray[np.float64], bytes_per_s: NDArray[np.float64]) -> RateTrace:
    if len(time_s) < 2:
        raise ProfileError(f"{path.name}: must have at least two times, got {len(time_s)}")
    if not (np.isfinite(time_s).all() and np.isfinite(bytes_per_s).all()):
        raise ProfileError(f"{path.name}: must hold finite numbers only")
    _check_order(path, time_s, strictly=True)
    if bytes_per_s.min() < 0:
        raise ProfileError(f"{path.name}: rates must be at least 0, got {float(bytes_per_s.min())!r}")
    if bytes_per_s.max() == 0:
        raise ProfileError(f"{path.name}: must carry something at some time, got rates of 0 throughout")
    start_s = time_s - time_s[0]
    return RateTrace(start_s=start_s, bytes_per_s=bytes_per_s, period_s=float(2 * start_s[-1] - start_s[-2]))


def _check_order(path: Path, times: NDArray[np.float64], *, strictly: bool) -> None:
    steps = np.diff(times)
    wrong = np.flatnonzero(steps <= 0 if strictly else steps < 0)
    if times[0] < 0 or len(wrong):
        which = float(times[wrong[0] + 1]) if len(wrong) else float(times[0])
        raise ProfileError(f"{path.name}: times must ascend from 0 or later, got {which!r}")


def _numbers(path: Path, n_columns: int, what: str) -> NDArray[np.float64]:
    rows: list[Sequence[float]] = []
    for number, line in enumerate(_content(path).decode(errors="replace").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            row = [float(word) for word in line.split()]
        except ValueError:
            row = []
        if len(row) != n_columns or not all(map(math.isfinite, row)) or (n_columns == 1 and row[0] % 1):
            raise ProfileError(f"{path.name}: line {number} must be {what}, got {line!r}")
        rows.append(row)
    if not rows:
        raise ProfileError(f"{path.name}: must have at least one line of {what}")
    return np.array(rows)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProfileError(f"cannot read {str(path)!r}: {error.strerror}") from None
