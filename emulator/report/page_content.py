"""What the figures of a page are drawn from: each run is read once, reduced to what can be seen, and let go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from emulator.analysis import Comparison
from emulator.report.curves import AXES, RunCurves, band, line, run_curves
from emulator.report.device_types import TypeRecord, over_seeds, type_records
from emulator.report.round_bars import round_bars, shown_rounds
from emulator.report.settings_map import settings_map
from emulator.results.reader import RunFrames

FramesOf = Callable[[str], RunFrames | None]
"""A run by its name in the comparison; None where it has not begun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContent:
    """A run as far as figures show it. ``is_counted``: it is part of the means of its group."""

    name: str
    is_counted: bool
    curves: RunCurves
    types: dict[str, TypeRecord]


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupContent:
    """The runs of a group that have a round; what is of one run is of its first that is counted.

    ``class_f1`` is F1 of each label in the last round that has it, None for one that does not occur; empty without.
    """

    label: str
    runs: tuple[RunContent, ...]
    shown_run: str
    rounds: list[dict[str, Any]]
    settings: dict[str, Any]
    class_f1: tuple[float | None, ...] = ()


def read_groups(comparison: Comparison, frames_of: FramesOf) -> list[GroupContent]:
    """The groups of a comparison that have a round to show, in its order.

    Raises:
        UserError: a run is damaged.
    """
    found = (
        _group(str(label), rows, frames_of, comparison.score.name)
        for label, rows in comparison.runs.groupby("group", sort=False)
    )
    return [group for group in found if group is not None]


def _group(label: str, rows: pd.DataFrame, frames_of: FramesOf, score: str) -> GroupContent | None:
    is_any_finished = bool((rows["status"] == "finished").any())
    runs: list[RunContent] = []
    shown: dict[str, Any] | None = None
    for row in rows.to_dict("records"):
        frames = frames_of(str(row["run"]))
        if frames is None or frames.rounds.empty:
            continue
        is_counted = row["status"] == "finished" or not is_any_finished
        runs.append(
            RunContent(
                name=str(row["run"]),
                is_counted=is_counted,
                curves=run_curves(frames.rounds, score),
                types=type_records(frames.devices, frames.activities),
            )
        )
        if shown is None and is_counted:
            tables = (frames.rounds, frames.devices, frames.activities)
            bars = [round_bars(index, *tables) for index in shown_rounds(frames.rounds)]
            shown = {
                "shown_run": str(row["run"]),
                "rounds": bars,
                "settings": settings_map(frames.devices),
                "class_f1": _last_class_f1(frames.rounds),
            }
    if shown is None:
        return None
    return GroupContent(label=label, runs=tuple(runs), **shown)


def _last_class_f1(rounds: pd.DataFrame) -> tuple[float | None, ...]:
    known = rounds["class_f1"].dropna()
    return tuple(None if pd.isna(value) else float(value) for value in known.iloc[-1]) if len(known) else ()


def page_data(comparison: Comparison, groups: Sequence[GroupContent], majority: float | None) -> dict[str, Any]:
    """All that the scripts of the page read, as plain data."""
    return {
        "target": comparison.question.target,
        "score": comparison.score.title,
        "majority": majority if comparison.score.name == "accuracy" else None,
        "groups": [_group_data(group) for group in groups],
    }


def _group_data(group: GroupContent) -> dict[str, Any]:
    counted = [run for run in group.runs if run.is_counted]
    profiles = sorted({profile for run in counted for profile in run.types})
    return {
        "label": group.label,
        "score": {axis: band([(run.curves.over[axis], run.curves.score) for run in counted]) for axis in AXES},
        "lines": [
            {
                "is_counted": run.is_counted,
                "score": {axis: line(run.curves.over[axis], run.curves.score) for axis in AXES},
            }
            for run in group.runs
        ],
        "waiting": band([(run.curves.waiting_over, run.curves.mean_waiting_s) for run in counted]),
        "types": [
            over_seeds(profile, [run.types[profile] for run in counted if profile in run.types]) for profile in profiles
        ],
        "rounds": group.rounds,
        "settings": group.settings,
    }
