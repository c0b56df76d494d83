"""Each rule is broken alone in the run by hand, and found."""

from typing import Any

import pandas as pd
import pytest

from emulator.results.invariants import InvariantError, verify
from emulator.results.reader import RunFrames

# Rows of the run by hand: devices have row 4 * round + device; activities of round 0 are device 0: rows 0 to 2,
# device 1: rows 3 to 6, device 2: rows 7 to 10, device 3: row 11.
BREAKS: list[tuple[str, str, int, Any, str]] = [
    ("rounds", "round_index", 1, 0, "rounds: more than one row for a round"),
    ("rounds", "end_s", 1, 15.0, "rounds: end_s is before start_s"),
    ("rounds", "start_s", 1, 19.0, "rounds: starts before the round before it ends"),
    ("rounds", "download_bytes", 0, 3001, "rounds: download_bytes is not the sum over devices"),
    ("rounds", "upload_bytes", 0, 2999, "rounds: upload_bytes is not the sum over devices"),
    ("rounds", "energy_j", 0, 451.001, "rounds: energy_j is not the sum over devices"),
    ("rounds", "n_ok", 0, 2, "rounds: n_ok is not the number of devices that are ok"),
    ("rounds", "n_unavailable", 0, 1, "rounds: n_unavailable is not the number of devices that are unavailable"),
    ("rounds", "n_cohort", 0, 4, "rounds: n_cohort is not"),
    ("rounds", "mean_waiting_s", 0, 6.1, "rounds: mean_waiting_s is not the mean"),
    ("devices", "device_id", 1, 0, "devices: more than one row for a device in a round"),
    ("devices", "round_index", 11, 3, "devices: the round is not in rounds"),
    ("devices", "start_s", 4, 20.1, "devices: start_s is not the start of the round"),
    ("devices", "waiting_s", 1, 5.00001, "devices: download + compute + upload + waiting is not the length"),
    ("devices", "waiting_s", 0, -1.0, "devices: waiting_s is negative"),
    ("devices", "forward_s", 0, 5.0, "devices: compute_s is not forward_s + backward_s"),
    ("devices", "compute_s", 0, 0.0, "devices: ok with work_flop but no compute_s"),
    ("devices", "peak_memory_bytes", 0, 4001, "devices: ok with peak_memory_bytes above memory_limit_bytes"),
    ("devices", "energy_j", 0, -185.0, "devices: energy_j is negative"),
    ("devices", "download_s", 0, 1.1, "devices: download_s is not the length of its download activities"),
    ("devices", "upload_bytes", 0, 999, "devices: upload_bytes is not the sum over its upload activities"),
    ("devices", "energy_j", 0, 185.001, "devices: energy_j is not the sum over its activities"),
    ("activities", "device_id", 11, 9, "activities: the device is not in devices"),
    ("activities", "device_id", 11, 9, "devices: has no activities in the round"),
    ("activities", "end_s", 1, 0.5, "activities: end_s is before start_s"),
    ("activities", "start_s", 1, 0.5, "activities: starts before the one before it, or the round, does"),
    ("activities", "start_s", 0, -0.5, "activities: starts before the one before it, or the round, does"),
    ("activities", "start_s", 1, 1.5, "activities: leaves a gap before it"),
    ("activities", "start_s", 0, 0.5, "activities: leaves a gap before it"),
    ("activities", "end_s", 2, 19.5, "activities: the last one does not end with the round"),
    ("activities", "energy_j", 0, -5.0, "activities: energy_j is negative"),
    ("activities", "n_bytes", 1, 1, "devices: 0, for compute, is not the sum over its compute activities"),
    ("activities", "start_s", 0, 1.0, "activities: n_bytes in no time"),
    ("devices", "energy_j", 1, 39.0, "devices: energy_j is below that of waiting all through the round"),
    ("activities", "kind", 0, "sleep", "activities: kind is none of download, compute, upload, wait"),
]


def broken(frames: RunFrames, table: str, column: str, row: int, value: Any) -> RunFrames:
    changed: pd.DataFrame = getattr(frames, table).copy()
    changed.loc[row, column] = value
    change: dict[str, Any] = {table: changed}
    return frames.replaced(**change)


def test_a_good_run_passes(frames: RunFrames) -> None:
    verify(frames)


def test_a_run_that_has_only_begun_passes(frames: RunFrames) -> None:
    tables = ("rounds", "devices", "activities", "host")
    empty: dict[str, Any] = {table: getattr(frames, table).iloc[:0] for table in tables}
    verify(frames.replaced(**empty))


@pytest.mark.parametrize(("table", "column", "row", "value", "message"), BREAKS)
def test_a_broken_rule_is_found(frames: RunFrames, table: str, column: str, row: int, value: Any, message: str) -> None:
    with pytest.raises(InvariantError) as caught:
        verify(broken(frames, table, column, row, value))
    assert any(line.startswith(message) for line in str(caught.value).splitlines()), str(caught.value)


@pytest.mark.parametrize("column", ["waiting_s", "energy_j"])
def test_not_a_number_breaks_a_rule(frames: RunFrames, column: str) -> None:
    with pytest.raises(InvariantError, match="devices"):
        verify(broken(frames, "devices", column, 0, float("nan")))


def test_differences_within_the_tolerance_pass(frames: RunFrames) -> None:
    # Half of 1e-6 s, and half of 1e-6 of 451 J.
    frames = broken(frames, "devices", "waiting_s", 1, 5.0 + 0.5e-6)
    verify(broken(frames, "rounds", "energy_j", 0, 451 * (1 + 0.5e-6)))


def test_a_device_that_ran_out_of_memory_may_need_more_than_it_has(frames: RunFrames) -> None:
    needs_more = frames.devices["peak_memory_bytes"] > frames.devices["memory_limit_bytes"]
    assert frames.devices.loc[needs_more, "status"].tolist() == ["out_of_memory"]
    verify(frames)


def test_all_broken_rules_are_listed_with_the_first_row(frames: RunFrames) -> None:
    twice = broken(broken(frames, "devices", "energy_j", 5, -1.0), "rounds", "n_ok", 2, 1)
    with pytest.raises(AssertionError) as caught:
        verify(twice)
    assert "energy_j is negative (1 of 12 rows, the first: round_index 1, device_id 1)" in str(caught.value)
    assert "n_ok is not the number of devices that are ok (1 of 3 rows, the first: round_index 2)" in str(caught.value)
