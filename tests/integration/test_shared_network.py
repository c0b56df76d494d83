"""Whole runs on a network that is shared and changes: books balance, bytes repeat, contention costs time."""

from pathlib import Path

import pytest

import emulator
from emulator.results import verify
from tests.integration.conftest import digests, small_run

CLUSTER = """
inherits = "jetson80-shared-wifi"
link = "walk.toml"

[access_points]
count = 2
consecutive_devices = 4
mbit_per_s = 10

[server]
egress_mbit_per_s = 15
ingress_mbit_per_s = 15

[provenance.all]
covers = ["access_points", "server"]
kind = "assumed"
source = "a test"
"""
LINK = """
kind = "trace"
format = "time_rate"
download = "walk.txt"
upload = "walk.txt"
latency_ms = 20
loss_fraction = 0.05

[provenance.all]
covers = ["latency_ms", "loss_fraction", "download", "upload"]
kind = "assumed"
source = "a test"
"""
OVERRIDES = ("testbed.n_devices=16", "training.enabled=false")


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    (tmp_path / "walk.txt").write_text("".join(f"{second} {1 + second * 7 % 20}\n" for second in range(60)))
    (tmp_path / "walk.toml").write_text(LINK)
    (tmp_path / "mine.toml").write_text(CLUSTER)
    return tmp_path / "mine.toml"


def test_books_balance_and_the_same_seed_gives_the_same_bytes(cluster: Path, tmp_path: Path) -> None:
    overrides = (*OVERRIDES, f"testbed.cluster={cluster}")
    first, second = (small_run(tmp_path / name, overrides=overrides) for name in ("first", "second"))

    frames = emulator.load(first)
    verify(frames)
    assert digests(first) == digests(second)
    # The two access points carry 20 Mb/s, the server 15, and a twentieth is sent twice.
    devices = frames.devices
    seconds = devices.groupby("round_index")["download_s"].max()
    sent_bytes = devices.groupby("round_index")["download_bytes"].sum() / 0.95
    assert (seconds >= sent_bytes / (15e6 / 8)).all()


def test_where_capacity_is_ample_sharing_changes_nothing_but_last_bits(cluster: Path, tmp_path: Path) -> None:
    ample = CLUSTER.replace("mbit_per_s = 10\n", "mbit_per_s = 1e6\n").replace(
        "mbit_per_s = 15\n", "mbit_per_s = 1e6\n"
    )
    alone = ample[: ample.index("[access_points]")].replace("jetson80-shared-wifi", "jetson80")
    ends = []
    for name, text in (("ample", ample), ("alone", alone)):
        cluster.with_stem(name).write_text(text)
        overrides = (*OVERRIDES, f"testbed.cluster={cluster.with_stem(name)}")
        ends.append(emulator.load(small_run(tmp_path / name, overrides=overrides)).activities["end_s"].to_numpy())

    assert ends[0] == pytest.approx(ends[1], abs=1e-9)
