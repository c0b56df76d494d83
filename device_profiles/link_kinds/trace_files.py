"""Reading recorded rates: Mahimahi's delivery opportunities, "time rate" text, and Parquet."""

import hashlib
import math
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_profiles.link_kinds.replay import RateTrace
from device_profiles.tables import LARGEST, ProfileError
from device_profiles.text_files import MOST_RECORDED_BYTES, FileError, lines_of, read_bytes, shortened, size_of

MAHIMAHI_PACKET_BYTES = 1500
"""What one line of a Mahimahi trace delivers (its manual page mm-link: "MTU-sized packet"), headers included."""
MOST_LINES = 5_000_000
"""Of a recording: 100 Mb/s in Mahimahi's packets for ten minutes."""
MOST_STEPS = 1_000_000
"""Rates of a recording as it is replayed: eleven days of seconds."""
MOST_GAP_S = 86_400.0
"""A recording that begins later than this after its origin counts from another moment, such as 1970."""


def file_sha256(path: Path) -> str:
    """The SHA-256 digest of a file in hexadecimal.

    Raises:
        ProfileError: the file cannot be read.
    """
    try:
        return hashlib.sha256(read_bytes(path, MOST_RECORDED_BYTES)).hexdigest()
    except FileError as error:
        raise _unreadable(path, error) from None


def read_mahimahi(path: Path, bin_s: float, origin_s: float = 0.0) -> RateTrace:
    """A trace of Mahimahi (Netravali et al., USENIX ATC 2015): each line is a time in ms at which 1500 bytes can pass.

    The last time is the period of the loop, as in Mahimahi. Opportunities are counted in bins of ``bin_s``, within
    which the rate is constant; a last bin that the period cuts off counts for its own length. The replay begins at
    ``origin_s`` of the recording, and what was earlier is left out.

    Raises:
        ProfileError: the file cannot be read, a line is no time or is earlier than the one before, the recording begins
            more than a day after its origin, or comes to too many bins.
    """
    lines = _numbers(path, n_columns=1, what="a whole number of milliseconds")[:, 0]
    _check_order(path, lines, strictly=False)
    first_s = float(lines[0]) / 1e3
    if first_s - origin_s > MOST_GAP_S:
        raise ProfileError(
            f"{path.name}: nothing passes before {first_s:,.10g} s, more than a day after the origin ({origin_s:g} s); "
            f"let its times count from its beginning, or give origin_s = {first_s:.10g} in the link's file"
        )
    numbers = lines[lines >= 1e3 * origin_s] - 1e3 * origin_s if origin_s else lines
    if not len(numbers) or numbers[-1] == 0:
        if origin_s:
            raise ProfileError(f"{path.name}: ends before origin_s, got {origin_s!r} and {float(lines[-1]) / 1e3!r} s")
        raise ProfileError(f"{path.name}: must reach beyond 0 ms, got {len(numbers)} lines of 0")
    period_s = float(numbers[-1]) / 1e3
    if period_s / bin_s > MOST_STEPS:
        raise ProfileError(
            f"{path.name}: {period_s:,.10g} s in bins of {1e3 * bin_s:g} ms are {period_s / bin_s:,.0f} bins, of which "
            f"there may be {MOST_STEPS:,}; raise bin_ms"
        )
    n_bins = max(1, math.ceil(period_s / bin_s - 1e-9))
    # Whatever falls on the end of the period is delivered in its last moment.
    bins = np.minimum((numbers / 1e3 / bin_s + 1e-9).astype(np.int64), n_bins - 1)
    start_s: NDArray[np.float64] = bin_s * np.arange(n_bins, dtype=np.float64)
    lengths_s = np.diff(start_s, append=period_s)
    delivered_bytes = MAHIMAHI_PACKET_BYTES * np.bincount(bins, minlength=n_bins)
    return RateTrace(start_s=start_s, bytes_per_s=delivered_bytes / lengths_s, period_s=period_s)


def read_time_rate(path: Path, origin_s: float | None = None) -> RateTrace:
    """Text of two columns, seconds and Mb/s: a rate holds from its time to the next one's.

    Empty lines and lines that begin with ``#`` do not count. The last rate holds as long as the one before it. The
    replay begins at the first time, or at ``origin_s``, at which a rate must be known.

    Raises:
        ProfileError: the file cannot be read, or a line is not two numbers, or times do not ascend.
    """
    numbers = _numbers(path, n_columns=2, what="a time in s and a rate in Mb/s")
    return _trace(path, numbers[:, 0], numbers[:, 1] * 1e6 / 8, origin_s)


