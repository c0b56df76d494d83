"""What a call of an actor gives or raises, as the rest of the emulator knows it."""

from typing import Any

import ray
from ray.exceptions import (
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from emulator.errors import UserError

DIED = (RayActorError, OutOfMemoryError)
"""What a call of a dead actor raises; the second one where Ray itself killed it to save the machine's memory."""
LOST = (*DIED, ObjectLostError)
"""What a call raises that ended with its actor, or whose result was lost with the actor's machine."""


def result(references: Any) -> Any:
    """``ray.get``, with a user's mistake, or a path that cannot be used, raised as itself rather than wrapped."""
    try:
        return ray.get(references)
    except (OutOfDiskError, ObjectStoreFullError) as error:
        raise full(error) from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, OutOfDiskError | ObjectStoreFullError):
            raise full(cause) from error
        if isinstance(cause, ObjectLostError):
            raise cause from error
        if isinstance(cause, UserError) or (isinstance(cause, OSError) and cause.filename is not None):
            raise cause from None
        raise


def full(error: Exception) -> UserError:
    """What to do where Ray has no more room for what a run shares."""
    return UserError(
        "Ray has no room left for models and updates: its object store is full, and so is the disk of its temporary "
        f"folder; free it, or set RAY_TMPDIR to a folder with more room ({first_line(error)})"
    )


def first_line(error: BaseException) -> str:
    """What ``error`` says, without the details and traces that Ray adds below."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
