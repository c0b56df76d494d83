"""``jetbed import``: what it writes can be run, and what is wrong is told in one line."""

from pathlib import Path

import pytest

from emulator.config import AvailabilityConfig
from emulator.importing.kinds import IMPORT_KINDS
from emulator.running.inputs import availability_of
from emulator.seeds import Seeds
from tests.command_line import in_process


def test_an_imported_trace_is_replayed(tmp_path: Path) -> None:
    (tmp_path / "phones.json").write_text('{"1": {"active": [10], "inactive": [40], "finish_time": 100}}')

    done = in_process("import", "fedscale", "phones.json", "--out", "phones.csv", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "an availability trace: 1 devices, 1 spans over 40 s" in done.stdout
    config = AvailabilityConfig(
        kind="trace", trace=str(tmp_path / "phones.csv"), trace_loop=True, trace_period_s=100.0, trace_offset_s=30.0
    )
    availability = availability_of(config, 1, Seeds(0))
    assert availability.until_s(0.0).tolist() == [10]
    assert availability.next_s(10.0) == 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gps", "log.txt"], "KIND must be one of fedscale, flhetbench, colext, mahimahi, throughput, got 'gps'"),
        (["mahimahi", "nowhere"], "there is no such file"),
        (["mahimahi", "log.txt", "--unit", "Mb/s"], "--unit is not for 'mahimahi', whose options are: --window-s"),
        (["mahimahi", "log.txt", "--window-s", "0"], "--window-s must be 0.001 to 1,000,000 seconds, got 0.0"),
        (["throughput", "log.txt", "--unit", "mbit"], "--unit must be one of b/s, kb/s, Mb/s"),
        (["throughput", "log.txt", "--only", "run"], "--only must be COLUMN=VALUE"),
        (["throughput", "log.txt"], "must be a time in s and a rate"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "log.txt").write_text("1\n2\n")

    refused = in_process("import", *arguments, "--out", "made.txt", cwd=tmp_path)

    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "made.txt").exists()


def test_the_recording_itself_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("1\n2000\n")

    refused = in_process("import", "mahimahi", "log.txt", "--out", "./log.txt", cwd=tmp_path)

    assert refused.returncode == 2
    assert (tmp_path / "log.txt").read_text() == "1\n2000\n"


def test_help_names_every_kind() -> None:
    said = " ".join(in_process("import", "--help").stdout.split())

    assert all(kind in said for kind in IMPORT_KINDS)
