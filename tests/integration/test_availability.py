"""Runs whose devices come and go and do not wait for one another: the same bytes wherever they run, and true books."""

from pathlib import Path

import pytest

import emulator
from emulator.results import verify
from tests.command_line import in_process, settings
from tests.integration.conftest import SMALL, digests
from tests.integration.twins import Twins


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fedbuff", "legend"])
def test_unsteady_devices_give_the_same_bytes_on_ray_and_in_one_process(twins: Twins, policy: str) -> None:
    inline, on_ray = twins.inline[f"unsteady-{policy}"], twins.on_ray[f"unsteady-{policy}"]

    assert digests(on_ray) == digests(inline)
    frames = emulator.load(inline)
    verify(frames)
    assert {"ok", "unavailable", "dropped"} <= set(frames.devices["status"])


def test_a_run_whose_trace_ends_keeps_the_rounds_before(tmp_path: Path) -> None:
    rows = [f"{device},0,100" for device in range(8)]
    (tmp_path / "trace.csv").write_text("\n".join(["device_id,start_s,end_s", *rows]))
    overrides = [
        *SMALL,
        "training.enabled=false",
        "testbed.availability.kind=trace",
        "testbed.availability.trace=trace.csv",
    ]
    finished = in_process("run", "--rounds", "500", "--out", "run", *settings(overrides), cwd=tmp_path)

    assert finished.returncode == 2
    assert "from 100 s of emulated time on no device can be reached any more" in finished.stderr
    frames = emulator.load(tmp_path / "run")
    verify(frames)
    assert frames.rounds["end_s"].iloc[-1] == 100.0
    assert len(frames.info["availability_trace_sha256"]) == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("testbed.availability.kind=on_off", "testbed.availability.mean_on_s must be given"),
        ("testbed.availability.mean_off_s=3", "the kind is 'always', got 3.0"),
        ("testbed.availability.kind=sometimes", "testbed.availability.kind"),
        ("pace=fast", "pace must be 'virtual', or 'realtime(x)'"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, override: str, message: str) -> None:
    finished = in_process("run", "--out", str(tmp_path / "run"), "--set", override)

    assert finished.returncode == 2
    assert message in finished.stderr
    assert not (tmp_path / "run").exists()
