"""What must hold in every run, whatever the policy: the tables agree with each other and with the emulated clock."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from emulator.records import ActivityKind, Status
from emulator.results.reader import RunFrames

TIME_TOLERANCE_S = 1e-6
ENERGY_TOLERANCE_FRACTION = 1e-6
SHORTEST_WAIT_S = 1e-3

_COHORT_COUNTS = {f"n_{status}": status for status in Status if status.is_in_cohort}
_KIND_COLUMNS = {
    ActivityKind.DOWNLOAD: ("download_s", "download_bytes"),
    ActivityKind.COMPUTE: ("compute_s", None),
    ActivityKind.UPLOAD: ("upload_s", "upload_bytes"),
    ActivityKind.WAIT: ("waiting_s", None),
}
_DEVICE_KEY = ["round_index", "device_id"]


class InvariantError(AssertionError):
    """The tables of a run contradict each other. The message has a line for every rule that is broken."""


def verify(frames: RunFrames) -> None:
    """Check a run; rounds that are not done yet do not count.

    Times agree to 1e-6 s, bytes and counts exactly, joules to 1e-6 of their value.

    Raises:
        InvariantError: some rules are broken; all of them are listed.
    """
    broken = [*_keys(frames), *_clock(frames), *_rounds_against_devices(frames)]
    broken += [*_devices(frames.devices), *_devices_against_activities(frames), *_sequence(frames)]
    broken += _idle_energy(frames)
    if broken:
        raise InvariantError("\n".join(broken))


def _keys(frames: RunFrames) -> Iterator[str]:
    rounds, devices, activities = frames.rounds, frames.devices, frames.activities
    yield from _rows(rounds["round_index"].duplicated(), rounds, "rounds: more than one row for a round")
    yield from _rows(devices.duplicated(_DEVICE_KEY), devices, "devices: more than one row for a device in a round")
    orphans = ~devices["round_index"].isin(rounds["round_index"])
    yield from _rows(orphans, devices, "devices: the round is not in rounds")
    known = pd.MultiIndex.from_frame(devices[_DEVICE_KEY])
    strangers = ~pd.MultiIndex.from_frame(activities[_DEVICE_KEY]).isin(known)
    yield from _rows(strangers, activities, "activities: the device is not in devices in that round")


def _clock(frames: RunFrames) -> Iterator[str]:
    rounds, activities = frames.rounds, frames.activities
    yield from _rows(~(rounds["end_s"] >= rounds["start_s"]), rounds, "rounds: end_s is before start_s")
    is_early = rounds["start_s"] < rounds["end_s"].shift() - TIME_TOLERANCE_S
    yield from _rows(is_early, rounds, "rounds: starts before the round before it ends")
    yield from _rows(~(activities["end_s"] >= activities["start_s"]), activities, "activities: end_s is before start_s")
    for name in ("download_s", "forward_s", "backward_s", "compute_s", "upload_s", "waiting_s"):
        yield from _rows(~(frames.devices[name] >= 0), frames.devices, f"devices: {name} is negative")


def _rounds_against_devices(frames: RunFrames) -> Iterator[str]:
    rounds, devices = frames.rounds, frames.devices
    index = pd.Index(rounds["round_index"])
    summed = devices.groupby("round_index")[["download_bytes", "upload_bytes", "energy_j"]].sum()
    summed = summed.reindex(index, fill_value=0)
    for name in ("download_bytes", "upload_bytes"):
        yield from _rows(rounds[name] != summed[name].to_numpy(), rounds, f"rounds: {name} is not the sum over devices")
    is_off = ~_same_energy(rounds["energy_j"], summed["energy_j"])
    yield from _rows(is_off, rounds, "rounds: energy_j is not the sum over devices")

    def n_with(status: Status) -> Any:
        return devices.loc[devices["status"] == status].groupby("round_index").size().reindex(index, fill_value=0)

    for name, status in (_COHORT_COUNTS | {"n_unavailable": Status.UNAVAILABLE}).items():
        is_off = rounds[name] != n_with(status).to_numpy()
        yield from _rows(is_off, rounds, f"rounds: {name} is not the number of devices that are {status}")
    is_off = rounds["n_cohort"] != rounds[list(_COHORT_COUNTS)].sum(axis=1)
    yield from _rows(is_off, rounds, f"rounds: n_cohort is not {' + '.join(_COHORT_COUNTS)}")
    cohort = devices.loc[devices["status"].isin(_COHORT_COUNTS.values())]
    waiting_s = cohort.groupby("round_index")["waiting_s"].mean().reindex(index).to_numpy()
    is_same = np.isclose(rounds["mean_waiting_s"], waiting_s, rtol=0, atol=TIME_TOLERANCE_S, equal_nan=True)
    yield from _rows(~is_same, rounds, "rounds: mean_waiting_s is not the mean over the cohort")

    spans = devices[["round_index"]].merge(rounds.drop_duplicates("round_index"), on="round_index", how="left")
    busy_s = devices["download_s"] + devices["compute_s"] + devices["upload_s"] + devices["waiting_s"]
    is_off = ~_same_time(busy_s, spans["end_s"] - spans["start_s"])
    yield from _rows(is_off, devices, "devices: download + compute + upload + waiting is not the length of the round")
    is_off = ~_same_time(devices["start_s"], spans["start_s"])
    yield from _rows(is_off, devices, "devices: start_s is not the start of the round")


def _devices(devices: pd.DataFrame) -> Iterator[str]:
    is_off = ~_same_time(devices["compute_s"], devices["forward_s"] + devices["backward_s"])
    yield from _rows(is_off, devices, "devices: compute_s is not forward_s + backward_s")
    is_ok = devices["status"] == Status.OK
    is_over = is_ok & (devices["peak_memory_bytes"] > devices["memory_limit_bytes"])
    yield from _rows(is_over, devices, "devices: ok with peak_memory_bytes above memory_limit_bytes")
    # A device that dropped out or ran out of memory may have been asked for work that it never began.
    is_free = is_ok & (devices["work_flop"] > 0) & ~(devices["compute_s"] > 0)
    yield from _rows(is_free, devices, "devices: ok with work_flop but no compute_s")
    yield from _rows(~(devices["energy_j"] >= 0), devices, "devices: energy_j is negative")


def _idle_energy(frames: RunFrames) -> Iterator[str]:
    """No device draws less than it does while it waits, where it waits at all."""
    waits = frames.activities.loc[frames.activities["kind"] == ActivityKind.WAIT]
    waits = (
        waits.assign(length_s=waits["end_s"] - waits["start_s"]).groupby(_DEVICE_KEY)[["length_s", "energy_j"]].sum()
    )
    waits = waits.loc[waits["length_s"] > SHORTEST_WAIT_S]  # shorter ones say little about power
    idle_w = (waits["energy_j"] / waits["length_s"]).rename("idle_w")
    devices = frames.devices.merge(idle_w, left_on=_DEVICE_KEY, right_index=True, how="left")
    busy_s = devices["download_s"] + devices["compute_s"] + devices["upload_s"] + devices["waiting_s"]
    is_low = devices["energy_j"] < devices["idle_w"] * busy_s * (1 - ENERGY_TOLERANCE_FRACTION)
    yield from _rows(is_low, devices, "devices: energy_j is below that of waiting all through the round")


def _devices_against_activities(frames: RunFrames) -> Iterator[str]:
    devices, activities = frames.devices, frames.activities
    key = pd.MultiIndex.from_frame(devices[_DEVICE_KEY])
    lengths = activities.assign(length_s=activities["end_s"] - activities["start_s"])
    columns = ["length_s", "n_bytes", "energy_j"]
    for kind, (time_name, bytes_name) in _KIND_COLUMNS.items():
        of_kind = lengths.loc[lengths["kind"] == kind]
        summed = of_kind.groupby(_DEVICE_KEY)[columns].sum().reindex(key, fill_value=0)
        is_off = ~_same_time(devices[time_name], summed["length_s"])
        yield from _rows(is_off, devices, f"devices: {time_name} is not the length of its {kind} activities")
        n_bytes = devices[bytes_name] if bytes_name else np.zeros(len(devices))
        what = bytes_name or f"0, for {kind},"
        is_off = n_bytes != summed["n_bytes"].to_numpy()
        yield from _rows(is_off, devices, f"devices: {what} is not the sum over its {kind} activities")
    energy_j = activities.groupby(_DEVICE_KEY)["energy_j"].sum().reindex(key, fill_value=0)
    is_off = ~_same_energy(devices["energy_j"], energy_j)
    yield from _rows(is_off, devices, "devices: energy_j is not the sum over its activities")
    yield from _rows(~(activities["energy_j"] >= 0), activities, "activities: energy_j is negative")
    is_instant = (activities["n_bytes"] > 0) & ~(activities["end_s"] > activities["start_s"])
    yield from _rows(is_instant, activities, "activities: n_bytes in no time")
    is_unknown = ~activities["kind"].isin(list(_KIND_COLUMNS))
    yield from _rows(is_unknown, activities, f"activities: kind is none of {', '.join(_KIND_COLUMNS)}")


def _sequence(frames: RunFrames) -> Iterator[str]:
    """A device's activities follow on each other, from the start to the end of the round."""
    activities = frames.activities.sort_values([*_DEVICE_KEY, "start_s", "end_s"], kind="stable", ignore_index=True)
    by_device = activities.groupby(_DEVICE_KEY)
    spans = activities[["round_index"]].merge(
        frames.rounds.drop_duplicates("round_index"), on="round_index", how="left"
    )
    # The first activity of a device follows on the start of the round.
    before_s = by_device["end_s"].shift().fillna(spans["start_s"])
    is_overlap = activities["start_s"] < before_s - TIME_TOLERANCE_S
    yield from _rows(is_overlap, activities, "activities: starts before the one before it, or the round, does")
    is_gap = activities["start_s"] > before_s + TIME_TOLERANCE_S
    yield from _rows(is_gap, activities, "activities: leaves a gap before it")
    is_last = ~activities.duplicated(_DEVICE_KEY, keep="last")
    is_off = is_last & ~_same_time(activities["end_s"], spans["end_s"])
    yield from _rows(is_off, activities, "activities: the last one does not end with the round")
    known = pd.MultiIndex.from_frame(activities[_DEVICE_KEY])
    is_bare = ~pd.MultiIndex.from_frame(frames.devices[_DEVICE_KEY]).isin(known)
    yield from _rows(is_bare, frames.devices, "devices: has no activities in the round")


def _same_time(left: Any, right: Any) -> Any:
    return np.abs(np.asarray(left) - np.asarray(right)) <= TIME_TOLERANCE_S


def _same_energy(left: Any, right: Any) -> Any:
    left, right = np.asarray(left), np.asarray(right)
    return np.abs(left - right) <= ENERGY_TOLERANCE_FRACTION * np.maximum(np.abs(left), np.abs(right))


def _rows(is_broken: Any, frame: pd.DataFrame, rule: str) -> Iterator[str]:
    """One line for all rows that break a rule, naming the first; nothing when none does."""
    positions = np.flatnonzero(np.asarray(is_broken))
    if len(positions):
        first = int(positions[0])
        where = ", ".join(f"{name} {frame[name].iloc[first]}" for name in _DEVICE_KEY if name in frame)
        yield f"{rule} ({len(positions)} of {len(frame)} rows, the first: {where})"
