"""Carries out a cell: a run of one device, the plain loop beside it, and a federated run, each to Parquet."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.tasks import central
from benchmarks.tasks.cells import Cell
from benchmarks.tasks.rows import write_rows
from emulator.backends.content import load_content
from emulator.config import Config, load_config
from emulator.launch.scripting import emulate
from emulator.learning.data.batches import draw_rows
from emulator.learning.model.export import save_peft_adapter
from emulator.learning.model.loading import silenced_libraries
from emulator.policy.catalog import build_policy
from emulator.records import Assignment, Job
from emulator.results.info import read_info
from emulator.results.reader import RunFrames, load_run
from emulator.results.writer import INFO_FILE
from emulator.seeds import Seeds

N_STEPS, BATCH_SIZE, RANK = 20, 8, 8
ALONE = {"testbed.n_devices": 1, "rounds": 1, "training.local_steps": N_STEPS}
"""One device, which takes all steps in one round."""
FEDERATED = {"testbed.n_devices": 8, "rounds": 12, "training.local_steps": 4}
COMMON: Mapping[str, Any] = {
    "policy.path": "fedlora",
    "policy.rank": RANK,
    "backend.kind": "inline",
    "model.price": "trained",
    # All of the head, as peft trains it.
    "model.head": "full",
    "data.seq_len": 48,
    "training.batch_size": BATCH_SIZE,
    "training.learning_rate": 1e-2,
}
CENTRAL = "central.parquet"
"""A row for each step: ``step`` from 1, ``train_loss``, and ``held_out_loss`` behind it, or NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A cell with the tables of what was run: the loop, the one device, and the federated run."""

    cell: Cell
    central: pd.DataFrame
    alone: RunFrames
    federated: RunFrames


def carry_out(cell: Cell, folder: Path, overrides: Mapping[str, Any] | None = None) -> Result:
    """Runs what of the cell is not in ``folder`` yet, and reads it; ``overrides`` are settings of its runs."""
    here = folder / cell.name
    with silenced_libraries():
        settings = _settings(cell, here) | dict(overrides or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what a run remarks of small data
        alone = _run(settings | ALONE, here / "alone")
        federated = _run(settings | FEDERATED | dict(cell.settings) | dict(overrides or {}), here / "federated")
        if not (here / CENTRAL).exists():
            with silenced_libraries():
                _run_central(cell, here, load_config(None, list((settings | ALONE).items())))
    return Result(
        cell=cell,
        central=pd.read_parquet(here / CENTRAL),
        alone=alone,
        federated=federated,
    )


def _run(settings: Mapping[str, Any], out: Path) -> RunFrames:
    """A run that is finished there, or is carried out now."""
    if (out / INFO_FILE).exists() and read_info(out)["status"] == "finished":
        return load_run(out)
    return emulate(settings, out)


def _settings(cell: Cell, here: Path) -> dict[str, Any]:
    """Those of all runs of a cell, whose rows and model lie ``here``."""
    here.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.jsonl", cell.train_rows), ("test.jsonl", cell.test_rows)):
        if not (here / name).exists():
            write_rows(rows(), here / name)
    own = {key: value for key, value in cell.settings.items() if key not in FEDERATED}
    return {
        **COMMON,
        "task.kind": cell.task.kind,
        "model.train": cell.model_source(here / "model"),
        "data.source": str(here / "train.jsonl"),
        "data.test_source": str(here / "test.jsonl"),
        **cell.task.columns,
        **own,
    }


def _run_central(cell: Cell, here: Path, config: Config) -> None:
    _write_start(config, here / "start")
    train_rows = cell.train_rows()
    done = central.train(
        task=cell.task,
        model=cell.model_place(here / "model"),
        adapter=here / "start",
        train_rows=train_rows,
        test_rows=cell.test_rows(),
        batches=_batches(config, len(train_rows)),
        learning_rate=config.training.learning_rate,
        seq_len=config.data.seq_len,
    )
    n_steps = len(done.train_losses)
    table = pd.DataFrame({"step": range(1, n_steps + 1), "train_loss": done.train_losses})
    table["held_out_loss"] = [np.nan] * (n_steps - 1) + [done.held_out_loss]
    table.to_parquet(here / CENTRAL)


def _write_start(config: Config, folder: Path) -> None:
    """The adapter and the head that the run of one device begins with, as a directory that peft loads."""
    content, prepared = load_content(config, n_devices=1)
    form: Any = build_policy(config.policy.path, config.policy.parameters).form(prepared.model)
    state = {**form.initial(prepared.model, Seeds(config.seed)), **prepared.head}
    save_peft_adapter(content.model, state, form.scaling, folder)


def _batches(config: Config, n_rows: int) -> NDArray[np.int64]:
    """The rows that device 0 draws in its only round, ``(n_steps, batch_size)``; it holds all of them, in order."""
    assignment = Assignment(
        device_id=0,
        n_steps=config.training.local_steps,
        batch_size=config.training.batch_size,
        learning_rate=config.training.learning_rate,
    )
    job = Job(device_id=0, round_index=0, inner_round=0, assignment=assignment, state={})
    return draw_rows(job, np.arange(n_rows), Seeds(config.seed))
