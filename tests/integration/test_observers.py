"""On Ray, observers from Python are told in this process, those of the configuration beside the coordinator."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import emulator
from tests.integration.conftest import N_ROUNDS, SMALL, digests
from tests.integration.ray_cluster import RayCluster

SCRIPT = """
import json, os, sys, threading
import emulator
from emulator.config import parse_setting
from tests.unit.observers.recording import Failing, Recorder

class Own(Recorder):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()  # cannot be pickled, so it must stay in this process

own = "tests.unit.observers.recording:LinesOfJson"
settings = dict(map(parse_setting, sys.argv[2:]))
settings["observers"] = [own, {"path": own, "name": "short.jsonl", "fails_at": 1}]
recorder = Own()
emulator.emulate(settings, out=sys.argv[1], observers=[Failing(ValueError("no such axis")), recorder])
rounds = recorder.told("round_closed")
print(json.dumps({
    "names": [name for name in recorder.names() if name != "warned"],
    "warned": recorder.told("warned"),
    "energy_j": [float(value) for closed in rounds for value in closed.rows["devices"]["energy_j"]],
    "accuracy": [closed.report.evaluation.accuracy for closed in rounds],
    "rounds_done": recorder.progress[-1].rounds_done,
    "status": recorder.told("run_ended")[0].status,
}))
"""


@pytest.mark.slow
def test_observers_on_a_cluster_are_told_what_is_written_and_change_no_byte_of_it(
    inline_run: Path, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = [*SMALL, f"rounds={N_ROUNDS}", "backend.kind=ray", "backend.hosts=1"]
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(run), *settings],
        env=os.environ | ray_cluster.environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    written = emulator.load(run)

    assert told["names"] == ["run_began", *["round_closed"] * N_ROUNDS, "run_ended"]
    assert (told["status"], told["rounds_done"]) == ("finished", N_ROUNDS)
    assert told["energy_j"] == written.devices["energy_j"].tolist()
    assert told["accuracy"] == written.rounds["accuracy"].tolist()
    assert len((run / "rounds.jsonl").read_text().splitlines()) == N_ROUNDS
    # One has failed in each process: the user hears of both, and both are in run.json.
    assert len((run / "short.jsonl").read_text().splitlines()) == 1
    assert sorted(told["warned"]) == sorted(written.info["observer_failures"])
    assert [text for text in told["warned"] if "no more paper" in text or "no such axis" in text] == told["warned"]
    assert digests(run) == digests(inline_run)
