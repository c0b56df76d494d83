"""The figures at the top of a page: those of ``jetbed compare``, set as a table or, for one run, in large type."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from emulator.analysis import Comparison
from emulator.analysis.metrics import metric_named
from emulator.report.markup import TableCell, counted, facts, table
from emulator.report.terminal.comparison import is_unknown_energy
from emulator.report.terminal.units import duration, energy_joules, size

_TO_TARGET = {
    "time_to_target_s": "emulated time",
    "n_rounds_to_target": "rounds",
    "total_to_target_bytes": "traffic",
    "energy_to_target_j": "energy",
}
_WHOLE_RUN = {
    "time_s": "emulated time",
    "n_rounds": "rounds",
    "mean_waiting_s": "mean waiting",
    "total_bytes": "traffic",
    "energy_j": "energy",
}
FEWEST_FOR_BEST = 3
"""Of fewer runs an interval says too little to call a group the best."""
_NOTE = (
    "Means over the runs of a group; under them the 95 % interval of the mean (Student's t, cut where no value can "
    f"be), which few runs leave wide. The best mean of a column is in bold where groups have {FEWEST_FOR_BEST} runs or "
    "more and its interval overlaps no other. A run that never reaches the target is "
    "counted as such, and an unfinished run with the rounds that it has done."
)
_OVER_THE_RUN = ("time_s", "n_rounds", "total_bytes", "energy_j")
"""What grows with the length of a run; more of it is neither better nor worse."""


def shown(name: str, value: float) -> str:
    """The value of a metric as people read it."""
    metric = metric_named(name)
    if metric.unit == "1":
        return f"{value:.3f}" if metric.score or "fraction" in name else f"{value:.0f}"
    return {"s": duration, "byte": size, "J": energy_joules}[metric.unit](value)


def headline_tables(comparison: Comparison) -> str:
    """One row for each group, of what it spent until the target and of the whole run: means and 95 % intervals."""
    target = comparison.question.target
    if target is None:
        return _group_table(comparison, _WHOLE_RUN, _NOTE)
    chosen = "asked for" if comparison.is_target_given else "the best that all finished runs reach"
    title = comparison.score.title
    about = f"What is spent until the {title} is {target:.3f} ({chosen}). {_NOTE}"
    whole_note = (
        "The whole of each run. The figures of both tables are those of jetbed compare, which does not cut intervals."
    )
    return (
        f"<h3>Until the target, {comparison.score.with_article} of {target:.3f}</h3>"
        + _group_table(comparison, _TO_TARGET, about)
        + "<h3>At the end</h3>"
        + _group_table(comparison, _scores(comparison) | _WHOLE_RUN, whole_note)
    )


def _scores(comparison: Comparison) -> dict[str, str]:
    """The metrics of the runs' score, with their titles."""
    score = comparison.score
    return {f"final_{score.name}": f"final {score.title}", f"best_{score.name}": f"best {score.title}"}


def _group_table(comparison: Comparison, columns: Mapping[str, str], caption: str) -> str:
    values = {
        str(label): {str(row["metric"]): row for row in own.to_dict("records")}
        for label, own in comparison.groups.groupby("group", sort=False)
    }
    best = {name: _best(name, [own[name] for own in values.values()]) for name in columns}
    rows: list[list[str | TableCell]] = []
    for label, own in values.items():
        first = next(iter(own.values()))
        remark = f"{first['n_unfinished']} unfinished" if first["n_unfinished"] else ""
        count = TableCell(str(first["n_runs"]), remark, "missed" if remark else "")
        rows.append([label, count, *(_cell(name, own[name], best[name]) for name in columns)])
    return table(["group", "runs", *columns.values()], rows, caption)


def run_facts(comparison: Comparison) -> str:
    """The same figures of a run by itself."""
    row = comparison.runs.iloc[0].to_dict()
    names = dict(_WHOLE_RUN)
    names.pop("n_rounds")
    if comparison.question.target is not None:
        to_target = {name: f"{title} to target" for name, title in _TO_TARGET.items() if name != "n_rounds_to_target"}
        names = _scores(comparison) | to_target | names
    entries = []
    for name, title in names.items():
        if metric_named(name).unit == "J" and row[name] == 0:
            entries.append((title, "–", "no power figures"))
        elif pd.isna(row[name]):
            entries.append((title, "never" if "target" in name else "–", ""))
        else:
            entries.append((title, shown(name, row[name]), _remark(name, row, comparison)))
    lost = sum(row[f"n_{what}"] for what in ("out_of_memory", "dropped", "late"))
    if not pd.isna(lost):
        entries.append(("device-rounds lost", f"{lost:.0f}", f"of {row['n_device_rounds']:.0f} in the cohort"))
    return facts(entries)


def _remark(name: str, row: Mapping[Hashable, Any], comparison: Comparison) -> str:
    if name == "time_to_target_s":
        reached = f"{comparison.score.title} {comparison.question.target:.3f}"
        return f"{reached}, after {counted(int(row['n_rounds_to_target']), 'round')}"
    if name == "mean_waiting_s":
        return f"per device and round, {row['idle_fraction']:.0%} of its time"
    if name == "total_bytes":
        return f"{size(row['download_bytes'])} down, {size(row['upload_bytes'])} up"
    if name == "energy_j":
        return f"{row['energy_j'] / 3600:.3g} Wh"
    return f"{row['n_rounds']:.0f} rounds" if name == "time_s" else ""


def _cell(name: str, row: Mapping[Hashable, Any], best: float | None) -> TableCell:
    if is_unknown_energy(row):
        return TableCell("–", "no power figures", look="missed")
    if row["n_values"] == 0:
        return TableCell("never" if "target" in name else "–", look="missed")
    remarks = []
    if not pd.isna(row["low"]) and row["low"] < row["high"]:
        remarks.append(_interval(name, *_cut(name, row["low"], row["high"])))
    is_short = "target" in name and row["n_values"] < row["n_runs"]
    if is_short:
        remarks.append(f"{row['n_values']} of {row['n_runs']} reach it")
    look = "missed" if is_short else "best" if row["mean"] == best else ""
    return TableCell(shown(name, row["mean"]), "; ".join(remarks), look)


def _cut(name: str, low: float, high: float) -> tuple[float, float]:
    """An interval without what no value can be."""
    score = metric_named(name).score
    least, most = (score.low, score.high) if score else (0.0, None)
    return low if least is None else max(low, least), high if most is None else min(high, most)


def _interval(name: str, low: float, high: float) -> str:
    """Both ends, with their unit once where it is the same."""
    low_text, high_text = shown(name, low), shown(name, high)
    if low_text.rpartition(" ")[2] == high_text.rpartition(" ")[2]:
        low_text = low_text.rpartition(" ")[0] or low_text
    return f"{low_text} – {high_text}"


def _best(name: str, rows: Sequence[Mapping[Hashable, Any]]) -> float | None:
    """The best mean, if runs enough say so: its interval overlaps that of no other group."""
    known = [row for row in rows if row["n_values"]]
    if name in _OVER_THE_RUN or len(known) < 2 or min(row["n_values"] for row in known) < FEWEST_FOR_BEST:
        return None
    score = metric_named(name).score
    if score and score.is_higher_better:
        best, *others = sorted(known, key=lambda row: float(row["mean"]), reverse=True)
        is_apart = all(best["low"] > other["high"] for other in others)
    else:
        best, *others = sorted(known, key=lambda row: float(row["mean"]))
        is_apart = all(best["high"] < other["low"] for other in others)
    return float(best["mean"]) if is_apart else None
