"""Runs whose devices come and go and do not wait for one another: the same bytes wherever they run, and true books."""

import hashlib
from pathlib import Path

import pytest

import emulator
from emulator.results import verify
from tests.integration.conftest import SMALL, jetbed, settings, small_run

UNSTEADY = (
    *SMALL,
    "testbed.availability.kind=on_off",
    "testbed.availability.mean_on_s=40",
    "testbed.availability.mean_off_s=10",
    "testbed.availability.drop_out_fraction=0.2",
)


def digests(run_dir: Path) -> dict[str, str]:
    tables = ("rounds", "devices", "activities")
    files = sorted(path for table in tables for path in (run_dir / table).glob("*.parquet"))
    return {str(path.relative_to(run_dir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("policy", [("fedbuff", "policy.buffer_size=4"), ("legend", "rounds=4")])
def test_unsteady_devices_give_the_same_bytes_on_ray_and_in_one_process(
    tmp_path: Path, policy: tuple[str, str]
) -> None:
    runs = [
        small_run(
            tmp_path / backend,
            *("--policy", policy[0], "--backend", backend, *hosts),
            rounds=4,
            overrides=[*UNSTEADY, policy[1]],
        )
        for backend, hosts in (("inline", ()), ("ray", ("--hosts", "2")))
    ]

    assert digests(runs[0]) == digests(runs[1])
    frames = emulator.load(runs[0])
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
    finished = jetbed("run", "--rounds", "500", "--out", "run", *settings(overrides), cwd=tmp_path)

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
    finished = jetbed("run", "--out", str(tmp_path / "run"), "--set", override)

    assert finished.returncode == 2
    assert message in finished.stderr
    assert not (tmp_path / "run").exists()
