"""The folder of a sweep: ``sweep.json``, ``index.parquet``, and each run in ``run=<name>``, where datasets find it.

``sweep.json`` says what shall run, ``index.parquet`` how far each run is. Whether a run is complete is told by its own
``run.json`` alone, so that a folder that a killed process left behind needs no repair.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from emulator.backends.batch import BatchRun
from emulator.config import Config
from emulator.errors import ConfigError, UserError
from emulator.results.info import LaterVersionError, read_info
from emulator.results.sweep_folder import INDEX_FILE, RUN_PREFIX, STATE_COLUMNS, SWEEP_FILE, is_sweep, run_dir
from emulator.results.writer import check_out_dir
from emulator.running.continuation import why_not_from_checkpoint
from emulator.running.resolve import input_digests, resolved_settings
from emulator.storage.files import make_folder, remove_tree, whole_file, write_text
from emulator.storage.patience import Patience
from emulator.storage.places import Place, StorageError, listed
from emulator.storage.refusals import unwritable
from emulator.sweeps.expansion import Clusters, PlannedRun, Sweep
from emulator.sweeps.naming import Label

SCHEMA_VERSION = 1
"""Grows when a key of ``sweep.json`` or a column of the index changes its name, type or meaning."""
ANYWHERE = ("backend.kind", "backend.hosts", "observers", "results.wait_s")
"""Settings that change no result: a sweep may go on with others."""
SETTLED = ("backend.gpus_per_host",)
"""Settings that a run settles where they are not given, and then states."""
WHAT = "the sweep's folder"

RunStatus = Literal["planned", "running", "finished", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """How far a run is, under the names of the index's columns.

    ``wall_s`` is its time on the wall without start-up, None as long as it has not ended.
    """

    status: RunStatus = "planned"
    error: str | None = None
    n_rounds: int = 0
    wall_s: float | None = None


def as_batch(runs: Sequence[PlannedRun], sweep_dir: Place) -> list[BatchRun]:
    """Runs of a sweep as they are carried out, each with its folder in ``sweep_dir``."""
    clusters = Clusters()
    return [
        BatchRun(
            name=run.name,
            config=run.config,
            n_devices=clusters.of(run.config).n_devices,
            out_dir=run_dir(sweep_dir, run.name).absolute(),
        )
        for run in runs
    ]


def finished_runs(sweep: Sweep, sweep_dir: Place) -> dict[str, RunState]:
    """The runs of ``sweep`` that are complete in ``sweep_dir``, by name. Nothing is changed.

    Raises:
        ConfigError: the folder holds something else, or complete runs that are not those of the sweep.
        LaterVersionError: it holds a run that was written by a later version.
    """
    if not is_sweep(sweep_dir):
        check_out_dir(sweep_dir)
        return {}
    finished, clusters = {}, Clusters()
    planned = {run.name: run for run in sweep.runs}
    for folder in listed(sweep_dir, f"{RUN_PREFIX}*"):
        name = folder.name.removeprefix(RUN_PREFIX)
        if name not in planned:
            raise ConfigError(
                f"{sweep.path}: the folder holds the run {name}, which is not one of this sweep (any more); move "
                f"{folder.name} away, or choose another --out: {str(sweep_dir)!r}"
            )
        info = info_of(folder)
        if info is None or info["status"] != "finished":
            continue
        if difference := _difference(_identity_of(planned[name].config, clusters), info):
            raise ConfigError(
                f"{sweep.path}: run {name} is finished with other settings ({difference}); choose another --out, or "
                f"remove {folder.name} to run it again: {str(sweep_dir)!r}"
            )
        finished[name] = state_of(info)
    return finished


def info_of(folder: Place) -> dict[str, Any] | None:
    """What ``run.json`` in ``folder`` says; None where there is none, or a damaged one.

    Raises:
        LaterVersionError: it was written by a later version.
        StorageError: the storage cannot be reached, so that nobody knows.
    """
    try:
        return read_info(folder)
    except (LaterVersionError, StorageError):
        raise
    except UserError:
        return None


def state_of(info: Mapping[str, Any]) -> RunState:
    """The state that a ``run.json`` tells."""
    wall_s = info.get("wall_s")
    return RunState(
        status=info["status"],
        error=info.get("error"),
        n_rounds=info.get("n_rounds") or 0,
        wall_s=None if wall_s is None else float(wall_s),
    )


def make_sweep_folder(sweep_dir: Path, locks: Iterable[str]) -> None:
    """Make the folder with its files for locks. What another sweep has there stays as it is.

    Raises:
        UserError: the disk cannot be written.
    """
    try:
        make_folder(sweep_dir)
        for name in locks:
            (sweep_dir / name).open("a").close()
    except OSError as error:
        raise unwritable(sweep_dir, WHAT, error) from error


def write_description(sweep: Sweep, sweep_dir: Place) -> None:
    """Write ``sweep.json``.

    Raises:
        UserError: the disk cannot be written.
    """
    text = json.dumps(_description(sweep), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    write_text(sweep_dir / SWEEP_FILE, [text], WHAT)


def prepare_run(folder: Place, config: Config, patience: Patience) -> str | None:
    """Leave what a run of ``config`` can go on from, and remove whatever else an earlier attempt has left.

    A run that failed by itself begins anew: what it failed of may have been mended since, and then lies in its past as
    well. Returns what is to be told where a checkpoint is of no use.

    Raises:
        UserError: it cannot be removed.
    """
    info, told = patience.insist(partial(info_of, folder), WHAT, folder), None
    is_unfinished = info is not None and info["status"] in ("running", "interrupted")
    if info is not None and is_unfinished and not _difference(_identity_of(config, Clusters()), info):
        told = why_not_from_checkpoint(folder, config.policy.path)
        if told is None:
            return None
    patience.insist(partial(remove_tree, folder), WHAT, folder)
    return told


def write_index(sweep: Sweep, sweep_dir: Place, states: Mapping[str, RunState], patience: Patience) -> None:
    """Write ``index.parquet``: a row for each run, in the order of the sweep.

    Raises:
        UserError: the disk cannot be written, nor within ``patience``.
    """
    path, table = sweep_dir / INDEX_FILE, index_table(sweep.runs, states)

    def write() -> None:
        with whole_file(path) as file:
            pq.write_table(table, file)

    patience.insist(write, WHAT, path)


def index_table(runs: Sequence[PlannedRun], states: Mapping[str, RunState]) -> pa.Table:
    """The index: state and labels of each run."""
    of_runs = [states.get(run.name, RunState()) for run in runs]
    columns: dict[str, pa.Array] = {"run": pa.array([run.name for run in runs], STATE_COLUMNS["run"])}
    for name, kind in STATE_COLUMNS.items():
        if name not in columns:
            columns[name] = pa.array([getattr(state, name) for state in of_runs], kind)
    for key in runs[0].labels:
        columns[key] = _column([run.labels[key] for run in runs])
    return pa.table(columns)


def _column(labels: Iterable[Label]) -> pa.Array:
    """Labels in the narrowest type that all of them have; as text where they are of several kinds."""
    values = list(labels)
    for kinds, arrow in (((bool,), pa.bool_()), ((int,), pa.int64()), ((int, float), pa.float64())):
        if all(type(value) in kinds for value in values):
            return pa.array(values, arrow)
    return pa.array([str(value) for value in values], pa.string())


def _description(sweep: Sweep) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "name": sweep.name,
        "base": resolved_settings(sweep.base),
        "axes": {key: list(values) for key, values in sweep.spec.axes.items()},
        "cases": [{"name": case.name, "values": dict(case.values)} for case in sweep.spec.cases],
        "runs": [{"run": run.name, "axes": dict(run.labels), "values": dict(run.values)} for run in sweep.runs],
    }


def _identity_of(config: Config, clusters: Clusters) -> dict[str, Any]:
    """What must agree with a ``run.json`` for its tables to be those of a run of ``config``."""
    return {"config": resolved_settings(config), **input_digests(config, clusters.of(config))}


def _difference(identity: Mapping[str, Any], info: Mapping[str, Any]) -> str | None:
    """In what a finished run differs: the first setting, or else a file that says what is emulated."""
    wanted, had = (_flat(json.loads(json.dumps(dict(table), default=str))) for table in (identity, info))
    settled = [key for key in SETTLED if wanted.get(f"config.{key}") is None]
    passed_over = {f"config.{key}" for key in (*ANYWHERE, *settled)}
    settings = sorted(key for key in {*wanted, *had} if key.startswith("config.") and key not in passed_over)
    for key in settings:
        if wanted.get(key) != had.get(key):
            return f"{key.removeprefix('config.')} was {had.get(key)!r} and is now {wanted.get(key)!r}"
    changed = sorted(key for key in wanted if not key.startswith("config.") and wanted[key] != had.get(key))
    return f"the {changed[0].partition('_sha256')[0]} file has changed since" if changed else None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else key)
    return flat
