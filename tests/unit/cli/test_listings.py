"""What a board draws by how busy it is stands beside its other figures, where its profile says so."""

import re
from pathlib import Path

import pytest

import device_profiles
from tests.command_line import in_process


def test_the_parts_of_a_power_law_are_shown_by_mode() -> None:
    text = in_process("devices", "jetson_agx_orin_64gb").stdout
    shown = text.partition("power law, W")[2]
    (maxn,) = [line.split() for line in shown.splitlines() if line.split()[:1] == ["MAXN"]]
    assert maxn == ["MAXN", "22.5", "41.7", "20.9", "10"]


def test_a_board_of_one_constant_has_no_such_table() -> None:
    assert "power law" not in in_process("devices", "jetson_tx2").stdout


def test_a_file_is_shown_for_what_it_is_however_it_is_named(tmp_path: Path) -> None:
    link = tmp_path / "mine.toml"
    link.write_bytes((Path(device_profiles.__file__).parent / "links" / "constant-8mbit.toml").read_bytes())
    shown = [in_process("devices", each) for each in (str(link), f"file://{link}")]
    assert [(each.returncode, each.stderr) for each in shown] == [(0, "")] * 2
    assert "download_mbit_per_s" in shown[0].stdout
    assert shown[0].stdout == shown[1].stdout


def test_what_there_is_not_is_answered_with_what_can_be_given() -> None:
    answer = in_process("devices", "mine.txt")
    assert answer.returncode == 2
    assert "'mine.txt'; there are: jetson_agx_orin_32gb" in answer.stderr
    assert "or give the path of a TOML file" in answer.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'rounds = 3\n[testbed]\ncluster = "jetbed8"\n',
            r"mine.toml: this is the configuration of a run, .* its cluster is shown by jetbed devices jetbed8, and",
        ),
        ("[server]\n[policy]\n", "this is the configuration of a run, .* jetbed devices jetson80, and"),
        ("[axes]\nseed = [0, 1]\n", "mine.toml: this is a sweep file, .* it is carried out by jetbed sweep "),
        (
            'kind = "systems"\n',
            "mine.toml: kind must be one of .*roaming, system, swap; did you mean system.*, got 'systems'",
        ),
        ("kind = 3\n", "kind must be one of .*, got 3"),
        ("inherits = 3\n[server]\n", "inherits must be a text, got 3"),
    ],
)
def test_a_file_of_another_kind_is_said_to_be_one(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    answer = in_process("devices", str(path))
    assert (answer.returncode, answer.stdout) == (2, "")
    assert re.search(message, answer.stderr)
