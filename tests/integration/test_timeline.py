"""Traces of runs in which rounds overlap, devices are lost and share a network: every track stays in order."""

import json
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from emulator.cli.timeline import export_timeline
from emulator.config import load_config
from emulator.launch.execute import execute
from emulator.results.reader import load_run

CASES: dict[str, list[tuple[str, Any]]] = {
    "asynchronous": [("policy.path", "fedbuff"), ("rounds", 12)],
    "drop-outs": [("testbed.availability.drop_out_fraction", 0.2), ("rounds", 4)],
    "shared network": [("testbed.cluster", "jetson80-shared-wifi"), ("rounds", 3)],
}


@pytest.mark.parametrize("case", CASES)
def test_all_activities_are_slices_that_follow_on_each_other(case: str, tmp_path: Path) -> None:
    settings = [("training.enabled", False), ("testbed.n_devices", 16), *CASES[case]]
    run = execute(load_config(None, settings), tmp_path / "run")
    export_timeline(run, tmp_path / "trace.json", None)

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            start_ns = round(event["ts"] * 1e3)
            tracks[event["pid"], event["tid"]].append((start_ns, start_ns + round(event["dur"] * 1e3)))
    frames = load_run(run)
    assert sum(map(len, tracks.values())) == len(frames.activities) + len(frames.rounds)
    for slices in tracks.values():
        assert all(end_ns <= next_ns for (_, end_ns), (next_ns, _) in pairwise(slices))
    n_bytes = sum(event["args"].get("bytes", 0) for event in events if event["ph"] == "X")
    assert n_bytes == frames.rounds[["download_bytes", "upload_bytes"]].to_numpy().sum()
