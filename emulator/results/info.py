"""Reads run.json, and finds what is wrong with one that was damaged or edited by hand."""

import copy
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from emulator.errors import UserError
from emulator.results import schemas
from emulator.results.writer import INFO_FILE
from emulator.storage.places import Place, RemotePath, StorageError

MOST_ROUNDS = 2**31 - 1
"""As many as tables count."""
STATUSES = ("running", "finished", "failed", "interrupted")


class LaterVersionError(UserError):
    """A run was written by a later version of jetbed."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    # As far as tables can hold it.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


_TEXT, _INTEGER, _NUMBER = ("a text", _is_text), ("an integer", _is_integer), ("a number", _is_number)
_TABLE = ("a table of keys and values", _is_table)
_TEXTS = ("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))

_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "status": (f"one of {', '.join(STATUSES)}", lambda value: value in STATUSES),
    "error": _TEXT,
    "warning": _TEXT,
    "ended_by": _TEXT,
    "observer_failures": _TEXTS,
    "policy": _TEXT,
    "seed": _INTEGER,
    "trained_model": _TEXT,
    "base_model": _TABLE,
    "priced_model": _TEXT,
    "majority_accuracy": _NUMBER,
    "n_rounds": ("a number of rounds", lambda value: _is_integer(value) and 0 <= value <= MOST_ROUNDS),
    "wall_s": _NUMBER,
    "outside_known_range": _TABLE,
    "label_names": _TEXTS,
    "n_test_examples": _INTEGER,
    "config": _TABLE,
    "profile_sha256": _TABLE,
    "link_sha256": _TABLE,
}
"""What the readers of run.json rely on, where a run states it."""

_ONCE_EMPTY = (
    "testbed.link testbed.n_devices testbed.server_tflop_per_s testbed.availability.trace "
    "testbed.availability.mean_on_s testbed.availability.mean_off_s model.price_seq_len data.test_source "
    "data.separator data.configuration data.n_train data.n_test backend.hosts backend.devices_per_actor "
    "results.rounds_per_part policy.depth policy.cut"
).split()
"""Settings that earlier versions wrote as 0 or an empty text where they were not given, and that now are null."""


def read_info(folder: Place) -> dict[str, Any]:
    """The content of a run's ``run.json``; keys that readers rely on are of the types that a run writes, or null.

    Raises:
        UserError: the folder is no run, or the file is damaged.
        LaterVersionError: it was written by a later version.
    """
    path = folder / INFO_FILE
    info = read_json(path, f"not the folder of a run, it has no {INFO_FILE}: {str(folder)!r}")
    if not isinstance(info, dict) or not _is_integer(info.get("schema_version")):
        raise UserError(f"{path}: not the description of a run, it has no schema_version")
    if info["schema_version"] > schemas.SCHEMA_VERSION:
        raise LaterVersionError(
            f"{path}: written by a later version of jetbed; this one reads schema_version up to "
            f"{schemas.SCHEMA_VERSION}, upgrade it: {info['schema_version']!r}"
        )
    if info.get("status") is None:
        raise UserError(f"{path}: is damaged, it has no status")
    for key, (what, is_right) in _KINDS.items():
        value = info.get(key)
        if value is not None and not is_right(value):
            raise UserError(f"{path}: is damaged, {key} must be {what}, got {value!r}")
    if info.get("config"):
        info["config"] = _as_written_now(info["config"])
    return info


def _as_written_now(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run with null for what was not given, whichever version wrote them."""
    config = copy.deepcopy(config)
    # What 0 means to a policy from elsewhere is for that policy to say.
    is_built_in = ":" not in str(_table_at(config, ["policy"]).get("path"))
    for key in _ONCE_EMPTY:
        *parents, last = key.split(".")
        table = _table_at(config, parents)
        if last in table and not table[last] and (is_built_in or parents != ["policy"]):
            table[last] = None
    return config


def _table_at(config: dict[str, Any], parents: list[str]) -> dict[str, Any]:
    for parent in parents:
        inner = config.get(parent)
        config = inner if isinstance(inner, dict) else {}
    return config


def read_json(path: Place, missing: str) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it does not exist (then with the message ``missing``), cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(path, RemotePath):
            path.check_reachable()
        raise UserError(missing) from None
    except StorageError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")
