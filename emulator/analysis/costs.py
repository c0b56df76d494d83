"""What a run has spent by the end of each round, what it spent to reach a score, and what a budget buys.

Scores are columns of the table ``rounds`` such as ``accuracy``; which way they are better is in
:mod:`emulator.objective.scores`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from emulator.objective.scores import QUOTED, QUOTED_OF, SCORES

COSTS = ("time_s", "download_bytes", "upload_bytes", "total_bytes", "energy_j")
"""What is spent; the columns of :func:`spent` beside ``round_index``, ``n_rounds`` and the score."""


def spent(rounds: pd.DataFrame, score: str = "accuracy") -> pd.DataFrame:
    """Everything that was spent from the start of a run to the end of each round.

    Columns: ``round_index``, the score by its name (NaN where it was not evaluated), ``n_rounds`` (1 for the first
    round), ``time_s`` (emulated), ``download_bytes``, ``upload_bytes``, ``total_bytes`` (both) and ``energy_j``.

    Args:
        rounds: the table ``rounds`` of one run.
        score: which score.
    """
    rounds = rounds.sort_values("round_index", ignore_index=True)
    down_bytes, up_bytes = rounds["download_bytes"].cumsum(), rounds["upload_bytes"].cumsum()
    return pd.DataFrame(
        {
            "round_index": rounds["round_index"],
            score: rounds[score],
            "n_rounds": range(1, len(rounds) + 1),
            "time_s": rounds["end_s"] - rounds["start_s"].min(),
            "download_bytes": down_bytes,
            "upload_bytes": up_bytes,
            "total_bytes": down_bytes + up_bytes,
            "energy_j": rounds["energy_j"].cumsum(),
        }
    )


def total(rounds: pd.DataFrame) -> dict[str, float]:
    """What the whole run spent: ``n_rounds`` and each of ``COSTS``; empty where no round is done."""
    rows = spent(rounds)
    return _amounts(rows.iloc[-1]) if len(rows) else {}


def cost_to_target(
    rounds: pd.DataFrame, target: float, interpolate: bool = False, score: str = "accuracy"
) -> dict[str, float] | None:
    """What a run spent until it reached a score: ``n_rounds`` and each of ``COSTS``; None if it never does.

    A score is known at the ends of rounds that are evaluated, and nowhere else. So it is reached at the end of the
    first evaluated round whose score is ``target`` or better, also if a later one is worse again, and what was spent is
    everything up to there.

    Args:
        rounds: the table ``rounds`` of one run.
        target: the score that is wanted.
        interpolate: draw a straight line from the evaluated round before to that one, and take where it crosses
            ``target``. Where there is no evaluated round before, nothing is known to draw it from.
        score: which score.
    """
    evaluated = spent(rounds, score).dropna(subset=score)
    reached = evaluated[score] >= target if SCORES[score].is_higher_better else evaluated[score] <= target
    if not reached.any():
        return None
    row = int(reached.to_numpy().argmax())
    at = _amounts(evaluated.iloc[row])
    if not interpolate or row == 0:
        return at
    before = _amounts(evaluated.iloc[row - 1])
    last, found = evaluated[score].iloc[row - 1], evaluated[score].iloc[row]
    share = float((target - last) / (found - last))
    return {name: before[name] + share * (amount - before[name]) for name, amount in at.items()}


def score_within(rounds: pd.DataFrame, cost: str, budget: float, score: str = "accuracy") -> float | None:
    """The score of the last evaluated round at whose end no more than ``budget`` was spent; None before the first.

    A run that ended with something left keeps its last score.

    Args:
        rounds: the table ``rounds`` of one run.
        cost: one of ``COSTS``.
        budget: in the unit of ``cost``.
        score: which score.
    """
    rows = spent(rounds, score).dropna(subset=score)
    within = rows.loc[rows[cost] <= budget, score]
    return float(within.iloc[-1]) if len(within) else None


def final_score(rounds: pd.DataFrame, score: str = "accuracy") -> float | None:
    """The score of the last evaluated round; None if none was."""
    values = spent(rounds, score)[score].dropna()
    return float(values.iloc[-1]) if len(values) else None


def best_score(rounds: pd.DataFrame, score: str = "accuracy") -> float | None:
    """The best score of an evaluated round; None if none was."""
    values = rounds[score].dropna()
    return SCORES[score].best(values.tolist()) if len(values) else None


def quoted_score(tables: Iterable[pd.DataFrame | None], kind: str | None = None) -> str:
    """The score that people quote of such runs: the first of :data:`QUOTED` that one of the tables ``rounds`` has.

    Where nothing is evaluated it is that of their ``kind`` of task, as in :data:`QUOTED_OF`.
    """
    known = [rounds for rounds in tables if rounds is not None]
    unseen = QUOTED_OF.get(kind or "", QUOTED[0])
    return next((name for name in QUOTED if any(rounds[name].notna().any() for rounds in known)), unseen)


def kind_of_task(info: Mapping[str, Any]) -> str | None:
    """The setting ``task.kind`` of a run with this ``run.json``; None where it does not say."""
    task = (info.get("config") or {}).get("task") or {}
    return task.get("kind")


def _amounts(row: "pd.Series[float]") -> dict[str, float]:
    return {name: float(row[name]) for name in ("n_rounds", *COSTS)}
