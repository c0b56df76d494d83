"""Reads a run or a sweep into pandas frames, while it goes on, after it ended and after it was killed.

A table is read when it is first asked for, so that a script that needs ``rounds`` does not wait for ``activities``.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from emulator.errors import UserError, did_you_mean
from emulator.results import schemas
from emulator.results.info import read_info
from emulator.results.partition import read_partition
from emulator.results.sweep_folder import STATE_COLUMNS, SWEEP_FILE, read_index, read_sweep_info, run_dir
from emulator.results.writer import INFO_FILE
from emulator.storage.places import Place, RemotePath, listed, place

_ORDER = {
    "rounds": ["round_index"],
    "devices": ["round_index", "device_id"],
    "activities": ["round_index", "device_id", "start_s", "end_s"],
    "host": ["round_index", "host", "phase"],
}

_NEEDED = {**_ORDER, "rounds": schemas.SCHEMAS["rounds"].names}
"""Columns without which a table says nothing."""

Read = Callable[[str, Sequence[str] | None], pd.DataFrame]
"""Reads a table: all of its columns, or those named."""


class Frames:
    """The tables of ``docs/results.md`` as frames, each read when it is first asked for and then kept.

    ``devices.ranks`` holds lists of int, ``devices.metrics`` dicts; a null number is NaN. Reading raises ``UserError``
    where a part is damaged.
    """

    def __init__(self, path: Place, info: dict[str, Any], read: Read) -> None:
        self.path = path
        self.info = info
        self._read = read

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row per round."""
        return self._read("rounds", None)

    @cached_property
    def devices(self) -> pd.DataFrame:
        """One row per device and round."""
        return self._read("devices", None)

    @cached_property
    def activities(self) -> pd.DataFrame:
        """One row per download, computation, upload and wait of a device."""
        return self._read("activities", None)

    @cached_property
    def host(self) -> pd.DataFrame:
        """Wall-clock measurements of the emulator itself."""
        return self._read("host", None)

    def read(self, table: str, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of a table, in their given order, without reading the others."""
        known: pd.DataFrame | None = vars(self).get(table)
        return self._read(table, columns) if known is None else known[list(columns)]

    def units(self, table: str) -> dict[str, str]:
        """The unit of each column of a table: ``"1"`` for a plain number, ``""`` for text."""
        return schemas.units(table)


class RunFrames(Frames):
    """A run; ``info`` is the content of its ``run.json``."""

    @cached_property
    def partition(self) -> pd.DataFrame:
        """How many examples of each label every device holds: ``device_id``, ``label``, ``n_examples``.

        Without labels there is one row for each device; empty for a run without training.
        """
        return read_partition(self.path)

    def replaced(self, *, info: dict[str, Any] | None = None, **tables: pd.DataFrame) -> "RunFrames":
        """The same run with another ``info`` or other tables."""
        other = RunFrames(self.path, self.info if info is None else info, self._read)
        # What has been read is kept where cached_property looks for it.
        known = {name: frame for name, frame in vars(self).items() if name in schemas.SCHEMAS}
        vars(other).update(known | tables)
        return other

    def __repr__(self) -> str:
        return (
            f"<run {str(self.path)!r}: {self.info.get('policy')}, seed {self.info.get('seed')}, {self.info['status']}>"
        )


class SweepFrames(Frames):
    """A sweep; ``info`` is the content of its ``sweep.json``.

    Its tables are those of all its runs, in the order of the index, with the column ``run`` and one column for each
    axis in front. ``runs`` is the index: one row for each run that is planned, whatever has become of it, with the
    columns ``run``, ``status`` (planned, running, finished, failed or interrupted), ``error`` and one for each axis;
    ``policy`` and ``seed`` always are among the axes.
    """

    def __init__(self, path: Place, info: dict[str, Any], runs: pd.DataFrame) -> None:
        super().__init__(path, info, self._read_all)
        self.runs = runs
        self.axes = tuple(name for name in runs.columns if name not in STATE_COLUMNS)

    def run(self, name: str) -> RunFrames:
        """One of its runs.

        Raises:
            UserError: there is no such run, it has not begun, or it is damaged.
        """
        names = self.runs["run"].tolist()
        if name not in names:
            raise UserError(f"{self.path}: has no such run{did_you_mean(name, names)}, got {name!r}")
        if not self.has_begun(name):
            raise UserError(f"{self.path}: this run has not written anything yet: {name!r}")
        return load_run(self._folder(name))

    def has_begun(self, name: str) -> bool:
        """Whether a run has finished its first round, after which it has a folder."""
        return (self._folder(name) / INFO_FILE).exists()

    def _folder(self, name: str) -> Place:
        return run_dir(self.path, name)

    def _read_all(self, table: str, columns: Sequence[str] | None) -> pd.DataFrame:
        wanted = list(columns) if columns is not None else schemas.SCHEMAS[table].names
        own = [name for name in wanted if name in schemas.SCHEMAS[table].names]
        parts = [_frame(table, schemas.SCHEMAS[table].empty_table())[own]]
        sources = [self.runs.iloc[:0]]
        for row in range(len(self.runs)):
            name = str(self.runs["run"].iloc[row])
            if self.has_begun(name):
                run = self.run(name)
                part = getattr(run, table) if columns is None else run.read(table, own)
                parts.append(part)
                sources.append(self.runs.iloc[[row] * len(part)])
        frame = pd.concat(parts, ignore_index=True)
        source = pd.concat(sources, ignore_index=True)
        added = ["run", *self.axes]
        frame = pd.concat([source[added], frame], axis=1)
        return frame[[*added, *own]] if columns is None else frame[wanted]

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.runs["status"].value_counts().items())
        return f"<sweep {str(self.path)!r}: {len(self.runs)} runs, {counts}>"


def load(path: str | Place) -> RunFrames | SweepFrames:
    """Read a run or a sweep; which of them follows from the folder.

    Rows of ``devices`` and ``activities`` are those of rounds that are done, that is, in ``rounds``: what a running or
    killed run had written of its next round is left out.

    Raises:
        UserError: the folder is neither, is damaged, or was written by a later version.
    """
    folder = _reached(path)
    if (folder / SWEEP_FILE).exists():
        return load_sweep(folder)
    if not (folder / INFO_FILE).exists():
        raise UserError(
            f"not the folder of a run or a sweep, it has neither {INFO_FILE} nor {SWEEP_FILE}: {str(folder)!r}"
        )
    return load_run(folder)


def load_run(path: str | Place) -> RunFrames:
    """Read a run, as :func:`load` does.

    Raises:
        UserError: the folder is no run, is damaged, or was written by a later version.
    """
    folder = _reached(path)
    if (folder / SWEEP_FILE).exists() and not (folder / INFO_FILE).exists():
        raise UserError(f"a sweep, not a run; give one of its runs, or use 'jetbed compare': {str(folder)!r}")
    return RunFrames(folder, read_info(folder), partial(_read_run, folder))


def load_sweep(path: str | Place) -> SweepFrames:
    """Read a sweep, as :func:`load` does.

    Raises:
        UserError: the folder is no sweep, or is damaged.
    """
    folder = _reached(path)
    sweep = SweepFrames(folder, read_sweep_info(folder), read_index(folder))
    # A sweep that was killed could not note in its index what became of the runs that it had begun; they say it.
    for row in sweep.runs.index[sweep.runs["status"].isin(["planned", "running"])]:
        name = str(sweep.runs.at[row, "run"])
        if sweep.has_begun(name):
            info = sweep.run(name).info
            sweep.runs.at[row, "status"], sweep.runs.at[row, "error"] = info["status"], info.get("error")
    return sweep


def _reached(path: str | Place) -> Place:
    """The folder at ``path``; a storage that cannot be asked is told here, before anything is looked for in it."""
    folder = place(path)
    if isinstance(folder, RemotePath):
        folder.check_reachable()
    return folder


def _read_run(folder: Place, table: str, columns: Sequence[str] | None) -> pd.DataFrame:
    # Rounds come first: whatever they list was complete before, also in a run that goes on writing meanwhile.
    done = _read(folder, "rounds", ["round_index"])["round_index"].combine_chunks()
    needed = None if columns is None else list(dict.fromkeys([*columns, *_ORDER[table]]))
    rows = _read(folder, table, needed)
    if table != "host":
        rows = rows.filter(pc.is_in(rows["round_index"], value_set=done))
    frame = _frame(table, rows)
    return frame if columns is None else frame[list(columns)]


def _read(folder: Place, table: str, columns: Sequence[str] | None) -> pa.Table:
    schema = schemas.SCHEMAS[table]
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
    # The pattern leaves out parts that are being written: their temporary names start with a dot.
    parts = listed(folder / table, "part-*.parquet")
    if not parts:
        return schema.empty_table()
    try:
        if isinstance(folder, RemotePath):
            names, filesystem = [path.path for path in parts if isinstance(path, RemotePath)], folder.filesystem
        else:
            names, filesystem = [str(path) for path in parts], None
        rows = ds.dataset(names, schema=schema, format="parquet", filesystem=filesystem).to_table()
    except (OSError, pa.ArrowException) as error:
        if isinstance(folder, RemotePath):
            folder.check_reachable()  # what a storage that is away does not give is no damage
        raise _damaged(folder / table, str(error)) from error
    for field in schema:
        # A part without the column reads as nulls. That no part has it is no damage: runs of earlier versions lack the
        # columns that were added since.
        n_null = rows[field.name].null_count
        is_optional = field.nullable or (n_null == len(rows) and field.name not in _NEEDED[table])
        if n_null and not is_optional:
            raise _damaged(folder / table, f"{field.name} is missing or null in some rows")
    return rows


def _damaged(table: Place, what: str) -> UserError:
    return UserError(
        f"{table}: a part is damaged; remove the folder of this run and start the run, or its sweep, again: {what}"
    )


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
