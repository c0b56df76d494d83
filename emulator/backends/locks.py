"""Locks on files that end with the process that holds them, however it ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

POLL_S = 0.2


@contextmanager
def exclusive(path: Path, patience_s: float) -> Iterator[bool]:
    """Hold ``path``, which is created, for the block; gives False where another process held it for ``patience_s``."""
    with path.open("a") as file:
        deadline_s = time.monotonic() + patience_s
        while not (is_held := _locked(file, fcntl.LOCK_EX)) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        yield is_held


def hold_shared(path: Path) -> IO[str]:
    """Hold ``path`` together with others for as long as what comes back is open, that is, at most until this process
    ends."""
    file = path.open("a")
    _locked(file, fcntl.LOCK_SH)
    return file


def _locked(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: there is nothing to wait for
    return True
