"""The command line as tests call it: in their own process, in one that ends, or in one to be watched and stopped."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from emulator.cli import main

Finished = subprocess.CompletedProcess[str]


def jetbed(*arguments: str, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the command line in a process of its own, with ``environment`` on top of that of the tests."""
    return subprocess.run(
        [sys.executable, "-m", "emulator.cli", *arguments],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "100"} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def in_process(*arguments: str, cwd: Path | None = None, n_columns: int = 100) -> Finished:
    """As :func:`jetbed`, but in this process, which has loaded everything; what is no mistake of a user's is raised.

    ``n_columns`` is the width of the terminal.
    """
    out, err, loaded = io.StringIO(), io.StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["jetbed", *arguments])
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("COLUMNS", str(n_columns))
        if cwd:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            main.main()
    # Another test may have a policy of its own in a module of the same name.
    for name in set(sys.modules) - loaded:
        if cwd and str(getattr(sys.modules[name], "__file__", None)).startswith(str(cwd)):
            del sys.modules[name]
    assert ended.value.code is None or isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def started(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process group of its own, with a standard error to read; it does not outlast the block.

    Tests may run under nohup or in the background, which ignore SIGHUP or SIGINT here and in all children.
    """

    def heed() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "emulator.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "100"} | (environment or {}),
        start_new_session=True,
        preexec_fn=heed,
    )
    try:
        yield process
    finally:
        process.kill()  # nothing where it has ended
        process.wait()
        # Not read to its end: what the process has started may hold the other end for a while.
        assert process.stderr is not None
        process.stderr.close()


def settings(overrides: Sequence[str]) -> list[str]:
    return [argument for override in overrides for argument in ("--set", override)]
