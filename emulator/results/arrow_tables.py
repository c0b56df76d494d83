"""Columns that the engine has at hand (numpy arrays and lists) as Arrow tables of a fixed schema."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from emulator.results.schemas import SCHEMAS

Columns = Mapping[str, Any]
"""Equally long columns by name, each a numpy array, a list or an Arrow array."""


def arrow_table(table: str, columns: Columns) -> pa.Table:
    """Build a table from its columns, in the order of its schema.

    A float that is not a number becomes null. A list column takes a sequence of sequences or a two-dimensional array, a
    map column a sequence of mappings; maps are stored in the order of their keys, so that equal maps give equal bytes.

    Raises:
        KeyError: there is no such table.
        ValueError: a column is missing, unknown, of another length or type, or null where it may not be.
    """
    schema = SCHEMAS[table]
    if missing := [name for name in schema.names if name not in columns]:
        raise ValueError(f"{table}: columns are missing: {', '.join(missing)}")
    if unknown := [name for name in columns if name not in schema.names]:
        raise ValueError(f"{table}: has no such columns: {', '.join(unknown)}")
    arrays = [_array(table, field, columns[field.name]) for field in schema]
    lengths = {field.name: len(array) for field, array in zip(schema, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{table}: columns must be equally long, their lengths are: {lengths}")
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(table: str, field: pa.Field, values: Any) -> pa.Array:
    try:
        array = _converted(field.type, values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, AttributeError, TypeError) as error:
        raise ValueError(f"{table}.{field.name}: cannot be stored as {field.type}: {error}") from error
    if array.null_count and not field.nullable:
        raise ValueError(f"{table}.{field.name}: must not be null, but {array.null_count} of {len(array)} values are")
    return array


def _converted(kind: pa.DataType, values: Any) -> pa.Array:
    if isinstance(values, pa.Array):
        return values.cast(kind)
    match _converter(kind):
        case "list" if isinstance(values, np.ndarray) and values.ndim == 2:
            n_rows, n_items = values.shape
            offsets = np.arange(n_rows + 1, dtype=np.int32) * n_items
            return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), kind.value_type), type=kind)
        case "map":
            return pa.array([sorted(mapping.items()) for mapping in values], kind)
        case "integer":
            # By way of the inferred type: given the type at once, pyarrow would cut 1.5 in a list down to 1.
            array = pa.array(values, from_pandas=True)
            return array if array.type == kind else array.cast(kind)
    return pa.array(values, kind, from_pandas=True)


@cache
def _converter(kind: pa.DataType) -> str:
    """Which columns need a way of their own; asked for each column of each round."""
    kinds = {"list": pa.types.is_list, "map": pa.types.is_map, "integer": pa.types.is_integer}
    return next((name for name, is_of_kind in kinds.items() if is_of_kind(kind)), "")
