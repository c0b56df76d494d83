"""How heterogeneous the devices of a run were, in what they needed for a round and in whether they could be reached.

DevMC-R, DevMC-T and InterMC-R are the metrics of FLHetBench (Zhang et al., CVPR 2024; github Carkham/FLHetBench at
2a70b25, metric.py), with its constants. It estimates them by a Monte Carlo run of its own on recorded speeds and
states: rounds of 20 random devices. Here they are what that comes to in the mean, from what the run's devices did:
a device counts by the share of its rounds that are in time, and all devices stand for the 20.
"""

import math

import pandas as pd

from emulator.analysis.devices import in_cohort
from emulator.records import Status

TIME_COLUMNS = ("device_id", "status", "download_s", "compute_s", "upload_s")
"""What of the table ``devices`` is needed."""

MC_METRICS = ("devmc_r", "devmc_t", "intermc_r")
"""Those of FLHetBench."""
DEADLINE_S = 120.0
BREAK_S = 20.0
"""What the server takes between two rounds."""
N_IDEAL = 600
"""Successes of a device that never fails."""
READY_QUANTILE = 0.8
"""A round of DevMC-T ends when so many have reported."""


def heterogeneity(devices: pd.DataFrame) -> dict[str, float | None]:
    """The metrics by name; None where nobody has brought an update, that with states where nobody was to bring one.

    Args:
        devices: the table ``devices`` of one run, at least ``TIME_COLUMNS``.
    """
    times = _round_times(devices)
    in_time, device_id = times["time_s"] <= DEADLINE_S, times["device_id"]
    mean_s = times.groupby("device_id")["time_s"].mean()
    wanted = devices[in_cohort(devices) | (devices["status"] == Status.UNAVAILABLE)].groupby("device_id").size()
    n_in_time = in_time.groupby(device_id).sum().reindex(wanted.index, fill_value=0)
    return {
        "device_time_variation": float(mean_s.std(ddof=0) / mean_s.mean()) if mean_s.sum() > 0 else None,
        "devmc_r": _success(in_time.astype(float).groupby(device_id).mean()),
        "devmc_t": 1 + float(mean_s.quantile(READY_QUANTILE)) / BREAK_S if len(mean_s) else None,
        "intermc_r": _success(n_in_time / wanted),
    }


def _round_times(devices: pd.DataFrame) -> pd.DataFrame:
    """``device_id`` and ``time_s``, all but waiting, of each device-round that brought an update, late ones too."""
    brought = devices[devices["status"].isin([str(Status.OK), str(Status.LATE)])]
    return brought[["device_id"]].assign(time_s=brought["download_s"] + brought["compute_s"] + brought["upload_s"])


def _success(shares: "pd.Series[float]") -> float | None:
    """The score of devices that succeed in these shares of their rounds: 1 if they always do."""
    if not len(shares):
        return None
    return math.log(1 + N_IDEAL * float(shares.sum())) / math.log(1 + N_IDEAL * len(shares))
