"""What the devices of each type did in a run: seconds, bytes, joules and memory by type, added up over seeds later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from emulator.analysis.devices import in_cohort
from emulator.records import Status
from emulator.report.packing import numbers
from emulator.report.round_bars import KINDS

_SECONDS = {"download": "download_s", "compute": "compute_s", "upload": "upload_s", "wait": "waiting_s"}
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeRecord:
    """The devices of one type in one run. Seconds and memory are those of device-rounds in the cohort."""

    n_devices: int
    waiting_s: NDArray[np.float64]
    total_s: Mapping[str, float]  # by kind of activity
    download_bytes: int
    upload_bytes: int
    energy_j: Mapping[str, float]  # by kind of activity
    peak_memory_bytes: NDArray[np.int64]
    memory_limit_bytes: int  # the least over its devices
    n_lost: Mapping[str, int]


def type_records(devices: pd.DataFrame, activities: pd.DataFrame) -> dict[str, TypeRecord]:
    """One record for each device type of a run, in the order of their names."""
    profile_of = devices.drop_duplicates("device_id").set_index("device_id")["profile"]
    joules = activities.groupby([activities["device_id"].map(profile_of), "kind"])["energy_j"].sum().to_dict()
    records = {}
    for profile, rows in devices.groupby("profile"):
        cohort = rows.loc[in_cohort(rows)]
        records[str(profile)] = TypeRecord(
            n_devices=int(rows["device_id"].nunique()),
            waiting_s=cohort["waiting_s"].to_numpy(np.float64),
            total_s={kind: float(cohort[column].sum()) for kind, column in _SECONDS.items()},
            download_bytes=int(rows["download_bytes"].sum()),
            upload_bytes=int(rows["upload_bytes"].sum()),
            energy_j={kind: float(joules.get((profile, kind), 0.0)) for kind in KINDS},
            peak_memory_bytes=cohort["peak_memory_bytes"].to_numpy(np.int64),
            memory_limit_bytes=int(rows["memory_limit_bytes"].min()),
            n_lost={str(status): int((rows["status"] == status).sum()) for status in Status if status.is_lost},
        )
    return records


def over_seeds(profile: str, records: Sequence[TypeRecord]) -> dict[str, Any]:
    """The devices of one type over the runs of a group, ready for the page.

    Seconds are means over device-rounds in the cohort; bytes and joules are means over runs and devices, of the whole
    run; the boxes of waiting pool the device-rounds of all runs.
    """
    n_device_rounds = max(1, sum(len(record.waiting_s) for record in records))
    n_devices = sum(record.n_devices for record in records)
    peaks = np.concatenate([record.peak_memory_bytes for record in records])
    peaks = peaks[peaks > 0]  # A device that had nothing to do yet needed nothing.
    return {
        "profile": profile,
        "n_devices": records[0].n_devices,
        "waiting": _box(np.concatenate([record.waiting_s for record in records])),
        "mean_s": {kind: sum(r.total_s[kind] for r in records) / n_device_rounds for kind in KINDS},
        "download_bytes": sum(record.download_bytes for record in records) / n_devices,
        "upload_bytes": sum(record.upload_bytes for record in records) / n_devices,
        "energy_j": {kind: sum(r.energy_j[kind] for r in records) / n_devices for kind in KINDS},
        "peak_bytes": [int(peaks.min()), float(np.median(peaks)), int(peaks.max())] if len(peaks) else None,
        "limit_bytes": min(record.memory_limit_bytes for record in records),
        "n_lost": {status: sum(record.n_lost[status] for record in records) for status in records[0].n_lost},
    }


def _box(values: NDArray[np.float64]) -> list[float | None] | None:
    """The 5, 25, 50, 75 and 95 % quantiles, and the mean."""
    return numbers([*np.quantile(values, _QUANTILES), values.mean()]) if len(values) else None
