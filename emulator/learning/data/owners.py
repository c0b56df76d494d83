"""Partitions that the data bring with them: rows that belong to somebody, or that a file gives to a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_profiles.text_files import user_path
from emulator.errors import DataError, ShortageError
from emulator.learning.data.owner_column import SETTING, cell_text
from emulator.learning.data.partition import Rows
from emulator.learning.data.reading import read_table
from emulator.learning.data.tables import FileLayout, MissingColumnError, TextTable, shown

FILE = "data.partition.file"


def whole_owners(owners: Sequence[str], n_devices: int, least: int, rng: np.random.Generator) -> list[Rows]:
    """Deals owners out to devices, each with all of its rows.

    Owners are shuffled and dealt out in turn, so that numbers of owners differ by at most one and devices are as
    unequal as owners are. A device with fewer than ``least`` rows then takes the smallest owner of whoever has most
    rows, as long as that one keeps ``least`` itself.

    Raises:
        ShortageError: fewer owners than devices, or no way to ``least`` rows for all.
    """
    names, owner_of = np.unique(np.asarray(owners, dtype=object).astype(str), return_inverse=True)
    if len(names) < n_devices:
        raise ShortageError(
            f"{SETTING}: {len(names)} owners cannot be shared out among {n_devices} devices, since the rows of one are "
            "never split; use more data or fewer devices (testbed.n_devices)"
        )
    n_rows = np.bincount(owner_of, minlength=len(names))
    device_of = np.empty(len(names), dtype=np.int64)
    device_of[rng.permutation(len(names))] = np.arange(len(names)) % n_devices
    _raise_owners(n_rows, device_of, n_devices, least)
    holder = device_of[owner_of]
    return _rows_of_each(holder, n_devices)


def _rows_of_each(holder: NDArray[np.int64], n_devices: int) -> list[Rows]:
    """The rows of every device, in ascending order; ``holder (n,)`` has the device of each row."""
    return [np.flatnonzero(holder == device) for device in range(n_devices)]


def _raise_owners(n_rows: NDArray[np.int64], device_of: NDArray[np.int64], n_devices: int, least: int) -> None:
    """Moves owners in place until every device has ``least`` rows."""
    sizes = np.bincount(device_of, weights=n_rows, minlength=n_devices).astype(np.int64)
    for poor in range(n_devices):
        while sizes[poor] < least:
            moved = _spare_owner(n_rows, device_of, sizes, least)
            if moved is None:
                raise ShortageError(
                    f"data.partition.min_examples: owners cannot be shared out so that each of {n_devices} devices has "
                    f"{least} rows, since the rows of one are never split; lower it, or use fewer devices"
                )
            sizes[device_of[moved]] -= n_rows[moved]
            sizes[poor] += n_rows[moved]
            device_of[moved] = poor


def _spare_owner(
    n_rows: NDArray[np.int64], device_of: NDArray[np.int64], sizes: NDArray[np.int64], least: int
) -> int | None:
    """The smallest owner of the device with most rows that can do without one; None where nobody can."""
    for rich in np.argsort(-sizes, kind="stable"):
        own = np.flatnonzero(device_of == rich)
        smallest = int(own[np.argmin(n_rows[own])])
        if sizes[rich] - n_rows[smallest] >= least:
            return smallest
    return None


def read_given(source: str, rows: NDArray[np.int64], n_devices: int, least: int) -> list[Rows]:
    """The partition that a file has: a line for each row of the training part, with the columns ``row`` and ``device``.

    Rows are counted from 0 without a header line, in the file or hub id that ``data.source`` names; those that are held
    out, or left out by ``data.n_train``, may be in it and do not count.

    Args:
        source: the file; csv, tsv, txt, jsonl, json or parquet.
        rows: the rows that are trained on, by these numbers.
        n_devices: number of devices.
        least: rows that each must have; what is given is not changed.

    Raises:
        DataError: it cannot be read, names a device that there is not, or a row twice, lacks a row, or leaves a device
            with too few.
    """
    path, where = Path(user_path(source)), f"{FILE}: {source!r}"
    if not path.is_file():
        raise DataError(f"{FILE}: there is no file {source!r}")
    try:
        table = read_table(path, where, ("row", "device"), FileLayout())
    except MissingColumnError as error:
        raise DataError(f"{error.found}; it needs the columns row and device") from None
    device_by_row = _device_by_row(table, where, n_devices)
    lacking = next((row for row in rows.tolist() if row not in device_by_row), None)
    if lacking is not None:
        raise DataError(
            f"{where} gives row {lacking} of data.source to no device; it needs every row that is trained on, counted "
            "from 0"
        )
    holder = np.array([device_by_row[row] for row in rows.tolist()], dtype=np.int64)
    sizes = np.bincount(holder, minlength=n_devices)
    if sizes.min() < least:
        poor = int(np.argmax(sizes < least))
        raise DataError(
            f"{where} gives device {poor} {sizes[poor]} of the rows that are trained on, each device needs at least "
            f"{least}; give it more, or use fewer devices (testbed.n_devices)"
        )
    return _rows_of_each(holder, n_devices)


def _device_by_row(table: TextTable, where: str, n_devices: int) -> dict[int, int]:
    device_by_row: dict[int, int] = {}
    for place, row_cell, device_cell in zip(table.places, table.values["row"], table.values["device"], strict=True):
        row, device = (
            _whole(cell, f"{where}, {table.place} {place}", name)
            for cell, name in ((row_cell, "row"), (device_cell, "device"))
        )
        if device >= n_devices:
            raise DataError(
                f"{where} names device {device} in {table.place} {place}, and the run has the devices 0 to "
                f"{n_devices - 1}; correct it, or set testbed.n_devices"
            )
        if row in device_by_row:
            raise DataError(f"{where} has row {row} a second time in {table.place} {place}; give each row once")
        device_by_row[row] = device
    return device_by_row


def _whole(cell: Any, where: str, name: str) -> int:
    text = cell_text(cell)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise DataError(f"{where}: a {name} is a whole number from 0, got {shown(text)!r}")
    return int(text)
