"""The column that says who owns a row, read together with what is learnt of the rows."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.data.on_disk import rows_of
from emulator.learning.data.parts import read_parts
from emulator.learning.data.tables import Column, FileLayout, MissingColumnError, TextTable
from emulator.shapes.names import BUILTIN_PREFIX

SETTING = "data.partition.column"


def read_source(
    source: str, wanted: Sequence[Column], layout: FileLayout, configuration: str | None, owner: Column | None
) -> Mapping[str, TextTable]:
    """The rows of ``data.source`` by part, with the columns ``wanted`` and, where one is named, that of the owners.

    Raises:
        DataError: it cannot be read, or has not these columns.
    """
    columns = wanted if owner is None else tuple(dict.fromkeys((*wanted, owner)))
    try:
        return read_parts(source, columns, "data.source", layout, configuration)
    except MissingColumnError as error:
        if error.column is None or error.column != owner or owner in wanted:
            raise
        raise DataError(f"{error.found}; the column of the owners is set by {SETTING}") from None


def owners_in(table: TextTable, column: Column | None, rows: NDArray[np.int64], source: str) -> tuple[str, ...] | None:
    """Who owns each of the ``rows`` of the part for training, counted from 0; None where no column is named.

    Raises:
        DataError: a row has no owner.
    """
    if column is None:
        return None
    owners = tuple(map(sys.intern, map(cell_text, rows_of(table.values[column], rows))))
    for row, owner in zip(rows.tolist(), owners, strict=True):
        if owner == "":
            raise DataError(
                f"data.source: {source!r} has an empty owner in {table.place} {table.places[row]} of {column!r}; "
                "fill it in, or remove such rows"
            )
    return owners


def check_owned(source: str, column: Column | None) -> None:
    """Raise DataError where a column of owners is named and ``source`` is built in, which has none."""
    if column is not None and source.startswith(BUILTIN_PREFIX):
        raise DataError(
            f"{SETTING}: {source!r} has no columns, so that nobody owns its rows; give a file or hub id as "
            f"data.source, or another data.partition.scheme, got {column!r}"
        )


def cell_text(cell: Any) -> str:
    """A cell as text without what surrounds it; empty where it is missing."""
    return "" if cell is None or (isinstance(cell, float) and cell != cell) else str(cell).strip()
