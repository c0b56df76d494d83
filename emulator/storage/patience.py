"""Writes that fail for want of what may come back: room on a disk, permission, a storage that is away for a minute."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from emulator.errors import LostError, UserError
from emulator.storage.places import Place, StorageError
from emulator.storage.refusals import errno_of, may_pass, mend_of, reason_of, unwritable

Result = TypeVar("Result")

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
"""Pauses between two attempts double from the first up to the longest."""


class Patience:
    """How a run deals with a disk or storage that takes nothing: it waits, says so, and tries again.

    Attributes:
        advice: what a user can do after a write was given up, such as ``'jetbed resume runs/first' goes on``; where it
            is empty, there is nothing to go on from.
    """

    def __init__(
        self,
        limit_s: float = 0.0,
        tell: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], object] = time.sleep,
        advice: str = "",
    ) -> None:
        """Wait for at most ``limit_s`` for one write; 0 never waits.

        ``tell`` is given sentences for the user. ``pause`` waits for so many seconds; what it raises ends the wait.
        """
        self.advice = advice
        self._limit_s = limit_s
        self._tell = tell
        self._pause = pause

    def end(self) -> None:
        """From now on nothing is waited for."""
        self._limit_s = 0.0

    def insist(self, write: Callable[[], Result], what: str, path: Place) -> Result:
        """Call ``write``, which may be called again after it has failed, until it succeeds; gives what it returns.

        Messages call what is written ``what``.

        Raises:
            LostError: it still fails after the limit, for what might have passed.
            UserError: it fails for another reason.
        """
        start_s, told, pause_s = 0.0, "", FIRST_PAUSE_S
        while isinstance(outcome := _tried(write), _Failure):
            error = outcome.error
            start_s = start_s or time.monotonic()  # an attempt may itself take seconds to fail
            left_s = self._limit_s - (time.monotonic() - start_s)
            if not may_pass(error):
                raise unwritable(path, what, error) from error
            if left_s <= 0:
                raise self._given_up(what, path, error) from error
            try:
                if (reason := reason_of(error)) != told:
                    told = reason
                    self._tell(
                        f"cannot write {what} ({reason}); {mend_of(path, error)}: it is tried again for {left_s:.0f} "
                        f"s, and all goes on by itself as soon as it can: {str(path)!r}"
                    )
                self._pause(min(pause_s, left_s))
            except BaseException:
                self.end()  # what is written on the way out must not wait either
                raise
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if told:
            self._tell(f"{what} can be written again after {time.monotonic() - start_s:.0f} s; all goes on")
        return outcome

    def _given_up(self, what: str, path: Place, error: Exception) -> LostError:
        often = f" for {self._limit_s:.0f} s" if self._limit_s else ""
        self.end()
        advice = f"{mend_of(path, error)}, then {self.advice or 'start it again'}"
        return LostError(f"cannot write {what} ({reason_of(error)}){often}: {str(path)!r}; {advice}")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a write has failed."""

    error: Exception


def _tried(write: Callable[[], Result]) -> Result | _Failure:
    try:
        return write()
    except UserError as error:
        if not isinstance(error, StorageError):
            raise
        return _Failure(error)
    except OSError as error:
        return _Failure(error)
    except Exception as error:
        if errno_of(error) is None:
            raise
        return _Failure(error)
