"""Reads a run's folder into pandas frames, while the run goes on, after it ended and after it was killed."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from emulator.errors import UserError
from emulator.results import schemas
from emulator.results.writer import INFO_FILE

_ORDER = {
    "rounds": ["round_index"],
    "devices": ["round_index", "device_id"],
    "activities": ["round_index", "device_id", "start_s", "end_s"],
    "host": ["round_index", "host", "phase"],
}


@dataclass(frozen=True, slots=True, eq=False)
class RunFrames:
    """A run as frames, one per table of ``docs/results.md``, and ``info``, the content of ``run.json``.

    ``devices.ranks`` holds lists of int, ``devices.metrics`` dicts; a null number is NaN.
    """

    info: dict[str, Any]
    rounds: pd.DataFrame
    devices: pd.DataFrame
    activities: pd.DataFrame
    host: pd.DataFrame

    def units(self, table: str) -> dict[str, str]:
        """The unit of each column of a table: ``"1"`` for a plain number, ``""`` for text."""
        return schemas.units(table)


def load(run_dir: str | Path) -> RunFrames:
    """Read a run.

    Rows of ``devices`` and ``activities`` are those of rounds that are done, that is, in ``rounds``: what a running or
    killed run had written of its next round is left out.

    Raises:
        UserError: the folder is no run, is damaged, or was written by a later version.
    """
    folder = Path(run_dir)
    info = _info(folder)
    # Rounds come first: whatever they list was complete before, also in a run that goes on writing meanwhile.
    rounds = _read(folder, "rounds")
    done = rounds["round_index"].combine_chunks()
    return RunFrames(
        info=info,
        rounds=_frame("rounds", rounds),
        devices=_frame("devices", _of_rounds(_read(folder, "devices"), done)),
        activities=_frame("activities", _of_rounds(_read(folder, "activities"), done)),
        host=_frame("host", _read(folder, "host")),
    )


def _info(folder: Path) -> dict[str, Any]:
    path = folder / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"not the folder of a run, it has no {INFO_FILE}: {str(folder)!r}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if not isinstance(info, dict) or not isinstance(info.get("schema_version"), int):
        raise UserError(f"{path}: not the description of a run, it has no schema_version")
    if info["schema_version"] > schemas.SCHEMA_VERSION:
        raise UserError(
            f"{path}: written by a later version of jetbed; this one reads schema_version up to "
            f"{schemas.SCHEMA_VERSION}, upgrade it: {info['schema_version']!r}"
        )
    return info


def _read(folder: Path, table: str) -> pa.Table:
    schema = schemas.SCHEMAS[table]
    # The pattern leaves out parts that are being written: their temporary names start with a dot.
    parts = sorted(str(path) for path in (folder / table).glob("part-*.parquet"))
    if not parts:
        return schema.empty_table()
    try:
        return ds.dataset(parts, schema=schema, format="parquet").to_table()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{folder / table}: a part is damaged: {error}") from error


def _of_rounds(rows: pa.Table, round_indices: pa.Array) -> pa.Table:
    return rows.filter(pc.is_in(rows["round_index"], value_set=round_indices))


def _frame(table: str, rows: pa.Table) -> pd.DataFrame:
    nested = [field.name for field in rows.schema if pa.types.is_nested(field.type)]
    frame: pd.DataFrame = rows.drop_columns(nested).to_pandas()
    for name in nested:
        values = pd.Series(_python_values(rows[name].combine_chunks()), index=frame.index, dtype=object)
        frame.insert(rows.schema.get_field_index(name), name, values)
    return frame.sort_values(_ORDER[table], kind="stable", ignore_index=True)


def _python_values(array: pa.Array) -> list[Any]:
    """Lists or dicts of a list or map column; by flat values and offsets, much faster than value by value."""
    offsets = array.offsets.to_pylist()
    spans = list(pairwise(offsets))
    if pa.types.is_map(array.type):
        keys, items = array.keys.to_pylist(), array.items.to_pylist()
        return [dict(zip(keys[first:end], items[first:end], strict=True)) for first, end in spans]
    values = array.values.to_pylist()
    return [values[first:end] for first, end in spans]
