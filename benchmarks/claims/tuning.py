"""The search for each policy's own learning rate, and the choice: ``python -m benchmarks.claims.tuning [--world ...]``.

Runs ``tuning.toml`` (in the world ``images``: ``tuning-images.toml``), or goes on where it was, and writes what it
chose into ``learning_rates.toml``, with the scores that it chose by. The search has seeds of its own: no seed on which
a claim is measured has a part in it.

A rate's score is the mean over seeds of the mean accuracy of the second half of the rounds: what is fast and what gets
far both count, and no single evaluation decides.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tomli_w

from benchmarks.claims.driver import carry_out_or_exit
from benchmarks.claims.figures import finished_runs
from benchmarks.claims.options import add_options, given, n_parallel
from benchmarks.claims.plan import HERE, IMAGES, LEARNING_RATES, RATE, Group, Setting, read_toml, search_groups
from emulator.results.sweep_folder import is_sweep

Scores = Mapping[float, Mapping[int, float]]
"""Scores of a policy by learning rate and seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A policy's learning rate, the mean score of each, and whether it is the least or greatest that was tried."""

    rate: float
    means: Mapping[float, float]
    is_at_edge: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*", help="all of the search without")
    parser.add_argument(
        "--images", action="store_true", help="the search for what is trained on images, in their world"
    )
    parser.add_argument("--table", type=Path, default=LEARNING_RATES, help="the file that choices are written into")
    add_options(parser)
    options = parser.parse_args()
    world = IMAGES if options.images else options.world
    file = HERE / ("tuning-images.toml" if options.images else "tuning.toml")
    plan = search_groups(file, Setting(world=world, size=options.size), given(options, world))
    plan = [group for group in plan if not options.policies or group.label in options.policies]
    failed = carry_out_or_exit(plan, options.out, n_parallel(options))
    choices = {group.label: choice for group in plan if (choice := choose(scores(group, options.out), *wanted(group)))}
    for group in plan:
        print(f"{group.label}: {said(choices.get(group.label))}")
    write(world, options.size, choices, options.table)
    sys.exit(1 if failed else 0)


def wanted(group: Group) -> tuple[Sequence[float], Sequence[int]]:
    """The learning rates and the seeds of a group."""
    return group.sweep["axes"][RATE], group.seeds


def scores(group: Group, out: Path) -> Scores:
    """What the finished runs of a group score."""
    found: dict[float, dict[int, float]] = {}
    if is_sweep(out / group.place):
        for run in finished_runs(out / group.place):
            rate = float(run.info["config"]["training"]["learning_rate"])
            found.setdefault(rate, {})[int(run.info["seed"])] = score(run.rounds)
    return found


def score(rounds: pd.DataFrame) -> float:
    """The mean accuracy of the evaluated rounds in the second half of a run; of 3 rounds, of the last two."""
    ordered = rounds.sort_values("round_index")
    return float(ordered["accuracy"].iloc[len(ordered) // 2 :].dropna().mean())


def choose(found: Scores, rates: Sequence[float], seeds: Sequence[int]) -> Choice | None:
    """The rate with the highest mean over all seeds, the lower one of two that are equal; None if runs are missing."""
    if any(found.get(rate, {}).keys() < set(seeds) for rate in rates):
        return None
    # A run that diverged has no loss and chance's accuracy; one without any evaluation has no score.
    means = {rate: statistics.fmean(found[rate][seed] for seed in seeds) for rate in sorted(rates)}
    if any(math.isnan(mean) for mean in means.values()):
        return None
    best = max(means, key=lambda rate: (means[rate], -rate))
    return Choice(rate=best, means=means, is_at_edge=best in (min(rates), max(rates)))


def said(choice: Choice | None) -> str:
    """A choice in words."""
    if choice is None:
        return "not all runs are finished"
    listed = ", ".join(f"{rate:g}: {mean:.3f}" for rate, mean in choice.means.items())
    return f"{choice.rate:g} of {listed}" + (" (at the edge of the search)" if choice.is_at_edge else "")


def write(world: str, size: str, choices: Mapping[str, Choice], file: Path) -> None:
    """Put the choices of a world into the file; those of other policies and worlds stay, but not of another size."""
    table = read_toml(file) if file.exists() else {}
    before = table.get(world, {})
    if before.get("size") != size:
        before = {}
    table[world] = {
        "size": size,
        "rates": {**before.get("rates", {}), **{policy: choice.rate for policy, choice in choices.items()}},
        "scores": {
            **before.get("scores", {}),
            **{
                policy: {f"{rate:g}": round(mean, 4) for rate, mean in choice.means.items()}
                for policy, choice in choices.items()
            },
        },
    }
    head = "# Written by `python -m benchmarks.claims.tuning`: by world each policy's rate, and what all rates score.\n"
    file.write_text(head + tomli_w.dumps(table), encoding="utf-8")


if __name__ == "__main__":
    main()
