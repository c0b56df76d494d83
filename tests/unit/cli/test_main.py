"""What the command line makes of an error: one sentence and exit status 2, or a traceback where it is no mistake."""

import sys

import pytest

from emulator.cli import main
from emulator.errors import UserError

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
