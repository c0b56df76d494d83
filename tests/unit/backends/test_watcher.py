"""What a process leaves behind is ended by its watcher, and nothing else is."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from emulator.backends import watcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the watcher reads /proc")

SLEEPS = "import time; time.sleep(300)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEPS}"
DRIVER = """
    import subprocess, sys, time
    from pathlib import Path
    from emulator.backends.watcher import nothing_left_behind
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[2]]); time.sleep(300)"
    with nothing_left_behind(Path(sys.argv[1])):
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        subprocess.Popen([sys.executable, "-c", parent, sys.argv[1] + "/session_1", sys.argv[2]], **quiet)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "a stranger"], **quiet)
        time.sleep(2.5)  # so that the watcher has looked
        print("ready", flush=True)
        sys.stdin.read()
"""


@contextmanager
def sleeping(code: str = SLEEPS) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if code == DEAF:
            process.stdout.readline()
        yield process
        process.kill()


def known(process: subprocess.Popen[bytes]) -> watcher.Process:
    seen = watcher._stat(process.pid)
    assert seen is not None
    return watcher.Process(process.pid, seen[1])


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "GRACE_S", 0.2)
    monkeypatch.setattr(watcher, "TERMINATED_S", 0.5)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize(("code", "status"), [(SLEEPS, -signal.SIGTERM), (DEAF, -signal.SIGKILL)])
def test_who_does_not_end_is_told_to_and_then_killed(code: str, status: int) -> None:
    with sleeping(code) as process:
        watcher._end({process.pid: known(process)})
        assert process.wait(10) == status


@pytest.mark.usefixtures("_hasty")
def test_a_process_that_came_to_bear_the_same_id_is_left_alone() -> None:
    with sleeping() as process:
        other = replace(known(process), start=known(process).start - 1)
        watcher._end({process.pid: other})
        assert process.poll() is None


@pytest.mark.usefixtures("_hasty")
def test_what_the_known_have_started_since_is_ended_with_them() -> None:
    code = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', '{SLEEPS}']).pid, flush=True)"
    with sleeping(f"{code}; time.sleep(300)") as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        watcher._end({process.pid: known(process)})
        assert process.wait(10) == -signal.SIGTERM
        child.wait(10)


def test_a_process_that_has_ended_and_waits_for_its_parent_counts_as_ended() -> None:
    with sleeping() as process:
        seen = known(process)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert watcher._still({process.pid: seen}) == {}


@pytest.mark.slow
@pytest.mark.parametrize("dies", [True, False])
def test_what_names_the_folder_ends_with_the_process_or_with_the_block(tmp_path: Path, dies: bool) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path), DEAF],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    family = psutil.Process(driver.pid).children(recursive=True)
    (stranger,) = (each for each in family if "a stranger" in each.cmdline())
    try:
        assert len(family) == 4, "the watcher, a parent and its child, and a stranger"
        if dies:
            driver.kill()
        driver.communicate(timeout=30)
        _, alive = psutil.wait_procs([each for each in family if each != stranger], timeout=30)
        assert alive == []
        assert stranger.is_running()
    finally:
        for process in family:
            if process.is_running():
                process.kill()
