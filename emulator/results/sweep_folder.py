"""The layout of a sweep's folder, and what it says about itself: sweep.json, and the index with a row for each run."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emulator.errors import UserError
from emulator.results.info import STATUSES, read_json
from emulator.storage.places import Place, StorageError

SWEEP_FILE = "sweep.json"
INDEX_FILE = "index.parquet"
RUN_PREFIX = "run="
"""Before the name of a run, where datasets find it."""
RUN_STATUSES = ("planned", *STATUSES)
STATE_COLUMNS: Mapping[str, pa.DataType] = MappingProxyType(
    {"run": pa.string(), "status": pa.string(), "error": pa.string(), "n_rounds": pa.int32(), "wall_s": pa.float64()}
)
"""What the index says of a run beside its place on each axis, and of which type."""
_NAME = re.compile(r"[\w,.-]{1,80}")
"""Names of runs; none leads out of the folder of the sweep."""
_ADVICE = "start the sweep again to have the index written anew"


def run_dir(sweep_dir: Place, name: str) -> Place:
    """The folder of the run ``name``."""
    return sweep_dir / f"{RUN_PREFIX}{name}"


def is_sweep(path: Place) -> bool:
    """Whether ``path`` is the folder of a sweep."""
    return (path / SWEEP_FILE).is_file()


def read_sweep_info(folder: Place) -> dict[str, Any]:
    """The content of a sweep's ``sweep.json``.

    Raises:
        UserError: the folder is no sweep, or the file is damaged.
    """
    info = read_json(folder / SWEEP_FILE, f"not the folder of a sweep, it has no {SWEEP_FILE}: {str(folder)!r}")
    if not isinstance(info, dict):
        raise UserError(f"{folder / SWEEP_FILE}: not the description of a sweep")
    return info


def read_index(folder: Place) -> pd.DataFrame:
    """The runs of a sweep: ``STATE_COLUMNS``, of which the last two may be missing, and one column for each axis.

    Raises:
        UserError: there is no index, or it is damaged.
    """
    path = folder / INDEX_FILE
    try:
        frame: pd.DataFrame = pq.read_table(pa.BufferReader(path.read_bytes())).to_pandas()
    except FileNotFoundError:
        raise UserError(
            f"a sweep without an index of its runs; start it again to have one written: {str(path)!r}"
        ) from None
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: is damaged; {_ADVICE}: {error}") from error
    if missing := [name for name in ("run", "status", "error") if name not in frame.columns]:
        raise UserError(f"{path}: is damaged, it has no column {missing[0]!r}; {_ADVICE}")
    # What a missing text is read as depends on the version of pandas.
    names = frame["run"].astype(object).where(frame["run"].notna(), None).tolist()
    if wrong := [name for name in names if not (isinstance(name, str) and _NAME.fullmatch(name))]:
        raise UserError(
            f"{path}: is damaged, a run must be a name of letters, digits and ,._-; {_ADVICE}, got {wrong[0]!r}"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: is damaged, each run has one row; {_ADVICE}, got several of {twice!r}")
    if unknown := sorted(set(map(str, frame["status"])) - set(RUN_STATUSES)):
        raise UserError(
            f"{path}: is damaged, a status must be one of {', '.join(RUN_STATUSES)}; {_ADVICE}, got {unknown[0]!r}"
        )
    frame["error"] = frame["error"].astype(object).where(frame["error"].notna(), None)
    return frame
