"""Writes a run's folder: run.json and the Parquet parts of its tables, readable and whole at any moment."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from emulator.errors import ConfigError, UserError
from emulator.results.arrow_tables import Columns, arrow_table
from emulator.results.schemas import SCHEMA_VERSION, SCHEMAS
from emulator.storage.files import make_folder, whole_file
from emulator.storage.patience import Patience
from emulator.storage.places import OWNER_PREFIX, Place, RemotePath, StorageError, listed, place

INFO_FILE = "run.json"
_OWN_KEYS = ("status", "error", "schema_version", "tables", "started_at", "n_rounds", "wall_s")


@dataclass(slots=True)
class _Part:
    """The part that a table is filling. It is kept after it was written, since a later write may still add to it."""

    index: int
    batches: list[pa.Table] = field(default_factory=list)
    is_on_disk: bool = False


class RunWriter:
    """Writes one run into a folder of its own.

    Part ``k`` of a table holds rounds ``k * rounds_per_part`` up to the next part, whatever the calls that brought them
    and however long they took: the same rows give the same bytes. A part is written as soon as it holds its last round,
    under a hidden temporary name, and then renamed; a part that grows afterwards is replaced in the same way. So a
    process that is killed leaves whole files, and with ``rounds_per_part=1`` every round that was written.

    Write ``rounds`` last: readers take a round as done when its row of ``rounds`` is there.
    """

    def __init__(self, out_dir: str | Place, rounds_per_part: int = 1, patience: Patience | None = None) -> None:
        """Touches no disk. Without ``patience`` it does not wait for a disk that takes nothing.

        Raises:
            ValueError: ``rounds_per_part`` is not positive.
        """
        if rounds_per_part < 1:
            raise ValueError(f"rounds_per_part must be at least 1: {rounds_per_part!r}")
        self.out_dir = place(out_dir)
        self.rounds_per_part = rounds_per_part
        self.patience = patience or Patience()
        self._parts: dict[str, _Part] = {}
        self._info: dict[str, Any] | None = None
        self._n_rounds = 0
        self._opened_s = 0.0
        self._before_s = 0.0
        self._has_failed = False

    def open(self, run_info: Mapping[str, Any]) -> None:
        """Create the folder and ``run.json`` with ``run_info`` and the status ``running``.

        ``run_info`` is plain data. Summaries show ``policy``, ``seed``, ``trained_model``, ``priced_model`` and
        ``majority_accuracy`` (share of the most frequent class in the held-out data) where it has them.

        Raises:
            ConfigError: the folder cannot be used.
            UserError: the disk cannot be written.
            ValueError: a key is one of the writer's own, or a number is infinite or not a number.
            TypeError: a value is not plain data.
        """
        if clash := [key for key in _OWN_KEYS if key in run_info]:
            raise ValueError(f"run_info: the writer sets these keys itself: {', '.join(clash)}")
        self._insist(partial(check_out_dir, self.out_dir), self.out_dir)
        info = {
            "status": "running",
            "error": None,
            "schema_version": SCHEMA_VERSION,
            "tables": list(SCHEMAS),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **run_info,
        }
        text = _json(info)
        self._insist(partial(make_folder, self.out_dir), self.out_dir)
        self._write_info(text)
        self._info = info
        self._opened_s = time.monotonic()

    def go_on(self, info: Mapping[str, Any], n_rounds: int) -> None:
        """Open the folder of a run that has died, to write on behind its first ``n_rounds`` rounds.

        ``info`` is what its ``run.json`` says. Parts of later rounds are removed; ``run.json`` says that the run is
        under way again, and counts in ``n_resumed`` how often it has gone on. ``wall_s`` of before counts where known.

        Raises:
            UserError: the folder lacks one of these rounds, or the disk cannot be written.
        """
        n_whole, n_begun = divmod(n_rounds, self.rounds_per_part)
        if n_begun:
            self._insist(partial(self._take_up, n_whole, n_rounds), self.out_dir)
        self._insist(partial(self._keep_parts, n_whole + bool(n_begun)), self.out_dir)
        self.flush()
        self._before_s = float(info.get("wall_s") or 0.0)
        kept = {key: value for key, value in info.items() if key not in ("n_rounds", "wall_s")}
        self._info = kept | {"status": "running", "error": None, "n_resumed": info.get("n_resumed", 0) + 1}
        text = _json(self._info)
        self._write_info(text)
        self._n_rounds = n_rounds
        self._opened_s = time.monotonic()

    def _take_up(self, index: int, n_rounds: int) -> None:
        """Read part ``index`` of each table, which is not full with round ``n_rounds - 1``, to add to it."""
        for table, schema in SCHEMAS.items():
            path = self.out_dir / table / _part_name(index)
            if not path.is_file():
                raise _lacks_rounds(path)
            try:
                written = pq.read_table(pa.BufferReader(path.read_bytes())).cast(schema)
            except (pa.ArrowException, ValueError) as error:
                raise UserError(f"a table is damaged, start the run anew ({error}): {str(path)!r}") from error
            # The run may have gone on from here before, and been interrupted.
            kept = written.filter(pc.less(written["round_index"], n_rounds))
            if table == "rounds" and kept.num_rows < n_rounds - index * self.rounds_per_part:
                raise _lacks_rounds(path)
            self._parts[table] = _Part(index, [kept], is_on_disk=kept.num_rows == written.num_rows)

    def _keep_parts(self, n_parts: int) -> None:
        """Remove all parts but the first ``n_parts`` of each table."""
        for table in SCHEMAS:
            folder = self.out_dir / table
            for index in range(n_parts):
                if not (path := folder / _part_name(index)).is_file():
                    raise _lacks_rounds(path)
            for path in listed(folder, "*.parquet"):
                if path.name >= _part_name(n_parts):
                    path.unlink()

    def note(self, key: str, value: Any) -> None:
        """Set a key of ``run.json`` to what has become known since it was opened.

        Raises:
            UserError: the disk cannot be written.
            RuntimeError: the writer is not open.
        """
        if self._info is None:
            raise RuntimeError("RunWriter.note: open() comes first")
        self._info[key] = value
        self._write_info(_json(self._info))

    def write(self, table: str, columns: Columns) -> None:
        """Add rows to a table, in ascending order of ``round_index`` over all calls.

        Raises:
            UserError: the disk cannot be written.
            ValueError: the columns do not fit the table (see :func:`arrow_table`), or a round comes too late.
            RuntimeError: the writer is not open.
        """
        if self._info is None:
            raise RuntimeError("RunWriter.write: open() comes first")
        batch = arrow_table(table, columns)
        rounds = batch["round_index"].to_numpy()
        if np.any(np.diff(rounds) < 0):
            raise ValueError(f"{table}: rows must be in ascending order of round_index")
        indices = np.maximum(rounds, 0) // self.rounds_per_part
        for index in np.unique(indices):
            first, end = np.searchsorted(indices, [index, index + 1])
            self._append(table, int(index), batch.slice(first, end - first))
            if rounds[end - 1] + 1 == (index + 1) * self.rounds_per_part:
                self._write_part(table)
        if table == "rounds":
            self._n_rounds += batch.num_rows

    def flush(self) -> None:
        """Write all rows that are still in memory; parts that are not full yet are replaced when they grow.

        Raises:
            UserError: the disk cannot be written.
        """
        # Tables in reverse, since the row in rounds says that the others are complete.
        for table in reversed(list(SCHEMAS)):
            if table in self._parts:
                self._write_part(table)

    def close(self, status: Literal["finished", "failed", "interrupted"], error: str | None = None) -> None:
        """Write what is left and the final ``run.json``. A writer that was never opened has nothing to close.

        Raises:
            UserError: the disk cannot be written, and no earlier call has said so.
        """
        if self._info is None:
            return
        if self._has_failed and isinstance(self.out_dir, RemotePath):
            return  # each call of a storage that does not answer takes seconds
        wall_s = round(self._before_s + time.monotonic() - self._opened_s, 3)
        text = _json(self._info | {"status": status, "error": error, "n_rounds": self._n_rounds, "wall_s": wall_s})
        # Closing after a failure saves what can be saved, and must not hide that failure behind its own.
        with contextlib.suppress(UserError) if self._has_failed else contextlib.nullcontext():
            try:
                self.flush()
            finally:
                self._write_info(text)
        self._info = None
        self._parts.clear()

    def _append(self, table: str, index: int, batch: pa.Table) -> None:
        part = self._parts.get(table)
        if part is not None and index < part.index:
            raise ValueError(f"{table}: round {batch['round_index'][0]} comes after its part was finished")
        if part is None or index > part.index:
            if part is not None:
                self._write_part(table)
            part = self._parts[table] = _Part(index)
        part.batches.append(batch)
        part.is_on_disk = False

    def _write_part(self, table: str) -> None:
        part = self._parts[table]
        if part.is_on_disk:
            return
        whole = pa.concat_tables(part.batches).combine_chunks()
        part.batches = [whole]
        self._write_file(f"{table}/{_part_name(part.index)}", partial(_write_table, whole))
        part.is_on_disk = True

    def _write_info(self, text: str) -> None:
        self._write_file(INFO_FILE, lambda file: file.write_text(text, encoding="utf-8"))

    def _write_file(self, name: str, fill: Callable[[Path], object]) -> None:
        """Let ``fill`` write a file of the folder, whole or not at all."""
        path = self.out_dir / name

        def write() -> None:
            with whole_file(path) as file:
                fill(file)

        self._insist(write, path)

    def _insist(self, write: Callable[[], object], path: Place) -> None:
        try:
            self.patience.insist(write, "results", path)
        except BaseException:
            self._has_failed = True
            raise


def _write_table(whole: pa.Table, file: Path) -> None:
    # Only the table's own folder: where the run's has vanished, so have the rounds before.
    file.parent.mkdir(exist_ok=True)
    # Spelled out, so that another default of pyarrow does not change the files.
    pq.write_table(whole, file, version="2.6", compression="zstd", compression_level=3)


def _lacks_rounds(path: Place) -> UserError:
    return UserError(f"the run lacks rounds that its checkpoint has; start it anew: {str(path)!r}")


def _part_name(index: int) -> str:
    return f"part-{index:05d}.parquet"


def check_out_dir(path: str | Place) -> None:
    """Check that a run can be written into this folder: new or empty, under a folder that can be written.

    Raises:
        ConfigError: it cannot. Nothing is created in either case.
        StorageError: there is no such storage, or it cannot be reached.
    """
    path = place(path)
    if isinstance(path, RemotePath):
        path.check_reachable()
    try:
        if path.is_dir():
            if held := sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(OWNER_PREFIX)):
                reason = f"this one holds {held[0]!r}"
                raise ConfigError(f"output folder must be new or empty, {reason}; choose another --out: {str(path)!r}")
        elif path.exists() or path.is_symlink():
            raise ConfigError(f"output folder is not a folder; choose another --out: {str(path)!r}")
        if isinstance(path, RemotePath):
            return  # whose folders come with what lies in them
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except StorageError:
        raise
    except OSError as error:
        raise ConfigError(
            f"output folder cannot be used ({error.strerror}); choose another --out: {str(path)!r}"
        ) from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"output folder cannot be made in {str(existing)!r}; choose another --out: {str(path)!r}")


def default_out_dir(policy: str, seed: int, now: datetime, root: str | Path = "runs") -> Path:
    """A folder name that is not taken: ``runs/<time>-<policy>-s<seed>``, with a counter where needed."""
    plain_policy = re.sub(r"[^A-Za-z0-9_.-]+", "-", policy).strip("-.") or "policy"
    path = first = Path(root) / f"{now:%Y%m%d-%H%M%S}-{plain_policy}-s{seed}"
    counter = 2
    while path.exists() or path.is_symlink():
        path = first.with_name(f"{first.name}-{counter}")
        counter += 1
    return path


def claim_default_out_dir(policy: str, seed: int, now: datetime, root: str | Path = "runs") -> Path:
    """As :func:`default_out_dir`, and create the folder, so that two runs of the same second cannot take the same.

    Raises:
        UserError: the folder cannot be created.
    """
    while True:
        path = default_out_dir(policy, seed, now, root)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue  # taken since we looked
        except OSError as error:
            raise UserError(f"cannot create the output folder ({error.strerror}); give --out: {str(path)!r}") from error
        return path


def _json(info: Mapping[str, Any]) -> str:
    return json.dumps(info, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Numpy numbers and arrays, paths and mappings as what JSON has for them."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"run_info: {type(value).__name__} is not plain data: {value!r}")
