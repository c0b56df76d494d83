"""The errors that a user can cause; the command line prints them without a traceback and exits with status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave cannot be used. The message says what, where, what is allowed and what to do."""


class ConfigError(UserError):
    """A key or value of a configuration, a cluster file or a command-line option is wrong."""


class DataError(UserError):
    """A data set or model cannot be read, or does not hold what was asked of it."""


class ShortageError(DataError):
    """A data set has fewer examples than there are devices."""


class LostError(UserError):
    """What a run needs was taken from it: its hosts, its coordinator or its storage. The run itself can go on."""


class PlanError(UserError):
    """A policy planned something impossible. The message names the policy, the round and the device."""


class PolicyError(UserError):
    """A policy's own code raised something. The message names the policy, the method, the round and the line."""


class AggregationError(UserError):
    """A policy aggregated to something that is no server state. The message names the policy and the round."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """A hint such as ``; did you mean rank_range?``, or nothing when no allowed word is close to the given one."""
    close = difflib.get_close_matches(given, list(allowed), n=1)
    return f"; did you mean {close[0]}?" if close else ""
