"""Whatever is printed can be shown, and a full or closed output is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAY = "from emulator.report.terminal.streams import prepare_streams; prepare_streams(); print('5 ± 1 × µ ▁█ 猫')"
JETBED = [sys.executable, "-m", "emulator.cli"]


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "5 +- 1 x u .# ?"), ("latin-1", "5 ± 1 × µ .# ?"), ("utf-8", "5 ± 1 × µ ▁█ 猫")],
)
def test_a_character_that_the_encoding_lacks_falls_back(encoding: str, shown: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SAY], env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True
    )

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode(encoding) == f"{shown}\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["devices"], ["run", "--print-config"], ["policies", "--json"], ["--help"]])
def test_a_full_output_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*JETBED, *command], stdout=full, stderr=subprocess.PIPE, text=True)

    assert ended.returncode == 1
    assert ended.stderr == "jetbed: standard output cannot be written to (No space left on device)\n"


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_a_command_in_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as nobody:
        ended = subprocess.run([*JETBED, "policies"], stdout=nobody, stderr=subprocess.PIPE, text=True)

    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
def test_a_run_that_nobody_hears_is_finished_all_the_same(tmp_path: Path) -> None:
    settings = ["training.enabled=false", "testbed.n_devices=2", "rounds=1", "policy.path=fedlora"]
    options = [part for setting in settings for part in ("--set", setting)]
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*JETBED, "run", *options, "--out", tmp_path / "run"], stdout=full, stderr=full)

    assert ended.returncode == 0
    assert '"status": "finished"' in (tmp_path / "run" / "run.json").read_text()
