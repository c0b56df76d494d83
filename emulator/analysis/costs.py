"""What a run has spent by the end of each round, what it spent to reach an accuracy, and what a budget buys."""

import pandas as pd

COSTS = ("time_s", "download_bytes", "upload_bytes", "total_bytes", "energy_j")
"""What is spent; the columns of :func:`spent` beside ``round_index``, ``n_rounds`` and ``accuracy``."""


def spent(rounds: pd.DataFrame) -> pd.DataFrame:
    """Everything that was spent from the start of a run to the end of each round.

    Columns: ``round_index``, ``accuracy`` (NaN where it was not evaluated), ``n_rounds`` (1 for the first round),
    ``time_s`` (emulated), ``download_bytes``, ``upload_bytes``, ``total_bytes`` (both) and ``energy_j``.

    Args:
        rounds: the table ``rounds`` of one run.
    """
    rounds = rounds.sort_values("round_index", ignore_index=True)
    down_bytes, up_bytes = rounds["download_bytes"].cumsum(), rounds["upload_bytes"].cumsum()
    return pd.DataFrame(
        {
            "round_index": rounds["round_index"],
            "accuracy": rounds["accuracy"],
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


def cost_to_target(rounds: pd.DataFrame, target: float, interpolate: bool = False) -> dict[str, float] | None:
    """What a run spent until it reached an accuracy: ``n_rounds`` and each of ``COSTS``; None if it never does.

    An accuracy is known at the ends of rounds that are evaluated, and nowhere else. So it is reached at the end of the
    first evaluated round whose accuracy is ``target`` or more, also if a later one falls below it again, and what was
    spent is everything up to there.

    Args:
        rounds: the table ``rounds`` of one run.
        target: the accuracy, from 0 to 1.
        interpolate: draw a straight line from the evaluated round before to that one, and take where it crosses
            ``target``. Where there is no evaluated round before, nothing is known to draw it from.
    """
    evaluated = spent(rounds).dropna(subset="accuracy")
    reached = evaluated["accuracy"] >= target
    if not reached.any():
        return None
    row = int(reached.to_numpy().argmax())
    at = _amounts(evaluated.iloc[row])
    if not interpolate or row == 0:
        return at
    before = _amounts(evaluated.iloc[row - 1])
    low, high = evaluated["accuracy"].iloc[row - 1], evaluated["accuracy"].iloc[row]
    share = float((target - low) / (high - low))
    return {name: before[name] + share * (amount - before[name]) for name, amount in at.items()}


def accuracy_within(rounds: pd.DataFrame, cost: str, budget: float) -> float | None:
    """The accuracy of the last evaluated round at whose end no more than ``budget`` was spent; None before the first.

    A run that ended with something left keeps its last accuracy.

    Args:
        rounds: the table ``rounds`` of one run.
        cost: one of ``COSTS``.
        budget: in the unit of ``cost``.
    """
    rows = spent(rounds).dropna(subset="accuracy")
    within = rows.loc[rows[cost] <= budget, "accuracy"]
    return float(within.iloc[-1]) if len(within) else None


def final_accuracy(rounds: pd.DataFrame) -> float | None:
    """The accuracy of the last evaluated round; None if none was."""
    accuracies = spent(rounds)["accuracy"].dropna()
    return float(accuracies.iloc[-1]) if len(accuracies) else None


def best_accuracy(rounds: pd.DataFrame) -> float | None:
    """The highest accuracy of an evaluated round; None if none was."""
    accuracies = rounds["accuracy"].dropna()
    return float(accuracies.max()) if len(accuracies) else None


def _amounts(row: "pd.Series[float]") -> dict[str, float]:
    return {name: float(row[name]) for name in ("n_rounds", *COSTS)}
