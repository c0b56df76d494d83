"""This machine is measured, priced and checked against itself, and stands in a testbed like any board."""

import csv
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import emulator
from device_profiles.catalog import load_profile
from emulator.calibration import measurement
from emulator.calibration.fit import mode_of
from emulator.calibration.process_peak import ProcessPeak
from emulator.cli import calibrate
from emulator.learning.model import probe
from emulator.learning.model.probe import StepBench, StepSeconds
from emulator.records import Work
from emulator.shapes.catalog import model_spec_from_config
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import step_time
from tests.command_line import in_process, started
from tests.integration.conftest import small_run
from tests.unit.calibration.made_up_steps import FIGURES

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


class KnownMachine(StepBench):
    """Takes no step, and says that it took what a machine of :data:`FIGURES` takes for it."""

    def __init__(self, config: Mapping[str, Any], device: str, n_threads: int) -> None:
        self._config = config

    @contextmanager
    def steps(self, work: Work, precision: str) -> Iterator[Callable[[], StepSeconds]]:
        model = model_spec_from_config(
            self._config, name="random weights", n_labels=2, seq_len=work.seq_len, head="output"
        )
        demand = step_of(model, work, precision).demand()
        took = step_time(demand, mode_of("in_turn", FIGURES, precision), precision)
        yield lambda: StepSeconds(wall_s=took.step_s, cpu_s=took.step_s)

    def peak_memory_bytes(self) -> None:
        return None

    def __exit__(self, *error: object) -> None: ...


@pytest.fixture
def _in_short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "VISIT_S", 0.02)


def test_a_machine_that_was_measured_is_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "StepBench", KnownMachine)
    peak = ProcessPeak(imported_bytes=200_000_000, runtime_bytes=300 * 2**20)
    monkeypatch.setattr(calibrate, "process_peak", lambda n_threads: peak)
    folder = tmp_path / "profiles"
    folder.mkdir()
    profile, errors = folder / "mine.toml", tmp_path / "errors.csv"

    measured = in_process("calibrate", "--out", str(profile), "--name", "Mine", "--watts", "3,9,4", *ONE_THREAD)
    assert measured.returncode == 0, measured.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["mine.csv", "mine.toml"]
    assert load_profile(profile).title == "Mine"
    assert load_profile(profile).runtime_memory_bytes == peak.runtime_bytes
    assert load_profile(profile).mode("default").effective_flop_per_s["fp32"] == pytest.approx(FIGURES[0], rel=1e-2)

    checked = in_process("validate", str(profile), *ONE_THREAD, "--json", "--csv", str(errors))
    assert checked.returncode == 0, checked.stderr
    found = json.loads(checked.stdout)
    assert found["n_settings"] == len(found["settings"]) >= 5
    assert found["worst_error_fraction"] < 0.01
    assert found["mean_error_fraction"] == pytest.approx(
        sum(abs(setting["error_fraction"]) for setting in found["settings"]) / found["n_settings"]
    )
    with errors.open() as file:
        assert len(list(csv.DictReader(line for line in file if line[0] != "#"))) == found["n_settings"]

    (tmp_path / "cluster.toml").write_text(CLUSTER)
    overrides = ("training.enabled=false", f"testbed.cluster={tmp_path / 'cluster.toml'}")
    devices = emulator.load(small_run(tmp_path / "run", overrides=overrides)).devices
    assert set(devices["profile"]) == {"mine"}
    assert (devices["compute_s"] > 0).all()
    assert (devices["energy_j"] > 0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("_in_short_turns")
def test_this_machine_is_measured_or_refused_as_too_busy(tmp_path: Path) -> None:
    """Tests share their machine, and either may be the right answer."""
    measured = in_process("calibrate", "--out", "mine.toml", "--watts", "3,9,4", *ONE_THREAD, cwd=tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    if measured.returncode == 0:
        assert written == ["mine.csv", "mine.toml"]
        assert load_profile(tmp_path / "mine.toml").mode("default").effective_flop_per_s["fp32"] > 1e8
    else:
        assert measured.returncode == 2, measured.stderr
        assert "no profile" in measured.stderr
        assert written == []


@pytest.mark.slow
@pytest.mark.usefixtures("_in_short_turns")
def test_steps_of_this_machine_stand_beside_what_a_profile_says_of_them() -> None:
    """Whatever the error is: the profile is of a board."""
    checked = in_process("validate", "jetson_tx2", *ONE_THREAD, "--json")
    assert checked.returncode == 0, checked.stderr
    for setting in json.loads(checked.stdout)["settings"]:
        error = setting["predicted_s"] / setting["measured_s"] - 1
        assert setting["error_fraction"] == pytest.approx(error)


@pytest.mark.slow
def test_an_interrupted_measurement_leaves_nothing_behind(tmp_path: Path) -> None:
    with started("calibrate", "--out", str(tmp_path / "mine.toml"), "--threads", "1") as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("timing" in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert any("interrupted; nothing was written" in line for line in lines)
        assert process.wait(timeout=60) == 130
    assert list(tmp_path.iterdir()) == []
