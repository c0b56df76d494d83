"""Compares groups of runs: every metric as a mean over seeds with its interval, and as a paired ratio to a baseline."""

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from emulator.analysis.costs import best_score, kind_of_task, quoted_score
from emulator.analysis.devices import MEMORY_COLUMNS, POWER_COLUMNS, without_power
from emulator.analysis.members import POLICY, SEED, Member, check_comparable, members_of_runs, members_of_sweep
from emulator.analysis.metrics import NO_TARGET_NO_BUDGETS, Metric, Question, measure, metrics_of
from emulator.analysis.statistics import mean_over_seeds, paired_ratio
from emulator.errors import UserError, did_you_mean
from emulator.objective.scores import SCORES, Score
from emulator.results.reader import RunFrames, SweepFrames


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Comparison:
    """Runs, measured and grouped.

    Attributes:
        question: the score, the target and budgets; ``question.target`` is None where no run has such a score.
        is_target_given: whether the target was asked for; otherwise it is the best score that all finished runs reach
            (all runs, as long as none is finished).
        by: the settings that make a group.
        baselines: for each group the group that its ratios are relative to; empty without a baseline.
        runs: one row per run: ``run``, ``group``, its settings, ``status``, ``error``, and each metric by its name, NaN
            where the run does not tell it.
        groups: one row per group and metric: ``group``, the settings that make it, ``metric``, ``unit``; ``n_runs`` of
            the group, ``n_unfinished`` of these, ``n_values``, the runs that tell this metric; over these ``mean``,
            ``low`` and ``high``; ``baseline``, ``n_pairs``, ``ratio``, ``ratio_low`` and ``ratio_high``.
        without_power: for each group in whose energy some boards are missing, since their profiles have no power
            figures, the names of these.
    """

    question: Question
    is_target_given: bool
    by: tuple[str, ...]
    baselines: Mapping[str, str]
    runs: pd.DataFrame
    groups: pd.DataFrame
    without_power: Mapping[str, tuple[str, ...]]

    @property
    def score(self) -> Score:
        """What the runs are measured by."""
        return SCORES[self.question.measured_by]


def compare(
    runs: SweepFrames | RunFrames | Sequence[RunFrames],
    question: Question = NO_TARGET_NO_BUDGETS,
    *,
    baseline: str | None = None,
    by: Sequence[str] | None = None,
) -> Comparison:
    """Compare a sweep, or runs by themselves.

    Runs that agree in the settings ``by`` are a group; by default these are all settings in which the runs differ, but
    for the seed. A run that failed, was interrupted or goes on counts with the rounds that it has done.

    Args:
        runs: as :func:`emulator.load` gives them.
        question: the score, the target and budgets; without a target it is the best score that all finished runs
            reach, and without a score the one that people quote of such runs.
        baseline: the name of a group, or a policy. Of a policy that has several groups, each group is compared with the
            one that has its other settings.
        by: names of settings.

    Raises:
        UserError: there are no runs, they cannot be compared, two have the same settings and seed, or there is no such
            setting or baseline.
    """
    members = _members(runs)
    check_comparable(members)
    names = [name for name in members[0].settings if name != SEED]
    by = tuple(names) if by is None else _checked_by(by, names)
    short = _short_policies(member.settings.get(POLICY) for member in members)
    labels = [
        group_label({name: short[member.settings[name]] if name == POLICY else member.settings[name] for name in by})
        for member in members
    ]
    _check_distinct(members, labels, by)
    tables = [None if member.frames is None else member.frames.rounds for member in members]
    begun = next((member.frames for member in members if member.frames is not None), None)
    kind = kind_of_task(begun.info) if begun else None
    question = replace(question, score=question.score or quoted_score(tables, kind))
    is_target_given = question.target is not None
    if not is_target_given:
        question = replace(question, target=_common_target(members, tables, question.measured_by))
    measured = []
    lacking: dict[str, set[str]] = {}
    for member, label, rounds in zip(members, labels, tables, strict=True):
        row, without = _row(member, label, rounds, question)
        measured.append(row)
        if without:
            lacking.setdefault(label, set()).update(without)
    keys: dict[str, Mapping[str, Any]] = {
        label: {name: member.settings[name] for name in by} for member, label in zip(members, labels, strict=True)
    }
    baselines = {} if baseline is None else _baselines(baseline, keys)
    return Comparison(
        question=question,
        is_target_given=is_target_given,
        by=by,
        baselines=baselines,
        runs=pd.DataFrame(measured).assign(error=pd.Series([member.error for member in members], dtype=object)),
        groups=_groups(members, labels, measured, keys, baselines, metrics_of(question.measured_by)),
        without_power={label: tuple(sorted(types)) for label, types in lacking.items()},
    )


def group_label(settings: Mapping[str, Any]) -> str:
    """What a group is called: its policy, then its other settings, such as ``mine, alpha=0.1``."""
    parts = [str(value) if name == POLICY else f"{name.split('.')[-1]}={value}" for name, value in settings.items()]
    return ", ".join(parts) or "all"


def _short_policies(policies: Iterable[Any]) -> dict[Any, Any]:
    """For each policy its name in a group: of one that is given by import path the class alone, if no other has it."""
    short = {policy: re.sub(r"^[^:(]*:", "", policy) if isinstance(policy, str) else policy for policy in policies}
    counts = Counter(short.values())
    return {policy: name if counts[name] == 1 else policy for policy, name in short.items()}


