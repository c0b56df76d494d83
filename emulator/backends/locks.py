"""Locks on files that end with the process that holds them, however it ends, and what storages have in their place.

A storage behind a URL has no locks. There whoever writes into a folder keeps a file of its own in it, under a name that
nobody else uses, and renews it. Such storages list at once what was written, so that of two that come together at least
the later one sees the other, and goes. A file that was not renewed for long is that of a process that has died.

What this cannot do: who stands still for longer than :data:`DEAD_AFTER_S`, such as on a laptop that sleeps, loses the
folder, and may write what it was about to write when it wakes up, before it is told.
"""

import fcntl
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from emulator.errors import UserError
from emulator.storage.claims import MOST_DYING_S, Claim
from emulator.storage.places import OWNER_PREFIX, Place, RemotePath, StorageError
from emulator.storage.refusals import unwritable

POLL_S = 0.2
RENEW_S = 5.0
"""How often an owner's file is written anew."""
DEAD_AFTER_S = 30.0
"""An owner that has not done so for this long is dead."""
_OWNS = b"owner"
"""What an owner's file holds; the file of one that only asks whether there is an owner is empty."""


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


@contextmanager
def owned(folder: Place, tell: Callable[[str], None]) -> Iterator[None]:
    """Nobody else writes into ``folder`` of a storage during the block; on this machine, nobody does as it begins.

    There whoever writes has a claim on it, which may be a process that this one starts. Where a process has died a
    moment ago, ``owned`` says so with ``tell``, and waits until that is certain.

    Raises:
        UserError: another process writes there, or took the folder over; or the storage cannot be written.
    """
    if isinstance(folder, Path):
        _await_claim(folder, tell)
        yield
        return
    owner = _Owner(folder)
    renewal = threading.Thread(target=owner.renew, name="owner", daemon=True)
    try:
        owner.claim(tell)
        renewal.start()
        yield
    finally:
        owner.release()
    renewal.join()
    if owner.is_lost:
        raise UserError(f"another process has taken over this folder while this one stood still: {str(folder)!r}")


def _await_claim(folder: Path, tell: Callable[[str], None]) -> None:
    """Wait until nobody has a claim on ``folder`` any more."""
    claim = Claim()
    try:
        if folder.is_dir() and not claim.take(folder):
            tell(f"another process is writing here; it is given {MOST_DYING_S:.0f} s to end")
            claim.take_within(folder, MOST_DYING_S, time.sleep)
    finally:
        claim.release()


class _Owner:
    """One process's claim on a folder."""

    def __init__(self, folder: RemotePath) -> None:
        self._folder = folder
        self._file = folder / f"{OWNER_PREFIX}{uuid.uuid4().hex[:12]}"
        self._is_over = threading.Event()
        self.is_lost = False

    def claim(self, tell: Callable[[str], None]) -> None:
        """Wait until nobody else is there, and be the one who is."""
        seen: dict[str, float] = {}
        while others := self._others():
            # Not there while it waits, so that two who wait do not wait for each other.
            self._file.unlink(missing_ok=True)
            renewed = (name for name, modified_s in others.items() if modified_s > seen.get(name, modified_s))
            if any(self._is_owner(name) for name in renewed):
                raise UserError(
                    "another process is writing into this folder; wait for its end, or choose another: "
                    f"{str(self._folder)!r}"
                )
            if not seen:
                tell(f"another process has been writing here; it is given {DEAD_AFTER_S:.0f} s to show that it lives")
            seen = others | seen
            time.sleep(RENEW_S / 4 * (1 + random.random()))
        self._write(_OWNS)

    def _is_owner(self, name: str) -> bool:
        """Whether that file is of one that has the folder: two that ask do not refuse each other."""
        try:
            return (self._folder / name).read_bytes() == _OWNS
        except FileNotFoundError:
            return False

    def _others(self) -> dict[str, float]:
        """Who else is alive, and when it said so, by the clock of the storage; the files of the dead are removed."""
        self._write(b"")
        now_s = self._file.modified_s()
        alive: dict[str, float] = {}
        for other in self._folder.glob(f"{OWNER_PREFIX}*"):
            with suppress(FileNotFoundError):  # it has just gone
                if other == self._file:
                    continue
                if now_s - (modified_s := other.modified_s()) > DEAD_AFTER_S:
                    other.unlink(missing_ok=True)
                else:
                    alive[other.name] = modified_s
        return alive

    def renew(self) -> None:
        """Show again and again that this process lives, until it has ended, or another does not believe it any more."""
        while not self._is_over.wait(RENEW_S):
            # A storage that is away for a while may be there again the next time.
            with suppress(StorageError):
                if not self._file.exists():
                    self.is_lost = True
                    return
                self._write(_OWNS)

    def release(self) -> None:
        self._is_over.set()
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _write(self, content: bytes) -> None:
        try:
            self._file.write_bytes(content)
        except OSError as error:
            raise unwritable(self._folder, "results", error) from error
