"""What ``jetbed validate`` prints of steps that were timed."""

import json

import pytest
from rich.console import Console

from device_profiles.catalog import load_profile
from emulator.calibration.agreement import agreements_of
from emulator.calibration.measurement import MeasuredStep
from emulator.calibration.step_settings import unseen
from emulator.cli import validate

TX2 = load_profile("jetson_tx2")
STEPS = [
    MeasuredStep(
        setting=setting, precision="fp32", step_s=0.05, median_step_s=0.06, n_steps=4, peak_memory_bytes=memory_bytes
    )
    for setting, memory_bytes in zip(unseen(quick=False), [None, *[10**8] * 24], strict=True)
]
AGREEMENTS = agreements_of(TX2, TX2.mode("MAXN"), STEPS)


def test_every_setting_has_a_line_that_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    validate._show(Console(width=80), "jetson_tx2 [MAXN] against this", AGREEMENTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "jetson_tx2 [MAXN] against this"
    assert sum(" 50 " in line for line in lines) == 25
    assert not any("…" in line for line in lines)
    assert lines[-2].startswith("25 settings that are in no grid: error ")
    assert lines[-1].startswith("memory beyond the runtime's: error ")


def test_scripts_get_each_setting_and_the_errors_together() -> None:
    found = json.loads(json.dumps(validate._as_plain(TX2, TX2.mode("MAXN"), AGREEMENTS), allow_nan=False))
    errors = [each["error_fraction"] for each in found["settings"]]
    assert found["n_settings"] == 25
    assert found["mean_error_fraction"] == pytest.approx(sum(map(abs, errors)) / 25)
    assert found["worst_error_fraction"] == pytest.approx(max(map(abs, errors)))
    assert found["settings"][0]["measured_s"] == 0.05
