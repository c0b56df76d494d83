"""What the runs of a claim give for a gate, and what is said of it: reproduced, direction only, or not reproduced."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.claims.gates import Gate
from benchmarks.claims.plan import Setting, place, policies
from emulator import load
from emulator.analysis.costs import best_score, total
from emulator.analysis.metrics import Question, measure
from emulator.analysis.statistics import Estimate, mean_over_seeds, paired_ratio
from emulator.results.reader import RunFrames, SweepFrames
from emulator.results.sweep_folder import is_sweep

Runs = Mapping[str, Mapping[int, RunFrames]]
"""Finished runs of a claim, by the label of their group and by seed."""

Verdict = Literal["reproduced", "direction only", "not reproduced", "cannot be told", "unfinished", "not run"]

NO_EFFECT = {"ratio": 1.0, "speed_up": 1.0, "difference": 0.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A gate's figure: over seeds the geometric mean of paired ratios, or the mean of paired differences in points.

    Attributes:
        estimate: with its 95 % interval; None where no seed tells it.
        n_seeds: seeds on which both groups are finished.
    """

    estimate: Estimate | None
    n_seeds: int


def finished(system: str, setting: Setting, out: Path) -> Runs:
    """The finished runs of a claim in the folder of all claims; groups that have none are left out."""
    runs: dict[str, dict[int, RunFrames]] = {}
    for label in policies(system):
        folder = out / place(system, setting, label)
        if is_sweep(folder) and (found := finished_runs(folder)):
            runs[label] = {int(run.info["seed"]): run for run in found}
    return runs


def finished_runs(folder: Path) -> list[RunFrames]:
    """The finished runs of a sweep."""
    sweep = load(folder)
    assert isinstance(sweep, SweepFrames)
    states = sweep.runs[["run", "status"]].itertuples(index=False)
    return [sweep.run(str(name)) for name, status in states if status == "finished"]


def common_target(runs: Runs) -> float | None:
    """The best accuracy that all finished runs of a claim reach."""
    best = [best_score(run.rounds) for by_seed in runs.values() for run in by_seed.values()]
    known = [value for value in best if value is not None]
    return min(known) if known else None


def is_learnt(runs: Runs, target: float) -> bool:
    """Whether ``target`` is above the share of the largest class by two standard errors of what is held out.

    Below, a run "reaches" it by chance, and what it has spent by then says nothing.
    """
    infos = [run.info for by_seed in runs.values() for run in by_seed.values()]
    chance = max(float(info["majority_accuracy"]) for info in infos)
    n_test = min(int(info["n_test_examples"]) for info in infos)
    return target > chance + 2 * math.sqrt(chance * (1 - chance) / n_test)


def figure(gate: Gate, runs: Runs) -> Figure:
    """What the finished runs of its claim give for ``gate``."""
    target = common_target(runs)
    if target is not None and not is_learnt(runs, target):
        target = None
    group, baseline = runs.get(gate.group, {}), runs.get(gate.baseline, {})
    seeds = sorted(group.keys() & baseline.keys())
    ours: dict[Hashable, float] = {}
    theirs: dict[Hashable, float] = {}
    for seed in seeds:
        pair = group[seed], baseline[seed]
        question = Question(target=target, budget_s=min(total(run.rounds)["time_s"] for run in pair))
        values = [measure(run.rounds, run.devices, question)[gate.metric] for run in pair]
        if values[0] is not None and values[1] is not None:
            ours[seed], theirs[seed] = values[0], values[1]
    if gate.kind == "difference":
        estimate = mean_over_seeds([100 * (ours[seed] - theirs[seed]) for seed in ours])
    elif gate.kind == "speed_up":
        estimate = paired_ratio(theirs, ours)
    else:
        estimate = paired_ratio(ours, theirs)
    return Figure(estimate=estimate, n_seeds=len(seeds))


def verdict(gate: Gate, found: Figure, n_seeds: int) -> Verdict:
    """What is said of a figure: its mean against the gate's bound, or at least on the paper's side of no effect.

    A figure is judged when all of its ``n_seeds`` seeds are there, and not before.
    """
    if found.n_seeds == 0:
        return "not run"
    if found.n_seeds < n_seeds:
        return "unfinished"
    if found.estimate is None or found.estimate.n < n_seeds:
        return "cannot be told"
    # With the sign turned where less is better, more is better everywhere.
    sign, bound = (1.0, gate.at_least) if gate.at_least is not None else (-1.0, gate.at_most)
    assert bound is not None
    if sign * found.estimate.mean >= sign * bound:
        return "reproduced"
    return "direction only" if sign * found.estimate.mean > sign * NO_EFFECT[gate.kind] else "not reproduced"


def has_no_effect_inside(gate: Gate, estimate: Estimate) -> bool:
    """Whether the interval leaves open that there is no difference at all."""
    if estimate.low is None or estimate.high is None:
        return False
    return estimate.low <= NO_EFFECT[gate.kind] <= estimate.high


def shown(gate: Gate, found: Figure) -> str:
    """A figure as pages and terminals have it: ``1.62 (1.40 to 1.87), n = 3``."""
    estimate = found.estimate
    if estimate is None:
        return "–"
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f" ({estimate.low:.2f} to {estimate.high:.2f})"
    unit = " points" if gate.kind == "difference" else ""
    return f"{estimate.mean:.2f}{unit}{interval}, n = {estimate.n}"


def bound(gate: Gate) -> str:
    """``>= 1.1``."""
    return f">= {gate.at_least:g}" if gate.at_least is not None else f"<= {gate.at_most:g}"
