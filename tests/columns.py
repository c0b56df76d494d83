"""Columns of tables for runs written by hand: what a test is about is given, the rest follows from the schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from emulator.results.schemas import SCHEMAS


def columns(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """All columns of ``table``; what rows leave out is null where it may be, else 0 or empty.

    Raises:
        KeyError: a row has something that is no column.
    """
    schema = SCHEMAS[table]
    if unknown := {name for row in rows for name in row} - set(schema.names):
        raise KeyError(f"{table} has no column {sorted(unknown)}")
    return {field.name: [row.get(field.name, _nothing(field)) for row in rows] for field in schema}


def _nothing(field: pa.Field) -> Any:
    if field.nullable:
        return None
    if pa.types.is_nested(field.type):
        return {} if pa.types.is_map(field.type) else []
    return "" if pa.types.is_string(field.type) else 0
