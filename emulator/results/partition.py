"""The examples that each device of a run holds: one small Parquet file beside the tables, written as the run begins."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emulator.errors import UserError
from emulator.storage.files import whole_file
from emulator.storage.places import Place

if TYPE_CHECKING:
    import pandas as pd

FILE = "partition.parquet"
SCHEMA = pa.schema(
    [
        pa.field("device_id", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("n_examples", pa.int64(), nullable=False),
    ]
)
"""A row for each label that a device holds; where examples have none, one for each device, whose label is null."""


def write_partition(run_dir: Place, counts: NDArray[np.int64], label_names: Sequence[str]) -> None:
    """Write ``counts (n_devices, n_labels)``, how many examples of each label every device holds.

    Raises:
        OSError: the disk or storage cannot be written.
    """
    devices, labels = np.nonzero(counts)
    names = pa.array(list(label_names), pa.string()) if label_names else pa.nulls(1, pa.string())
    table = pa.table([devices.astype(np.int32), names.take(pa.array(labels)), counts[devices, labels]], schema=SCHEMA)
    with whole_file(run_dir / FILE) as file:
        pq.write_table(table, file, version="2.6", compression="zstd", compression_level=3)


def read_partition(run_dir: Place) -> "pd.DataFrame":
    """What :func:`write_partition` wrote; empty for a run without training, or of an earlier version.

    Raises:
        UserError: the file is damaged.
    """
    path = run_dir / FILE
    frame: pd.DataFrame = (_read(path) if path.is_file() else SCHEMA.empty_table()).to_pandas()
    return frame


def _read(path: Place) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(path.read_bytes())).cast(SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: is damaged, start the run again ({error})") from error
