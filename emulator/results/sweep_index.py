"""Reads what a sweep says about itself: sweep.json, and the index with one row for each run."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emulator.errors import UserError
from emulator.results.info import STATUSES, read_json

SWEEP_FILE = "sweep.json"
INDEX_FILE = "index.parquet"
RUN_STATUSES = ("planned", *STATUSES)
STATE_COLUMNS = ("run", "status", "error", "n_rounds", "wall_s")
"""What the index says of a run beside its place on each axis."""


def read_sweep_info(folder: Path) -> dict[str, Any]:
    """The content of a sweep's ``sweep.json``.

    Raises:
        UserError: the folder is no sweep, or the file is damaged.
    """
    info = read_json(folder / SWEEP_FILE, f"not the folder of a sweep, it has no {SWEEP_FILE}: {str(folder)!r}")
    if not isinstance(info, dict):
        raise UserError(f"{folder / SWEEP_FILE}: not the description of a sweep")
    return info


def read_index(folder: Path) -> pd.DataFrame:
    """The runs of a sweep: ``STATE_COLUMNS``, of which the last two may be missing, and one column for each axis.

    Raises:
        UserError: there is no index, or it is damaged.
    """
    path = folder / INDEX_FILE
    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except FileNotFoundError:
        raise UserError(
            f"a sweep without an index of its runs; start it again to have one written: {str(path)!r}"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    if missing := [name for name in ("run", "status", "error") if name not in frame.columns]:
        raise UserError(f"{path}: is damaged, it has no column {missing[0]!r}")
    if unknown := sorted(set(map(str, frame["status"])) - set(RUN_STATUSES)):
        raise UserError(f"{path}: is damaged, a status must be one of {', '.join(RUN_STATUSES)}, got {unknown[0]!r}")
    frame["error"] = frame["error"].astype(object).where(frame["error"].notna(), None)
    return frame
