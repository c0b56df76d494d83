"""Mistakes of whoever calibrates or validates end in one sentence before anything is measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_profiles.catalog import load_profile
from emulator.calibration import measurement
from emulator.calibration.fit import fit_steps
from emulator.calibration.measurement import MeasuredStep, MeasuringProgress, TimingMethod
from emulator.calibration.process_peak import ProcessPeak
from emulator.calibration.step_settings import StepSetting
from emulator.cli import calibrate, validate
from emulator.errors import UserError
from tests.unit.calibration.made_up_steps import made_up_steps

PROFILES = Path(__file__).parents[3] / "device_profiles"


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("measured")

    for name in ("measure", "probed_flop_per_s"):
        monkeypatch.setattr(measurement, name, refuse)
        monkeypatch.setattr(calibrate, name, refuse)
    monkeypatch.setattr(calibrate, "process_peak", refuse)


def request(**changes: Any) -> calibrate.CalibrationRequest:
    given: dict[str, Any] = {
        "out": Path("board.toml"),
        "name": None,
        "mode": "default",
        "device": "cpu",
        "threads": 1,
        "quick": True,
        "clock": "wall",
        "watts": None,
        "sensor": None,
        "power_log": None,
        "peer": None,
        "like": None,
        "samples": None,
    }
    return calibrate.CalibrationRequest(**given | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": Path("board.csv")}, r"--out must end in .toml.*'board.csv'"),
        ({"threads": 0}, "--threads must be at least 1, got 0"),
        ({"device": "tpu"}, "--device: .*got 'tpu'"),
        ({"threads": 2, "clock": "cpu"}, "--clock cpu .*got 2 threads"),
        ({"watts": "3,2"}, "--watts takes three numbers.*got '3,2'"),
        ({"watts": "9,5,4"}, "the first is the least.*got '9,5,4'"),
        ({"watts": "nan,5,4"}, "got 'nan,5,4'"),
        ({"sensor": None, "peer": "board"}, "HOST:PORT.*got 'board'"),
        ({"mode": " "}, "--mode must be a name.*got ' '"),
        ({"samples": 12}, "--samples is for --like PROFILE.*got 12"),
        ({"like": "jetson_tx2", "samples": 3}, "--samples must be between 4 and the 10 settings .*, got 3; leave out"),
        (
            {"like": "jetson_tx2", "samples": 11},
            "--samples must be between 4 and the 10 settings .*, got 11; leave out",
        ),
        (
            {"like": f"{PROFILES}/systems/flower-1.42.toml"},
            "--like: .*flower-1.42.toml is no .*, but a system; give",
        ),
        ({"like": f"{PROFILES}/clusters/jetson80.toml"}, "--like: .*jetson80.toml is no .*, but a cluster; give"),
        ({"like": "jetson_tx3"}, "--like: .*did you mean jetson_tx2"),
        ({"power_log": Path("no.log")}, "--power-log: 'no.log' "),
        ({"power_log": Path("no.log"), "watts": "1,2,2"}, "--watts and --power-log exclude one another"),
        ({"sensor": "VDD_IN", "watts": "1,2,2"}, "--watts and --sensor exclude one another"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        calibrate.calibrate(request(**changes))
    assert list(tmp_path.iterdir()) == []


def test_watts_are_those_of_the_meter() -> None:
    watts = calibrate.parse_watts("3.1, 9.5,4")
    assert watts is not None
    assert (watts.idle_w, watts.compute_w, watts.transfer_w, watts.kind) == (3.1, 9.5, 4.0, "measured")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "jetson_tx3"}, "did you mean jetson_tx2"),
        ({"threads": 0}, "--threads must be at least 1, got 0"),
        ({"mode": "MAXX"}, "no such power mode.*got 'MAXX'"),
        ({"csv": Path("nowhere/errors.csv")}, "--csv: the folder .*'nowhere/errors.csv'"),
    ],
)
def test_a_mistake_in_what_is_validated_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "profile": "jetson_tx2",
        "mode": None,
        "device": "cpu",
        "threads": 1,
        "quick": True,
        "settings": None,
        "clock": "wall",
        "csv": None,
    }
    with pytest.raises(UserError, match=message):
        validate.validate(validate.ValidationRequest(**given | changes), as_json=False)


@pytest.mark.parametrize(("slow_down", "error", "is_refused"), [(1.9, 0.2, False), (2.1, 0.2, True), (1.1, 0.3, True)])
def test_a_machine_that_was_too_busy_to_tell_anything_is_refused(
    slow_down: float, error: float, is_refused: bool
) -> None:
    steps = [replace(step, median_step_s=slow_down * step.step_s) for step in made_up_steps("in_turn")]
    fit = replace(fit_steps(steps, "in_turn"), errors=(error, -error))
    if not is_refused:
        calibrate.check_quiet(steps, fit)
        return
    with pytest.raises(UserError, match=rf"{slow_down:.2f} times.*{error:.0%} off.*try again"):
        calibrate.check_quiet(steps, fit)


def test_like_a_known_board_a_dozen_settings_are_timed_and_make_a_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load_profile("jetson_orin_nano_8gb").mode("15W")
    figures = (known.effective_flop_per_s["fp32"] / 2, known.memory_bytes_per_s / 2, 2 * known.dispatch_s, 0.02)
    timed: list[int] = []

    def twice_as_slow(
        settings: Sequence[StepSetting], method: TimingMethod, show: Callable[[MeasuringProgress], None]
    ) -> tuple[MeasuredStep, ...]:
        timed.append(len(settings))
        return made_up_steps(known.step_law, figures, settings=settings)

    monkeypatch.setattr(calibrate, "measure", twice_as_slow)
    monkeypatch.setattr(calibrate, "probed_flop_per_s", lambda method: figures[0])
    peak = ProcessPeak(imported_bytes=200_000_000, runtime_bytes=300 * 2**20)
    monkeypatch.setattr(calibrate, "process_peak", lambda n_threads: peak)
    out = tmp_path / "board.toml"
    calibrate.calibrate(request(out=out, like="jetson_orin_nano_8gb", quick=False, watts="3,9,4"))

    assert timed == [12]
    profile = load_profile(out)
    assert profile.runtime_memory_bytes == peak.runtime_bytes
    mode = profile.mode("default")
    assert mode.step_law == known.step_law
    assert mode.effective_flop_per_s["fp32"] == pytest.approx(figures[0], rel=0.02)
    ratio = known.effective_flop_per_s["amp"] / known.effective_flop_per_s["fp32"]
    assert mode.effective_flop_per_s["amp"] == pytest.approx(ratio * figures[0], rel=0.02)
    origin = profile.provenance_of("fp32_tflop_per_s")
    assert origin.kind == "measured"
    assert "jetson_orin_nano_8gb [15W], scaled" in origin.note
    assert profile.provenance_of("amp_tflop_per_s").kind == "assumed"
