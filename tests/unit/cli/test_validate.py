"""What ``jetbed validate`` prints of steps that were timed."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from device_profiles.catalog import load_profile
from emulator.calibration.agreement import agreements_of
from emulator.calibration.measurement import MeasuredStep
from emulator.calibration.process_peak import ProcessPeak
from emulator.calibration.step_settings import unseen
from emulator.cli import validate
from emulator.errors import ConfigError
from emulator.world.price.memory import peak_memory

TX2 = load_profile("jetson_tx2")
STEPS = [
    MeasuredStep(
        setting=setting, precision="fp32", step_s=0.05, median_step_s=0.06, n_steps=4, peak_memory_bytes=memory_bytes
    )
    for setting, memory_bytes in zip(unseen(), [None, *[10**8] * 24], strict=True)
]
AGREEMENTS = agreements_of(TX2, TX2.mode("MAXN"), STEPS)


def test_every_setting_has_a_line_that_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    validate._show(Console(width=80), "jetson_tx2 [MAXN] against this", AGREEMENTS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "jetson_tx2 [MAXN] against this"
    assert sum(" 50 " in line for line in lines) == 25
    assert not any("…" in line for line in lines)
    heads = [
        f"{n} {what}: error " for n, what in ((25, "settings that are in no grid"), (15, "encoders"), (10, "decoders"))
    ]
    assert all(line.startswith(head) and "; memory " in line for line, head in zip(lines[-3:], heads, strict=True))


def test_scripts_get_each_setting_and_the_errors_together() -> None:
    found = json.loads(json.dumps(validate._as_plain(TX2, TX2.mode("MAXN"), AGREEMENTS), allow_nan=False))
    errors = [each["error_fraction"] for each in found["settings"]]
    assert found["n_settings"] == 25
    assert found["mean_error_fraction"] == pytest.approx(sum(map(abs, errors)) / 25)
    assert found["worst_error_fraction"] == pytest.approx(max(map(abs, errors)))
    assert found["settings"][0]["measured_s"] == 0.05
    assert found["by_family"]["encoders"]["n_settings"] == 15


def test_memory_is_that_of_a_process_with_its_runtime_where_one_was_measured() -> None:
    [step] = STEPS[:1]
    process = ProcessPeak(imported_bytes=10**8, runtime_bytes=4 * 10**8, built_bytes=5 * 10**8, peak_bytes=9 * 10**8)
    board = replace(TX2, runtime_memory_bytes=None, allocator="glibc")
    needed_bytes = peak_memory(step.setting.model, step.setting.work, "fp32", allocator="glibc").total_bytes
    for stated_bytes, runtime_bytes in ((None, 4 * 10**8), (3 * 10**8, 3 * 10**8)):
        profile = replace(board, runtime_memory_bytes=stated_bytes)
        [found] = agreements_of(profile, TX2.mode("MAXN"), [step], {step.setting: process})
        assert found.measured_memory_bytes == 9 * 10**8
        assert found.predicted_memory_bytes == runtime_bytes + needed_bytes


def test_a_number_of_settings_does_not_go_with_quick_ones() -> None:
    request = validate.ValidationRequest(
        profile="jetson_tx2", mode=None, device="cpu", threads=1, quick=True, settings=5, clock="wall", csv=None
    )
    with pytest.raises(ConfigError, match="--quick has settings of its own; leave out --settings, got 5"):
        validate._settings(request)
    assert len(validate._settings(replace(request, quick=False))) == 5
