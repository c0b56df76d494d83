"""The comparison of live runs with their virtual twins, on tables that can be checked by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.world.live import activities, compared, plain
from benchmarks.world.truth_plots import live_table
from emulator.results.reader import RunFrames


def activity(device_id: int, round_index: int, kind: str, start_s: float, end_s: float) -> dict[str, object]:
    return {"device_id": device_id, "round_index": round_index, "kind": kind, "start_s": start_s, "end_s": end_s}


def run(*rows: dict[str, object], ends_s: tuple[float, ...], lag_s: float = 0.0) -> RunFrames:
    starts_s = (0.0, *ends_s[:-1])
    host = [
        {"host": "device-0", "phase": "compute", "wall_s": 2.0},
        {"host": "device-0", "phase": "lag", "wall_s": lag_s},
        {"host": "coordinator", "phase": "round", "wall_s": 9.0},
    ]
    rounds = pd.DataFrame({"start_s": starts_s, "end_s": ends_s, "loss": 1.0})
    tables = {"rounds": rounds, "activities": pd.DataFrame(rows), "host": pd.DataFrame(host)}
    return RunFrames(Path("run"), {"status": "finished"}, lambda table, columns: tables[table])


VIRTUAL = run(
    activity(0, 0, "download", 0.0, 1.0),
    activity(0, 0, "compute", 1.0, 4.0),
    activity(0, 1, "compute", 4.0, 6.0),  # the end of round 0 has cut it
    activity(0, 1, "upload", 6.0, 7.0),
    activity(0, 1, "wait", 7.0, 8.0),
    ends_s=(4.0, 8.0),
)


def test_what_a_rounds_end_cuts_is_one_activity_and_waiting_is_none() -> None:
    found = activities(VIRTUAL)

    assert found["kind"].tolist() == ["download", "compute", "upload"]
    assert found["length_s"].tolist() == [1.0, 5.0, 1.0]


def test_errors_are_live_over_virtual() -> None:
    rows = VIRTUAL.activities.assign(
        end_s=VIRTUAL.activities["end_s"] * 1.1, start_s=VIRTUAL.activities["start_s"] * 1.1
    )
    rounds = VIRTUAL.rounds.assign(start_s=[0.0, 4.4], end_s=[4.4, 8.8])
    live = run(ends_s=(4.4, 8.8), lag_s=0.5).replaced(activities=rows, rounds=rounds)

    twins = compared("any", VIRTUAL, live)

    assert twins.run_error == pytest.approx(0.1)
    assert twins.round_errors == pytest.approx([0.1, 0.1])
    assert twins.activities["error"].tolist() == pytest.approx([0.1] * 3)
    assert (twins.is_same_sequence, twins.has_same_loss) == (True, True)
    assert twins.lag.to_dict() == {"device-0": 0.25}
    heading, row = live_table(json.loads(json.dumps({"policies": [plain(twins)]})))
    assert dict(zip(heading, row, strict=True)) == {
        "policy": "any",
        "run, virtual s": "8.00",
        "run, live s": "8.80",
        "error": "+10.0%",
        "rounds": "+10.0%, +10.0%",
        "activities": "3",
        "median": "10.0%",
        "95th percentile": "10.0%",
        "within 5 %": "0.0%",
        "same order": "yes",
        "same losses": "yes",
    }


def test_another_order_of_activities_is_told() -> None:
    live = VIRTUAL.replaced(activities=VIRTUAL.activities.iloc[:3])

    assert not compared("any", VIRTUAL, live).is_same_sequence