def _members(runs: SweepFrames | RunFrames | Sequence[RunFrames]) -> list[Member]:
    if isinstance(runs, SweepFrames):
        members = members_of_sweep(runs)
    else:
        members = members_of_runs([runs] if isinstance(runs, RunFrames) else list(runs))
    if not members:
        raise UserError("there are no runs to compare")
    return members


def _checked_by(by: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    for name in by:
        if name not in names:
            hint = did_you_mean(name, names) or ";"
            raise UserError(f"runs are grouped by settings in which they differ{hint} {', '.join(names)}; got {name!r}")
    return tuple(dict.fromkeys(by))


def _pair_key(member: Member, by: Sequence[str]) -> Hashable:
    """What a run shares with those that it is paired with: the seed, and all settings that make no group."""
    return tuple((name, value) for name, value in member.settings.items() if name not in by)


def _check_distinct(members: Sequence[Member], labels: Sequence[str], by: Sequence[str]) -> None:
    seen: dict[Hashable, str] = {}
    for member, label in zip(members, labels, strict=True):
        key = (label, _pair_key(member, by))
        if key in seen:
            raise UserError(
                "two runs have the same settings and the same seed, so that they would count twice; leave one out: "
                f"{seen[key]!r} and {member.name!r}"
            )
        seen[key] = member.name


def _common_target(members: Sequence[Member], tables: Sequence[pd.DataFrame | None], score: str) -> float | None:
    best = [
        (member.status, best_score(rounds, score))
        for member, rounds in zip(members, tables, strict=True)
        if rounds is not None
    ]
    known = [(status, value) for status, value in best if value is not None]
    finished = [value for status, value in known if status == "finished"]
    values = finished or [value for _, value in known]
    return SCORES[score].worst(values) if values else None


def _row(
    member: Member, label: str, rounds: pd.DataFrame | None, question: Question
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The figures of a run, and its device types without power figures."""
    values: dict[str, float | None] = dict.fromkeys(metrics_of(question.measured_by))
    without: tuple[str, ...] = ()
    if member.frames is not None and rounds is not None:
        devices = member.frames.read("devices", tuple(dict.fromkeys(MEMORY_COLUMNS + POWER_COLUMNS)))
        values, without = measure(rounds, devices, question), without_power(devices)
    numbers = {name: float("nan") if value is None else value for name, value in values.items()}
    about = {
        "run": member.name,
        "group": label,
        **_in_columns(member.settings),
        "status": member.status,
        "error": member.error,
    }
    return about | numbers, without


def _in_columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as columns can have them: an integer that no float can hold, as damaged files have, becomes a text."""
    return {
        name: str(value) if isinstance(value, int) and abs(value) >= 2**63 else value
        for name, value in settings.items()
    }


def _baselines(baseline: str, keys: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each group the one that it is compared with."""
    policies = list(dict.fromkeys(str(settings[POLICY]) for settings in keys.values() if POLICY in settings))
    # A policy may have been given parameters, which belong to its name here; without them it means the only such one.
    named = [policy for policy in policies if policy == baseline] or [
        policy for policy in policies if policy.partition("(")[0] == baseline
    ]
    if baseline in keys:
        candidates = [baseline]
    elif len(named) > 1:
        raise UserError(
            f"the baseline {baseline!r} is a policy with several settings here, give one of: {_quoted(named)}"
        )
    else:
        candidates = [label for label, settings in keys.items() if named and str(settings.get(POLICY)) == named[0]]
    if not candidates:
        hint = did_you_mean(baseline, keys) or ";"
        raise UserError(
            f"the baseline {baseline!r} is neither a group nor a policy{hint} the groups are: {_quoted(keys)}"
        )
    if len(candidates) == 1:
        return dict.fromkeys(keys, candidates[0])
    others = {label: {name: value for name, value in keys[label].items() if name != POLICY} for label in keys}
    matches = {label: [other for other in candidates if others[other] == others[label]] for label in keys}
    return {label: found[0] for label, found in matches.items() if found}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _groups(
    members: Sequence[Member],
    labels: Sequence[str],
    measured: Sequence[Mapping[str, Any]],
    keys: Mapping[str, Mapping[str, Any]],
    baselines: Mapping[str, str],
    metrics: Mapping[str, Metric],
) -> pd.DataFrame:
    by = list(next(iter(keys.values())))
    values: dict[str, dict[str, dict[Hashable, float]]] = {label: {name: {} for name in metrics} for label in keys}
    for member, label, row in zip(members, labels, measured, strict=True):
        for name in metrics:
            if not pd.isna(row[name]):
                values[label][name][_pair_key(member, by)] = row[name]
    rows = []
    for label, settings in keys.items():
        statuses = [member.status for member, own in zip(members, labels, strict=True) if own == label]
        n_unfinished = sum(status != "finished" for status in statuses)
        for name, metric in metrics.items():
            own = values[label][name]
            mean = mean_over_seeds(list(own.values()))
            other = baselines.get(label)
            ratio = paired_ratio(own, values[other][name]) if other is not None else None
            rows.append(
                {"group": label, **_in_columns(settings), "metric": name, "unit": metric.unit}
                | {"n_runs": len(statuses), "n_unfinished": n_unfinished, "n_values": len(own)}
                | {part: getattr(mean, part, None) for part in ("mean", "low", "high")}
                | {"baseline": other, "n_pairs": 0 if ratio is None else ratio.n}
                | {"ratio": getattr(ratio, "mean", None)}
                | {f"ratio_{part}": getattr(ratio, part, None) for part in ("low", "high")}
            )
    frame = pd.DataFrame(rows)
    numbers = ["mean", "low", "high", "ratio", "ratio_low", "ratio_high"]
    frame[numbers] = frame[numbers].astype(float)
    return frame
