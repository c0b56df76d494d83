"""A comparison as people read it: a few tables with a line for each group, for a terminal or as Markdown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from emulator.analysis.comparison import Comparison
from emulator.analysis.devices import power_remark
from emulator.analysis.heterogeneity import MC_METRICS
from emulator.analysis.metrics import TO_TARGET, in_budget, metric_named
from emulator.report.terminal.console import FittedTable, in_one_line
from emulator.report.terminal.units import common_unit, duration, energy_joules, size

ABSENT = "–"
RESTRICTED = "*"
MOST_RUNS_LISTED = 12
BUDGET_NAMES = {"time_s": "time", "total_bytes": "bytes", "energy_j": "energy"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One table; the first column is the group, the others are numbers."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


class _Lines:
    """The figures of a comparison by group and metric."""

    def __init__(self, compared: Comparison) -> None:
        self.groups = list(dict.fromkeys(compared.groups["group"]))
        rows: list[dict[Any, Any]] = compared.groups.to_dict("records")
        self._rows = {(row["group"], row["metric"]): row for row in rows}

    def row(self, group: str, metric: str) -> dict[Any, Any]:
        return self._rows[group, metric]

    def has(self, metric: str) -> bool:
        """Whether any group tells this metric."""
        return any(self.row(group, metric)["n_values"] for group in self.groups)

    def column(self, header: str, metric: str, with_interval: bool = True) -> list[str]:
        """A header with the unit that suits the column, and a cell for each group."""
        rows = [self.row(group, metric) for group in self.groups]
        means = [row["mean"] for row in rows if row["n_values"]]
        unit, scale = common_unit(means, metric_named(metric).unit)
        digits = _digits(metric, [mean / scale for mean in means])
        cells = [_cell(row, scale, digits, with_interval) for row in rows]
        return [f"{header} {unit}" if unit != "1" else header, *cells]

    def share(self, header: str, metric: str) -> list[str]:
        """As :meth:`column`, in per cent."""
        rows = [self.row(group, metric) for group in self.groups]
        return [f"{header} %", *(_cell(row, 0.01, 1, True) for row in rows)]

    def ratio(self, header: str, metric: str) -> list[str]:
        """The ratios to the baseline."""
        return [header, *(_ratio(self.row(group, metric)) for group in self.groups)]


def blocks(compared: Comparison) -> Iterator[Block]:
    """The tables of a comparison; those about its score only if some run has one."""
    lines, score = _Lines(compared), compared.score
    if compared.question.target is not None:
        yield _block(lines, f"to {_target(compared)}", _to_target(lines))
    if compared.baselines:
        metrics = TO_TARGET if compared.question.target is not None else {name: name for name in TO_TARGET}
        title = f"ratio to {_baseline(compared)} (geometric mean over common seeds)"
        ratios = [
            lines.ratio("time", metrics["time_s"]),
            lines.ratio("traffic", metrics["total_bytes"]),
            lines.ratio("energy", metrics["energy_j"]),
            lines.ratio("waiting", "mean_waiting_s"),
        ]
        yield _block(lines, title, ratios)
    if lines.has(f"final_{score.name}"):
        columns = [lines.column("final", f"final_{score.name}"), lines.column("best", f"best_{score.name}")]
        shown = {"time_s": duration, "total_bytes": size, "energy_j": energy_joules}
        for limited, budget in compared.question.budgets.items():
            if budget is not None:
                columns.append(lines.column(f"in {shown[limited](budget)}", in_budget(score.name)[limited]))
        yield _block(lines, score.title, columns)
    yield _block(lines, "whole runs", _whole(lines))
    yield _block(lines, "waiting and memory of devices", _waiting_and_memory(lines))
    yield _block(lines, "device-rounds per run", _lost(lines))
    yield _block(lines, "heterogeneity of devices (as FLHetBench defines it)", _heterogeneity(lines))


def notes(compared: Comparison) -> list[str]:
    """What must be known to read the tables, and every run that is not finished, with the reason."""
    found = []
    if compared.groups["n_values"].max() > 1:
        found.append("mean ± half of the 95 % interval over seeds (Student's t)")
    told = compared.groups[compared.groups["metric"].isin(["n_rounds", "time_to_target_s"])]
    if ((told["n_values"] > 0) & (told["n_values"] < told["n_runs"])).any():
        found.append(
            f"{RESTRICTED} over some runs of the group alone: those that reach the target, or have such a figure"
        )
    if compared.question.interpolate and compared.question.target is not None:
        found.append("to the target: straight lines between evaluated rounds")
    begun = compared.runs[compared.runs["n_rounds"] > 0]
    short = {
        limited: int((begun[limited] < budget).sum()) for limited, budget in compared.question.budgets.items() if budget
    }
    if any(short.values()):
        counts = ", ".join(f"{n_short} of the {BUDGET_NAMES[limited]}" for limited, n_short in short.items())
        found.append(f"of {len(compared.runs)} runs, so many ended with some budget left: {counts}")
    found += power_notes(compared)
    return found + _unfinished(compared.runs)


def power_notes(compared: Comparison) -> list[str]:
    """Which boards the energy leaves out, since their profiles have no power figures; by group where that differs."""
    groups = dict.fromkeys(compared.groups["group"])
    if len(compared.without_power) == len(groups) and len(set(compared.without_power.values())) == 1:
        return [f"energy leaves boards out: {power_remark(next(iter(compared.without_power.values())))}"]
    return [f"energy of {group} leaves boards out: {power_remark(t)}" for group, t in compared.without_power.items()]


def render(compared: Comparison) -> RenderableType:
    """The comparison for a terminal of 100 columns."""
    parts: list[RenderableType] = [Text(in_one_line(headline(compared)))]
    for block in blocks(compared):
        table = FittedTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for number, header in enumerate(block.headers):
            table.add_column(
                Text(in_one_line(header)), justify="right" if number else "left", no_wrap=number > 0, overflow="fold"
            )
        for row in block.rows:
            table.add_row(*(Text(in_one_line(cell)) for cell in row))
        parts += ["", Text(block.title, style="bold"), table]
    if said := notes(compared):
        parts += ["", *(Text(in_one_line(note), style="dim") for note in said)]
    return Group(*parts)


def markdown(compared: Comparison) -> str:
    """The comparison as Markdown."""
    parts = [headline(compared), ""]
    for block in blocks(compared):
        cells = [[_escaped(cell) for cell in row] for row in (block.headers, *block.rows)]
        ruler = ["---", *["--:"] * (len(block.headers) - 1)]
        parts += [
            f"**{_escaped(block.title)}**",
            "",
            *(f"| {' | '.join(row)} |" for row in (cells[0], ruler, *cells[1:])),
            "",
        ]
    parts += [f"- {_escaped(note)}" for note in notes(compared)]
    return "\n".join(parts).strip() + "\n"


def headline(compared: Comparison) -> str:
    """How many runs there are, and what they are measured by."""
    n_groups = compared.groups["group"].nunique()
    seeds = sorted(compared.runs["seed"].dropna().astype(int).unique().tolist())
    listed = ", ".join(map(str, seeds)) if len(seeds) <= 8 else f"{len(seeds)} of them"
    text = (
        f"{len(compared.runs)} runs in {n_groups} {'group' if n_groups == 1 else 'groups'}, seeds {listed or 'unknown'}"
    )
    return f"{text}; without {compared.score.title}" if compared.question.target is None else text


def _target(compared: Comparison) -> str:
    if compared.is_target_given:
        return f"{compared.score.title} {compared.question.target:g}"
    return f"{compared.score.title} {compared.question.target:.4f}, the best that all finished runs reach"


def _baseline(compared: Comparison) -> str:
    names = list(dict.fromkeys(compared.baselines.values()))
    return names[0] if len(names) == 1 else "the group of the baseline's policy and the same other settings"


def _block(lines: _Lines, title: str, columns: Sequence[Sequence[str]]) -> Block:
    table = [["group", *lines.groups], *columns]
    headers, *rows = zip(*table, strict=True)
    return Block(title=title, headers=headers, rows=rows)


def _to_target(lines: _Lines) -> list[list[str]]:
    rows = [lines.row(group, TO_TARGET["time_s"]) for group in lines.groups]
    return [
        ["reached", *(f"{row['n_values']} of {row['n_runs']}" for row in rows)],
        lines.column("rounds", TO_TARGET["n_rounds"]),
        lines.column("time", TO_TARGET["time_s"]),
        lines.column("traffic", TO_TARGET["total_bytes"]),
        lines.column("of it up", TO_TARGET["upload_bytes"], with_interval=False),
        lines.column("energy", TO_TARGET["energy_j"]),
    ]


def _whole(lines: _Lines) -> list[list[str]]:
    rows = [lines.row(group, "n_rounds") for group in lines.groups]
    runs = [
        f"{row['n_runs']}" + (f" ({row['n_unfinished']} unfinished)" if row["n_unfinished"] else "") for row in rows
    ]
    return [
        ["runs", *runs],
        lines.column("rounds", "n_rounds", with_interval=False),
        lines.column("time", "time_s"),
        lines.column("traffic", "total_bytes"),
        lines.column("energy", "energy_j"),
    ]


def _waiting_and_memory(lines: _Lines) -> list[list[str]]:
    return [
        lines.column("mean waiting", "mean_waiting_s"),
        lines.share("idle", "idle_fraction"),
        lines.column("largest peak", "peak_memory_max_bytes"),
        lines.column("mean peak", "peak_memory_mean_bytes"),
    ]


def _lost(lines: _Lines) -> list[list[str]]:
    shown = {
        "in the cohort": "n_device_rounds",
        "out of memory": "n_out_of_memory",
        "dropped out": "n_dropped",
        "late": "n_late",
        "out of reach": "n_unavailable",
    }
    return [lines.column(header, metric, with_interval=False) for header, metric in shown.items()]


def _heterogeneity(lines: _Lines) -> list[list[str]]:
    shown = {"DevMC-R": "devmc_r", "DevMC-T": "devmc_t", "InterMC-R": "intermc_r"}
    columns = [lines.column(header, metric) for header, metric in shown.items()]
    return [*columns, lines.share("variation of round times", "device_time_variation")]


def _cell(row: Mapping[Any, Any], scale: float, digits: int, with_interval: bool) -> str:
    if not row["n_values"] or is_unknown_energy(row):
        return ABSENT
    mark = RESTRICTED if row["n_values"] < row["n_runs"] else ""
    mean = f"{row['mean'] / scale:.{digits}f}"
    if with_interval and not math.isnan(row["high"]):
        mean += f" ± {(row['high'] - row['mean']) / scale:.{digits}f}"
    return mean + mark


def is_unknown_energy(row: Mapping[Any, Any]) -> bool:
    """Whether a figure of a group is 0 J: no board takes nothing, so that nothing is known of it."""
    return bool(row["unit"] == "J" and row["mean"] == 0)


def _ratio(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["ratio"]):
        return ABSENT
    if row["group"] == row["baseline"]:
        return "1"
    mark = RESTRICTED if row["n_pairs"] < row["n_runs"] else ""
    low, high = row["ratio_low"], row["ratio_high"]
    interval = "" if math.isnan(low) else f" ({low:.2f}–{high:.2f})" if high < 100 else f" ({low:.2f}–{high:.0f})"
    return f"{row['ratio']:.2f}{interval}{mark}"


def _digits(metric: str, means: Sequence[float]) -> int:
    """Three for a score, of devices too, one for counts that are not whole; else so many that the largest has three
    figures and the smallest two, at least one and at most three."""
    if metric_named(metric).score or metric in MC_METRICS:
        return 3
    if metric_named(metric).unit == "1":
        return 0 if all(mean == int(mean) for mean in means) else 1
    positive = [mean for mean in means if mean > 0] or [1.0]
    wanted = (2 - math.floor(math.log10(max(positive))), 1 - math.floor(math.log10(min(positive))))
    return max(1, min(3, max(wanted)))


def _unfinished(runs: pd.DataFrame) -> list[str]:
    rows = runs[runs["status"] != "finished"].to_dict("records")
    lines = []
    for row in rows[:MOST_RUNS_LISTED]:
        n_rounds = row["n_rounds"]
        done = (
            "nothing done" if math.isnan(n_rounds) or n_rounds == 0 else f"counts with the {n_rounds:.0f} rounds done"
        )
        reason = f" ({row['error']})" if row["error"] else ""
        lines.append(f"{row['run']}: {row['status']}{reason}, {done}")
    if len(rows) > MOST_RUNS_LISTED:
        lines.append(f"and {len(rows) - MOST_RUNS_LISTED} more runs that are not finished")
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*").replace("\n", " ")