def read_parquet(path: Path, origin_s: float | None = None) -> tuple[RateTrace, RateTrace]:
    """Parquet with the columns ``time_s``, ``down_bytes_per_s`` and ``up_bytes_per_s``: download, upload.

    Times as for :func:`read_time_rate`.

    Raises:
        ProfileError: the file cannot be read, lacks a column, or times do not ascend.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["time_s", "down_bytes_per_s", "up_bytes_per_s"]
    try:
        size_of(path)
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                got = shortened(file.schema_arrow.names)
                raise ProfileError(f"{path.name}: needs the columns {', '.join(columns)}, got {got}")
            _check_steps(path, file.metadata.num_rows)
            for name in columns:
                kind = file.schema_arrow.field(name).type
                if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                    raise ProfileError(f"{path.name}: {name} must be a column of numbers, got {kind}")
            table = file.read(columns)
        time_s, down, up = (
            np.asarray(table[name].cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64) for name in columns
        )
    except FileError as error:
        raise _unreadable(path, error) from None
    except (pa.ArrowException, OSError) as error:
        raise ProfileError(f"{path.name} is not Parquet of numbers: {shortened(str(error), 200)}") from None
    return _trace(path, time_s, down, origin_s), _trace(path, time_s, up, origin_s)


def _trace(
    path: Path, time_s: NDArray[np.float64], bytes_per_s: NDArray[np.float64], origin_s: float | None
) -> RateTrace:
    if len(time_s) < 2:
        raise ProfileError(f"{path.name}: must have at least two times, got {len(time_s)}")
    _check_steps(path, len(time_s))
    if not (np.isfinite(time_s).all() and np.isfinite(bytes_per_s).all()):
        raise ProfileError(f"{path.name}: must hold finite numbers only")
    _check_order(path, time_s, strictly=True)
    if bytes_per_s.min() < 0:
        raise ProfileError(f"{path.name}: rates must be at least 0, got {float(bytes_per_s.min())!r}")
    if max(time_s.max(), bytes_per_s.max()) > LARGEST:
        raise ProfileError(f"{path.name}: times and rates must be at most {LARGEST:g}")
    last_s = float(time_s[-1] - time_s[-2])
    if origin_s is not None:
        if not time_s[0] <= origin_s < time_s[-1]:
            span = f"{float(time_s[0])!r} to {float(time_s[-1])!r} s"
            raise ProfileError(f"{path.name}: origin_s must lie within the recording, {span}, got {origin_s!r}")
        known = int(np.searchsorted(time_s, origin_s, side="right")) - 1
        time_s, bytes_per_s = np.maximum(time_s[known:], origin_s), bytes_per_s[known:]
    if bytes_per_s.max() == 0:
        raise ProfileError(f"{path.name}: must carry something at some time, got rates of 0 throughout")
    start_s = time_s - time_s[0]
    # In the order of operations of whole recordings, so that an origin changes no bits of what it leaves whole.
    period_s = 2 * start_s[-1] - start_s[-2] if len(start_s) > 1 else last_s
    return RateTrace(start_s=start_s, bytes_per_s=bytes_per_s, period_s=float(period_s))


def _check_steps(path: Path, number: int) -> None:
    if number > MOST_STEPS:
        raise ProfileError(f"{path.name}: may hold {MOST_STEPS:,} rates, got {number:,}; make its steps longer")


def _check_order(path: Path, times: NDArray[np.float64], *, strictly: bool) -> None:
    steps = np.diff(times)
    wrong = np.flatnonzero(steps <= 0 if strictly else steps < 0)
    if times[0] < 0 or len(wrong):
        which = float(times[wrong[0] + 1]) if len(wrong) else float(times[0])
        raise ProfileError(f"{path.name}: times must ascend from 0 or later, got {which!r}")


def _numbers(path: Path, n_columns: int, what: str) -> NDArray[np.float64]:
    numbers = array("d")
    try:
        for number, line in lines_of(path, MOST_LINES):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                row = [float(word) for word in words] if len(words) == n_columns else []
            except ValueError:
                row = []
            if not row or not all(map(math.isfinite, row)) or (n_columns == 1 and row[0] % 1):
                raise ProfileError(f"{path.name}: line {number} must be {what}, got {shortened(line)}")
            numbers.extend(row)
    except FileError as error:
        raise _unreadable(path, error) from None
    if not numbers:
        raise ProfileError(f"{path.name}: must have at least one line of {what}")
    return np.frombuffer(numbers, dtype=np.float64).reshape(-1, n_columns)


def _unreadable(path: Path, error: FileError) -> ProfileError:
    return ProfileError(f"{str(path)!r}: {error}")
