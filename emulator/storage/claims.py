"""Who writes into a folder of this machine. A claim ends with the process that holds it, however that ends."""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from emulator.errors import UserError
from emulator.storage.places import Place

MOST_DYING_S = 30.0
"""So long a process that was killed, or whose run was, may take to end."""
POLL_S = 0.2


class Claim:
    """One process's claim on a folder, which lies on the folder itself, so that it needs no file."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def __del__(self) -> None:
        self.release()

    def take(self, folder: Place) -> bool:
        """Claim ``folder``, which must be there; whether nobody else has.

        A storage, and a file system without locks, let everybody have a claim.
        """
        if not isinstance(folder, Path) or self._descriptor is not None:
            return True
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError:
            os.close(descriptor)
            return True
        self._descriptor = descriptor
        return True

    def take_within(self, folder: Place, limit_s: float, pause: Callable[[float], object]) -> None:
        """Claim ``folder``, which another process may be about to leave; ``pause`` waits for so many seconds.

        Raises:
            UserError: another process holds it for longer than ``limit_s``.
        """
        for _ in range(round(limit_s / POLL_S)):
            if self.take(folder):
                return
            pause(POLL_S)
        if not self.take(folder):
            raise UserError(
                f"another process is writing into this folder; wait for its end, or choose another: {str(folder)!r}"
            )

    def release(self) -> None:
        """Give the folder up; nothing where it is not held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)
