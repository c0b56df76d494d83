"""This machine is measured, priced and checked against itself, and stands in a testbed like any board."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import emulator
from device_profiles.catalog import load_profile
from tests.integration.conftest import jetbed

ONE_THREAD = ("--quick", "--threads", "1", "--device", "cpu", "--clock", "cpu")
"""CPU time of one thread, since tests share their machine."""

CLUSTER = """
link = "constant-8mbit"
power_mode_redraw_rounds = 0
compute_jitter_fraction = 0.0

[[entries]]
device = "profiles/mine.toml"
count = 3

[provenance.all]
covers = ["entries", "power_mode_redraw_rounds", "compute_jitter_fraction"]
kind = "assumed"
source = "a test"
"""


@pytest.mark.slow
def test_a_machine_that_was_measured_is_a_device(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    profile, errors = folder / "mine.toml", tmp_path / "errors.csv"

    for _ in range(3):
        measured = jetbed("calibrate", "--out", str(profile), "--name", "Mine", "--watts", "3,9,4", *ONE_THREAD)
        if "what was timed is no profile" not in measured.stderr:
            break
        assert list(folder.iterdir()) == []
    else:
        pytest.skip(f"this machine is too busy to be measured: {measured.stderr.splitlines()[-1]}")
    assert measured.returncode == 0, measured.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv", "mine.toml"]
    assert load_profile(profile).title == "Mine"

    # Tests share their machine, so that this is no claim about errors: the wall clock of a quiet one is.
    checked = jetbed("validate", str(profile), *ONE_THREAD, "--json", "--csv", str(errors))
    assert checked.returncode == 0, checked.stderr
    found = json.loads(checked.stdout)
    assert found["n_settings"] == len(found["settings"]) >= 5
    assert found["mean_error_fraction"] == pytest.approx(
        sum(abs(setting["error_fraction"]) for setting in found["settings"]) / found["n_settings"]
    )
    with errors.open() as file:
        assert len(list(csv.DictReader(line for line in file if line[0] != "#"))) == found["n_settings"]

    (tmp_path / "cluster.toml").write_text(CLUSTER)
    overrides = ("training.enabled=false", "rounds=3", f"testbed.cluster={tmp_path / 'cluster.toml'}")
    run = jetbed("run", "--out", str(tmp_path / "run"), *[part for each in overrides for part in ("--set", each)])
    assert run.returncode == 0, run.stderr
    devices = emulator.load(tmp_path / "run").devices
    assert set(devices["profile"]) == {"mine"}
    assert (devices["compute_s"] > 0).all()
    assert (devices["energy_j"] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_measurement_leaves_nothing_behind(tmp_path: Path, send: signal.Signals) -> None:
    command = [
        sys.executable,
        "-m",
        "emulator.cli",
        "calibrate",
        "--out",
        str(tmp_path / "mine.toml"),
        "--threads",
        "1",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "100"})
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert any("timing" in line for line in lines)
    process.send_signal(send)
    assert any("interrupted; nothing was written" in line for line in lines)
    assert process.wait(timeout=60) == 130
    assert list(tmp_path.iterdir()) == []
