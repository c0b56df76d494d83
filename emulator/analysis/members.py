"""The runs of a comparison: what distinguishes them from each other, and whether they may be compared at all."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.errors import UserError
from emulator.results.reader import RunFrames, SweepFrames

Value = bool | int | float | str | None

POLICY, SEED = "policy", "seed"

CHANGE_NO_RESULT = ("backend.", "results.", "pace")
"""Settings that move no figure of the tables."""

SAME_SETTINGS = (
    "training.enabled",
    "task.kind",
    "data.source",
    "data.test_source",
    "data.text_column",
    "data.label_column",
    "data.test_fraction",
    "data.n_test",
    "evaluation.every_rounds",
    "evaluation.device_fraction",
)
"""Settings that say what an accuracy is measured on and how often; one number of two of them means nothing."""

SAME_DATA = ("label_names", "n_test_examples")
"""What run.json says of the data beside them."""

SAME_FILES = {
    "cluster_sha256": "testbed.cluster",
    "availability_trace_sha256": "testbed.availability.trace",
    "profile_sha256": None,
    "link_sha256": None,
}
"""Digests of files in run.json: of the one that a setting names, or by their names. Files of one name must be equal."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Member:
    """A run of a comparison. ``settings`` are those in which the runs differ, always with ``policy`` and ``seed``.

    ``frames`` is None for a run that has written nothing yet.
    """

    name: str
    settings: Mapping[str, Value]
    status: str
    error: str | None
    frames: RunFrames | None


def members_of_sweep(sweep: SweepFrames) -> list[Member]:
    """All runs of a sweep, also those that were not started; they differ in its axes.

    Raises:
        UserError: a run is damaged.
    """
    return [
        Member(
            name=str(row["run"]),
            settings={axis: _plain(row[axis]) for axis in sweep.axes},
            status=str(row["status"]),
            error=row["error"],
            frames=sweep.run(str(row["run"])) if sweep.has_begun(str(row["run"])) else None,
        )
        for row in sweep.runs.to_dict("records")
    ]


def members_of_runs(runs: Sequence[RunFrames]) -> list[Member]:
    """Runs by themselves; they differ in those settings of ``run.json`` that are not the same in all of them."""
    settings = [_settings(run.info) for run in runs]
    keys = list(dict.fromkeys(key for own in settings for key in own))
    differing = [key for key in keys if len({own.get(key) for own in settings}) > 1]
    labels = _policy_labels(settings)
    return [
        Member(
            name=str(run.path),
            settings={POLICY: label, SEED: own.get(SEED)}
            | {key: own.get(key) for key in differing if key != SEED and not key.startswith(POLICY)},
            status=str(run.info["status"]),
            error=run.info.get("error"),
            frames=run,
        )
        for run, own, label in zip(runs, settings, labels, strict=True)
    ]


def check_comparable(members: Sequence[Member]) -> None:
    """Find out whether the figures of these runs mean the same.

    Raises:
        UserError: they were measured on other data or labels, evaluated in another way, or priced by other profiles of
            the same names; the message names the first difference and two runs.
    """
    seen: dict[str, tuple[str, Value]] = {}
    for member in members:
        if member.frames is None:
            continue
        for what, value in _facts(member.frames.info):
            other, before = seen.setdefault(what, (member.name, value))
            if before != value:
                raise UserError(
                    f"runs cannot be compared, they differ in {what}: {before!r} ({other}), {value!r} ({member.name}); "
                    "give runs of the same data, labels, evaluation and profiles"
                )


def _facts(info: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    settings = _settings(info)
    yield from ((key, settings[key]) for key in SAME_SETTINGS if key in settings)
    yield from ((key, _plain(info[key])) for key in SAME_DATA if key in info)
    for key, named_by in SAME_FILES.items():
        digests = {settings.get(named_by): info.get(key)} if named_by else info.get(key) or {}
        yield from ((f"{key} of {name}", _plain(digest)) for name, digest in digests.items() if digest is not None)


def _settings(info: Mapping[str, Any]) -> dict[str, Value]:
    """All settings of a run by key path, without those that change no result; at least the policy and the seed."""
    flat = dict(_flat(info.get("config") or {}))
    own = {POLICY: info.get(POLICY, flat.get("policy.path")), SEED: info.get(SEED)}
    left_out = ("policy.path", POLICY, SEED)
    return own | {
        key: value for key, value in flat.items() if key not in left_out and not key.startswith(CHANGE_NO_RESULT)
    }


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _policy_labels(settings: Sequence[Mapping[str, Value]]) -> list[str]:
    """The policy of each run, with those of its parameters in which the runs of this policy differ."""
    labels = []
    for own in settings:
        alike = [other for other in settings if other[POLICY] == own[POLICY]]
        names = dict.fromkeys(key for other in alike for key in other if key.startswith(f"{POLICY}."))
        differing = [name for name in names if len({other.get(name) for other in alike}) > 1]
        listed = ",".join(f"{name.removeprefix(f'{POLICY}.')}={own.get(name)}" for name in differing)
        labels.append(f"{own[POLICY]}({listed})" if listed else str(own[POLICY]))
    return labels


def _plain(value: Any) -> Value:
    """A value that can be compared and shown: numpy's numbers as Python's, null as None, lists and tables as JSON."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, sort_keys=True, default=str)
