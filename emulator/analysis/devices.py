"""How well a run used its devices: waiting, memory, and how many were lost."""

from collections.abc import Sequence

import pandas as pd

from emulator.records import Status

MEMORY_COLUMNS = ("device_id", "status", "peak_memory_bytes")
"""What of the table ``devices`` is needed for the peaks of memory."""

POWER_COLUMNS = ("device_id", "status", "profile", "energy_j")
"""What of it is needed to find boards without power figures."""


def in_cohort(devices: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows of the table ``devices`` are those of devices that were asked for something in the round."""
    return devices["status"].isin([str(status) for status in Status if status.is_in_cohort])


def mean_waiting_s(rounds: pd.DataFrame) -> float | None:
    """Mean over rounds of the mean waiting time of the cohort, in seconds; None if no round had a cohort."""
    waiting_s = rounds["mean_waiting_s"].dropna()
    return float(waiting_s.mean()) if len(waiting_s) else None


def idle_fraction(rounds: pd.DataFrame) -> float | None:
    """Share of the time of the devices in the cohort that they wait; None if there was no such time."""
    device_s = float((rounds["n_cohort"] * (rounds["end_s"] - rounds["start_s"])).sum())
    waiting_s = float((rounds["n_cohort"] * rounds["mean_waiting_s"].fillna(0.0)).sum())
    return waiting_s / device_s if device_s > 0 else None


def peak_memory_bytes(devices: pd.DataFrame) -> "pd.Series[float]":
    """By device id, the largest memory that the work of a device needed in any round.

    Work that was refused as too large never occupied memory, so that out-of-memory rounds do not count; devices that
    never had any other are left out.

    Args:
        devices: the table ``devices`` of one run, at least ``MEMORY_COLUMNS``.
    """
    held = in_cohort(devices) & (devices["status"] != Status.OUT_OF_MEMORY)
    peaks: pd.Series[float] = devices[held].groupby("device_id")["peak_memory_bytes"].max()
    return peaks


def without_power(devices: pd.DataFrame) -> tuple[str, ...]:
    """Device types that were asked for something and took no joule, as no board can: their profiles state 0 W.

    Args:
        devices: the table ``devices`` of one run, at least ``POWER_COLUMNS``.
    """
    taken = devices.groupby("profile", sort=True)["energy_j"].sum()
    asked = set(devices.loc[in_cohort(devices), "profile"])
    return tuple(str(profile) for profile, joules in taken.items() if joules == 0 and profile in asked)


def power_remark(types: Sequence[str]) -> str:
    """The words for device types without power figures, such as ``my_board has no power figures (0 W)``."""
    return f"{', '.join(types)} {'has' if len(types) == 1 else 'have'} no power figures (0 W)"


def lost_device_rounds(rounds: pd.DataFrame) -> dict[str, int]:
    """Device-rounds in the cohort, of these out of memory, dropped and late, and those out of reach beside them."""
    counted = {"n_device_rounds": "n_cohort"}
    counted |= {name: name for name in ("n_out_of_memory", "n_dropped", "n_late", "n_unavailable")}
    return {name: int(rounds[column].sum()) for name, column in counted.items()}
