"""Every command that a page shows is one that jetbed has, with options and arguments that it takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from emulator.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name / "README.md" for name in ("policies", "device_profiles")),
]
USAGE_ERRORS = ("BadParameter", "MissingParameter", "NoSuchOption", "UsageError")
JETBED: Any = typer.main.get_command(app)


def commands(page: str) -> Iterator[str]:
    """The lines of a page's blocks that call jetbed, without what leads up to it or follows as a comment."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
        for line in [] if language else block.splitlines():
            if called := re.search(r"^(?:\w+=\S+ |.+ && )?jetbed ([a-z].*?)(?:\s+#.*)?$", line):
                yield called[1]


def is_taken(command: str) -> bool:
    """Whether the command line takes ``command``; it is not run."""
    name, *arguments = shlex.split(command)
    if name not in JETBED.commands:
        return False
    try:
        JETBED.commands[name].make_context(name, arguments)
    except SystemExit:
        return True  # --help and the like
    except Exception as error:  # click's, which typer may bring along under another name
        if type(error).__name__ not in USAGE_ERRORS:
            raise
        return False
    return True


def documented() -> list[str]:
    return sorted({command for page in PAGES for command in commands(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("command", documented())
def test_a_documented_command_is_taken(command: str) -> None:
    assert is_taken(command)


def test_commands_of_all_kinds_are_documented() -> None:
    assert {command.split()[0] for command in documented()} == set(JETBED.commands)


@pytest.mark.parametrize("command", ["fly", "run --no-such-option", "compare", "run --rounds many"])
def test_a_command_that_is_not_taken_is_found(command: str) -> None:
    assert not is_taken(command)
