"""What the command line makes of an error: one sentence and exit status 2, or a traceback where it is no mistake."""

import re
import sys
from pathlib import Path

import pytest

from emulator.cli import main
from emulator.errors import UserError
from emulator.results.version import VERSION

LONG = "a" * 300


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["jetbed", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["summary", LONG],
        ["compare", LONG],
        ["report", LONG, "--out", "report.html"],
        ["timeline", LONG, "--out", "trace.json"],
        ["validate", f"{LONG}.toml"],
        ["price", f"{LONG}.toml"],
        ["price", "jetson_tx2", "--model", f"./{LONG}"],
        ["calibrate", "--out", f"{LONG}.toml"],
        ["run", f"{LONG}.toml"],
        ["run", "--set", f"testbed.cluster={LONG}.toml"],
        ["run", "--backend", "inline", "--set", f"data.source={LONG}.csv"],
        ["run", "--backend", "inline", "--set", f"model.train=./{LONG}"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long_for_a_file_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: object, arguments: list[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    message = refused(monkeypatch, capsys, *arguments)
    assert message.startswith("jetbed: ")
    assert LONG in message
    assert len(message.splitlines()) == 1


def test_a_message_of_many_lines_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise UserError("one\ntwo")

    monkeypatch.setattr(main, "app", fail)
    assert refused(monkeypatch, capsys) == "jetbed: one two\n"


@pytest.mark.parametrize("error", [OSError("not about a file"), KeyError("bug")])
def test_what_is_no_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(type(error)):
        main.main()


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["jetbed", "--version"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"jetbed {VERSION}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--rounds", "0"], "jetbed: --rounds: input should be greater than 0, got 0"),
        (["run", "--hosts", "-1"], "jetbed: --hosts: input should be greater than 0, got -1"),
        (["run", "--set", "rounds=0"], "jetbed: --set: rounds: input should be greater than 0, got 0"),
        (["run", "sweep.toml"], "sweep.toml: this is a sweep file, .* use: jetbed sweep sweep.toml"),
        (["doctor", "sweep.toml"], "sweep.toml: this is a sweep file, .* use: jetbed sweep sweep.toml"),
        (["sweep", "run.toml"], "run.toml: this is the configuration of one run, .* use: jetbed run run.toml"),
        (["sweep", "sweep.toml", "--hosts", "2"], "jetbed: --hosts: the sweep varies backend.hosts"),
        (["run", "~/nowhere.toml"], "there is no configuration file '{home}/nowhere.toml'"),
        (["run", "latin.toml"], "latin.toml: is not UTF-8 \\(line 2 has the byte 0xe9\\); .*: convert it with iconv"),
        (
            ["run", "--set", "testbed.availability.origin_s=soon"],
            "origin_s: input should be a valid number or input should be 'first', got 'soon'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_the_words_of_what_was_given(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sweep.toml").write_text("[axes]\nbackend.hosts = [1, 2]\n")
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfrounds = 2\n")
    (tmp_path / "latin.toml").write_bytes(b"rounds = 2\npolicy.path = '\xe9'\n")
    assert re.search(message.replace("{home}", str(tmp_path)), refused(monkeypatch, capsys, *arguments))
