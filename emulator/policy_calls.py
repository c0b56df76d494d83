"""Around every call of a policy's code: what it raises becomes one message that says where."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from emulator.errors import PolicyError, UserError

if TYPE_CHECKING:
    from emulator.policy.base import Policy


def call_site(policy: Policy, round_index: int) -> str:
    """Where a policy is called, such as ``policies.legend:Legend, round 3``."""
    return f"{type(policy).__module__}:{type(policy).__qualname__}, round {round_index}"


@contextmanager
def calling(policy: Policy, method: str, round_index: int) -> Iterator[None]:
    """Runs a block that calls ``method`` of the policy.

    Raises:
        PolicyError: the policy raised an exception of any kind but a :class:`~emulator.errors.UserError`, or wanted to
            end the process.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise PolicyError(
            f"{call_site(policy, round_index)}: {method}() raised {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno})"
        ) from error
