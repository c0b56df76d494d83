"""Figures and verdicts of gates, on runs written by hand whose times and accuracies give them in closed form."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims.figures import (
    Figure,
    Runs,
    common_target,
    figure,
    finished,
    has_no_effect_inside,
    is_learnt,
    shown,
    verdict,
)
from benchmarks.claims.gates import Gate
from benchmarks.claims.plan import Setting, place
from emulator.analysis.statistics import Estimate
from emulator.results.reader import load_run
from tests.made_runs import write_run, write_sweep

SLOW = [0.25, 0.5, 0.75]
ABOUT = {"majority_accuracy": 0.2, "n_test_examples": 100}


def gate(metric: str, kind: Any, *, at_least: float | None = None, at_most: float | None = None) -> Gate:
    return Gate(
        key="G",
        system="legend",
        what="what",
        group="new",
        baseline="old",
        metric=metric,
        kind=kind,
        at_least=at_least,
        at_most=at_most,
        paper="–",
    )


def runs_of(folder: Path, **by_group: list[dict[str, Any]]) -> Runs:
    """For each group a run for each seed, from the arguments of ``write_run``."""
    return {
        group: {
            seed: load_run(write_run(folder / f"{group}-{seed}", policy=group, seed=seed, info=ABOUT, **arguments))
            for seed, arguments in enumerate(seeds)
        }
        for group, seeds in by_group.items()
    }


def test_the_target_is_what_the_worst_run_reaches(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, old=[{"accuracies": SLOW}], new=[{"accuracies": [0.5, 0.625, 0.5]}])

    assert common_target(runs) == 0.625


def test_a_speed_up_is_the_geometric_mean_over_seeds_of_the_baselines_time(tmp_path: Path) -> None:
    """The target 0.75 is reached in round 3 by the old one, in rounds 1 and 2 by the new one: 3 and 1.5 times."""
    runs = runs_of(
        tmp_path,
        old=[{"accuracies": SLOW}, {"accuracies": SLOW}],
        new=[{"accuracies": [0.75]}, {"accuracies": [0.5, 0.75]}],
    )

    found = figure(gate("time_to_target_s", "speed_up", at_least=1.0), runs).estimate

    assert found is not None
    assert found.mean == pytest.approx((3 * 1.5) ** 0.5)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(3 * 1.5)  # symmetric in the logarithm


def test_a_ratio_is_of_the_group_over_its_baseline(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path,
        old=[{"accuracies": SLOW, "energy_j": 20.0}],
        new=[{"accuracies": SLOW, "energy_j": 5.0}],
    )

    found = figure(gate("energy_j", "ratio", at_most=1.0), runs).estimate

    assert found is not None
    assert found.mean == pytest.approx(0.25)


def test_a_difference_is_in_points_and_pairs_the_same_seeds(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path,
        old=[{"accuracies": [0.5]}, {"accuracies": [0.25]}, {"accuracies": [1.0]}],
        new=[{"accuracies": [0.75]}, {"accuracies": [0.25]}],
    )

    found = figure(gate("final_accuracy", "difference", at_least=0.0), runs)

    assert found.n_seeds == 2
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx((25 + 0) / 2)


def test_accuracy_in_equal_time_gives_both_the_time_of_the_shorter_run(tmp_path: Path) -> None:
    """The new one takes 3 rounds of 5 s; after 15 s the old one has done one round of 10 s and is at 0.25."""
    runs = runs_of(
        tmp_path,
        old=[{"accuracies": [0.25, 0.875]}],
        new=[{"accuracies": SLOW, "round_s": 5.0}],
    )

    found = figure(gate("accuracy_in_time", "difference", at_least=0.0), runs).estimate

    assert found is not None
    assert found.mean == pytest.approx(75 - 25)


def test_a_target_that_chance_gives_tells_nothing(tmp_path: Path) -> None:
    """Chance is 0.2 and its standard error with 100 examples 0.04, so that 0.28 is the edge."""
    runs = runs_of(tmp_path, old=[{"accuracies": [0.1, 0.9]}], new=[{"accuracies": [0.27, 0.25]}])

    assert not is_learnt(runs, 0.27)
    assert is_learnt(runs, 0.29)
    assert figure(gate("time_to_target_s", "speed_up", at_least=1.0), runs) == Figure(estimate=None, n_seeds=1)
    assert figure(gate("time_s", "ratio", at_most=1.0), runs).estimate is not None


def estimated(mean: float, n: int = 3) -> Figure:
    return Figure(estimate=Estimate(n=n, mean=mean, low=None, high=None), n_seeds=n)


@pytest.mark.parametrize(
    ("judged", "mean", "said"),
    [
        (gate("time_to_target_s", "speed_up", at_least=1.2), 1.2, "reproduced"),
        (gate("time_to_target_s", "speed_up", at_least=1.2), 1.1, "direction only"),
        (gate("time_to_target_s", "speed_up", at_least=1.2), 1.0, "not reproduced"),
        (gate("idle_fraction", "ratio", at_most=0.8), 0.7, "reproduced"),
        (gate("idle_fraction", "ratio", at_most=0.8), 0.9, "direction only"),
        (gate("idle_fraction", "ratio", at_most=0.8), 1.1, "not reproduced"),
        (gate("best_accuracy", "difference", at_least=1.6), 2.0, "reproduced"),
        (gate("best_accuracy", "difference", at_least=1.6), 0.1, "direction only"),
        (gate("best_accuracy", "difference", at_least=1.6), -0.1, "not reproduced"),
        (gate("best_accuracy", "difference", at_least=0.0), -0.1, "not reproduced"),
    ],
)
def test_a_verdict_is_by_the_bound_and_then_by_the_sign(judged: Gate, mean: float, said: str) -> None:
    assert verdict(judged, estimated(mean), 3) == said


def test_nothing_is_judged_before_all_seeds_are_there() -> None:
    judged = gate("time_to_target_s", "speed_up", at_least=1.2)

    assert verdict(judged, Figure(estimate=None, n_seeds=0), 3) == "not run"
    assert verdict(judged, estimated(2.0, n=2), 3) == "unfinished"


def test_a_figure_that_a_seed_does_not_tell_is_not_judged() -> None:
    judged = gate("time_to_target_s", "speed_up", at_least=1.2)
    of_two = Estimate(n=2, mean=2.0, low=None, high=None)

    assert verdict(judged, Figure(estimate=of_two, n_seeds=3), 3) == "cannot be told"


def test_an_interval_with_no_effect_inside_is_told() -> None:
    judged = gate("time_to_target_s", "speed_up", at_least=1.2)

    assert has_no_effect_inside(judged, Estimate(n=3, mean=1.3, low=0.9, high=1.9))
    assert not has_no_effect_inside(judged, Estimate(n=3, mean=1.3, low=1.1, high=1.5))
    assert not has_no_effect_inside(judged, Estimate(n=1, mean=1.3, low=None, high=None))


def test_figures_are_shown_with_interval_and_seeds() -> None:
    points = Estimate(n=3, mean=1.234, low=-0.5, high=3.0)

    shown_points = shown(
        gate("best_accuracy", "difference", at_least=0.0), Figure(estimate=points, n_seeds=3)
    )  # fmt: skip
    assert shown_points == "1.23 points (-0.50 to 3.00), n = 3"
    assert shown(gate("idle_fraction", "ratio", at_most=1.0), estimated(0.5, n=1)) == "0.50, n = 1"


def test_only_finished_runs_of_a_claim_count(tmp_path: Path) -> None:
    setting = Setting(world="builtin", size="small")
    folder = tmp_path / place("legend", setting, "legend(downlink=tuned)")
    whole = {"accuracies": SLOW, "policy": "legend"}
    write_sweep(
        folder,
        {"seed-0": {**whole, "seed": 0}, "seed-1": {**whole, "seed": 1, "status": "running"}, "seed-2": {}},
        {name: {"policy": "legend", "seed": seed} for seed, name in enumerate(("seed-0", "seed-1", "seed-2"))},
    )

    runs = finished("legend", setting, tmp_path)

    assert {label: sorted(by_seed) for label, by_seed in runs.items()} == {"legend(downlink=tuned)": [0]}
