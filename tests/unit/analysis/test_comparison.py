"""Comparisons of runs by hand whose answers are known in closed form."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from emulator.analysis import Comparison, Question, compare
from emulator.errors import UserError
from emulator.results.reader import load_run, load_sweep
from tests.made_runs import write_run, write_sweep

T_ONE_DEGREE = 12.7062047
"""Student's quantile of two seeds, tan(0.475 pi)."""


def compared(tmp_path: Path, runs: Mapping[str, Mapping[str, Any]], **asked: Any) -> Comparison:
    """A comparison of runs by themselves."""
    question = Question(**{name: asked.pop(name) for name in list(asked) if name in Question.__dataclass_fields__})
    loaded = [load_run(write_run(tmp_path / name, **arguments)) for name, arguments in runs.items()]
    return compare(loaded, question, **asked)


def figure(comparison: Comparison, group: str, metric: str) -> dict[str, Any]:
    """The row of a group and a metric."""
    rows = comparison.groups
    (row,) = rows[(rows["group"] == group) & (rows["metric"] == metric)].to_dict("records")
    return row


def test_mean_and_interval_over_seeds(tmp_path: Path) -> None:
    runs = {
        "a0": {"policy": "a", "seed": 0, "accuracies": [0.2, 0.5], "round_s": 10.0},
        "a1": {"policy": "a", "seed": 1, "accuracies": [0.2, 0.3, 0.5], "round_s": 10.0},
    }
    row = figure(compared(tmp_path, runs, target=0.5), "a", "time_to_target_s")
    # 20 s and 30 s: s = 5 sqrt(2), so the half width is t * 5.
    assert (row["n_runs"], row["n_values"], row["mean"], row["unit"]) == (2, 2, 25.0, "s")
    assert row["high"] - 25 == pytest.approx(5 * T_ONE_DEGREE, rel=1e-6)
    assert 25 - row["low"] == pytest.approx(5 * T_ONE_DEGREE, rel=1e-6)


def test_without_a_target_it_is_the_best_that_all_reach(tmp_path: Path) -> None:
    runs = {
        "a": {"policy": "a", "accuracies": [0.2, 0.45, 0.9]},
        "b": {"policy": "b", "accuracies": [0.6, 0.5]},
        "c": {"policy": "c", "accuracies": [0.3, None, 0.7, 0.4]},
    }
    comparison = compared(tmp_path, runs)
    assert (comparison.question.target, comparison.is_target_given) == (0.6, False)
    times = {group: figure(comparison, group, "time_to_target_s")["mean"] for group in "abc"}
    # b has it exactly, after its first round; c after its third, as the second was not evaluated.
    assert times == {"a": 30.0, "b": 10.0, "c": 30.0}


def test_a_run_that_never_reaches_the_target_is_counted(tmp_path: Path) -> None:
    runs = {
        f"a{seed}": {"seed": seed, "accuracies": accuracies}
        for seed, accuracies in enumerate([[0.5], [0.1, 0.6], [0.1] * 9])
    }
    comparison = compared(tmp_path, runs, target=0.5)
    row = figure(comparison, "a", "time_to_target_s")
    assert (row["n_runs"], row["n_values"], row["mean"]) == (3, 2, 15.0)
    assert comparison.runs["time_to_target_s"].tolist()[:2] == [10.0, 20.0]
    assert math.isnan(comparison.runs["time_to_target_s"].iloc[2])
    never = figure(compared(tmp_path / "again", runs, target=0.9), "a", "time_to_target_s")
    assert (never["n_runs"], never["n_values"]) == (3, 0)
    assert math.isnan(never["mean"])


def test_ratios_are_over_the_seeds_of_both_that_reach_the_target(tmp_path: Path) -> None:
    runs = {
        "a0": {"policy": "a", "seed": 0, "accuracies": [0.5], "round_s": 10.0},
        "a1": {"policy": "a", "seed": 1, "accuracies": [0.5], "round_s": 30.0},
        "a2": {"policy": "a", "seed": 2, "accuracies": [0.5], "round_s": 99.0},
        "b0": {"policy": "b", "seed": 0, "accuracies": [0.5], "round_s": 20.0},
        "b1": {"policy": "b", "seed": 1, "accuracies": [0.5], "round_s": 240.0},
        "b2": {"policy": "b", "seed": 2, "accuracies": [0.4]},
    }
    row = figure(compared(tmp_path, runs, target=0.5, baseline="a"), "b", "time_to_target_s")
    # 2 and 8: their geometric mean is 4.
    assert (row["baseline"], row["n_pairs"], row["ratio"]) == ("a", 2, pytest.approx(4.0))
    assert row["ratio_high"] == pytest.approx(4 * 2**T_ONE_DEGREE, rel=1e-6)
    assert figure(compared(tmp_path / "again", runs, baseline="a"), "a", "time_s")["ratio"] == 1.0


def test_ties_have_the_ratio_one(tmp_path: Path) -> None:
    runs = {
        f"{policy}{seed}": {"policy": policy, "seed": seed, "accuracies": [0.1, 0.5]}
        for policy in "ab"
        for seed in (0, 1)
    }
    row = figure(compared(tmp_path, runs, baseline="a"), "b", "energy_to_target_j")
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == (1.0, 1.0, 1.0)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    runs = {policy: {"policy": policy, "accuracies": [0.5]} for policy in "ab"}
    row = figure(compared(tmp_path, runs, baseline="a"), "b", "final_accuracy")
    assert (row["mean"], row["ratio"]) == (0.5, 1.0)
    assert all(math.isnan(row[name]) for name in ("low", "high", "ratio_low", "ratio_high"))


def test_runs_without_accuracy_are_compared_in_all_else(tmp_path: Path) -> None:
    runs = {
        policy: {"policy": policy, "accuracies": [None] * 4, "round_s": length_s}
        for policy, length_s in (("a", 10.0), ("b", 5.0))
    }
    comparison = compared(tmp_path, runs, baseline="a", budget_s=1.0)
    assert comparison.question.target is None
    row = figure(comparison, "b", "mean_waiting_s")
    assert (row["mean"], row["ratio"]) == (1.25, 0.5)
    assert figure(comparison, "b", "accuracy_in_time")["n_values"] == 0


def test_settings_that_differ_make_groups(tmp_path: Path) -> None:
    def settings(alpha: float, hosts: int, **policy: Any) -> dict[str, Any]:
        data = {"source": "x.csv", "partition": {"alpha": alpha}}
        return {"data": data, "backend": {"hosts": hosts}, "policy": {"path": "a", **policy}}

    runs = {
        "1": {"seed": 0, "accuracies": [0.5], "settings": settings(0.1, 1, rank=4)},
        "2": {"seed": 1, "accuracies": [0.5], "settings": settings(0.1, 2, rank=4)},
        "3": {"seed": 0, "accuracies": [0.5], "settings": settings(0.1, 2, rank=8)},
        "4": {"seed": 0, "accuracies": [0.5], "settings": settings(1.0, 2, rank=8)},
    }
    comparison = compared(tmp_path, runs)
    assert comparison.runs["group"].tolist() == [
        "a(rank=4), alpha=0.1",
        "a(rank=4), alpha=0.1",
        "a(rank=8), alpha=0.1",
        "a(rank=8), alpha=1.0",
    ]
    assert comparison.by == ("policy", "data.partition.alpha")


def cases(tmp_path: Path) -> dict[str, dict[str, Any]]:
    return {
        f"{policy}-{alpha}-{seed}": {
            "policy": policy,
            "seed": seed,
            "accuracies": [0.5],
            "round_s": {"a": 10.0, "b": 20.0}[policy] * alpha * (1 + seed),
            "settings": {"policy": {"path": policy}, "data": {"partition": {"alpha": alpha}}},
        }
        for policy in "ab"
        for alpha in (1.0, 3.0)
        for seed in (0, 1)
    }  # fmt: skip


def test_a_policy_as_baseline_is_the_one_with_the_same_other_settings(tmp_path: Path) -> None:
    comparison = compared(tmp_path, cases(tmp_path), baseline="a")
    assert comparison.baselines["b, alpha=3.0"] == "a, alpha=3.0"
    row = figure(comparison, "b, alpha=3.0", "time_s")
    assert (row["n_pairs"], row["ratio"], row["ratio_low"]) == (2, pytest.approx(2.0), pytest.approx(2.0))


def test_a_policy_as_baseline_goes_by_its_name_whatever_its_parameters_where_there_is_one(tmp_path: Path) -> None:
    runs = {
        "a": {"policy": "a(depth=3)", "accuracies": [0.5]},
        "b": {"policy": "b", "accuracies": [0.5]},
    }
    assert set(compared(tmp_path, runs, baseline="a").baselines.values()) == {"a(depth=3)"}


def test_a_policy_that_has_several_settings_is_no_baseline_by_its_name_alone(tmp_path: Path) -> None:
    runs = {
        name: {"policy": policy, "accuracies": [0.5]}
        for name, policy in {"x": "a(depth=3)", "y": "a(depth=4)", "z": "b"}.items()
    }
    message = r"the baseline 'a' is a policy with several settings here, give one of: 'a\(depth=3\)', 'a\(depth=4\)'$"
    with pytest.raises(UserError, match=message):
        compared(tmp_path, runs, baseline="a")


def test_a_group_as_baseline_is_that_of_all(tmp_path: Path) -> None:
    comparison = compared(tmp_path, cases(tmp_path), baseline="a, alpha=1.0")
    assert figure(comparison, "b, alpha=3.0", "time_s")["ratio"] == pytest.approx(6.0)


def test_by_policy_pairs_over_seeds_and_all_else(tmp_path: Path) -> None:
    comparison = compared(tmp_path, cases(tmp_path), by=["policy"], baseline="a")
    row = figure(comparison, "b", "time_s")
    assert (row["n_runs"], row["n_pairs"], row["ratio"]) == (4, 4, pytest.approx(2.0))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": ["polici"]}, "did you mean policy"),
        ({"by": ["seed"]}, "grouped by settings in which they differ"),
        ({"baseline": "c"}, "the baseline 'c' is neither a group nor a policy; the groups are: 'a', 'b'"),
    ],
)
def test_unknown_settings_and_baselines_are_refused(tmp_path: Path, asked: dict[str, Any], message: str) -> None:
    runs = {policy: {"policy": policy, "accuracies": [0.5]} for policy in "ab"}
    with pytest.raises(UserError, match=message):
        compared(tmp_path, runs, **asked)


@pytest.mark.parametrize(
    ("settings", "info", "what"),
    [
        ({"data": {"source": "y.csv"}}, {}, "data.source: 'x.csv'"),
        ({"data": {"source": "x.csv", "n_test": 9}}, {}, "data.n_test: 5"),
        ({"evaluation": {"every_rounds": 2}}, {}, "evaluation.every_rounds: 1"),
        ({"training": {"enabled": False}}, {}, "training.enabled: True"),
        ({}, {"label_names": ["no", "yes"]}, "label_names"),
        ({}, {"n_test_examples": 100}, "n_test_examples: 200"),
        ({}, {"profile_sha256": {"board": "2"}}, "profile_sha256 of board"),
        ({}, {"cluster_sha256": "2"}, "cluster_sha256 of c.toml"),
    ],
)
def test_runs_of_other_data_labels_evaluation_or_profiles_are_refused(
    tmp_path: Path, settings: dict[str, Any], info: dict[str, Any], what: str
) -> None:
    first = {
        "data": {"source": "x.csv", "n_test": 5},
        "evaluation": {"every_rounds": 1},
        "training": {"enabled": True},
        "testbed": {"cluster": "c.toml"},
    }
    about = {
        "label_names": ["yes", "no"],
        "n_test_examples": 200,
        "profile_sha256": {"board": "1"},
        "cluster_sha256": "1",
    }
    runs = {
        "first": {"accuracies": [0.5], "settings": first, "info": about},
        "other": {"accuracies": [0.5], "seed": 1, "settings": first | settings, "info": about | info},
    }
    with pytest.raises(UserError, match=rf"cannot be compared, they differ in {what}.*first.*other"):
        compared(tmp_path, runs)


def test_other_clusters_partitions_and_models_may_be_compared(tmp_path: Path) -> None:
    def about(cluster: str) -> dict[str, Any]:
        settings = {"testbed": {"cluster": cluster}, "data": {"partition": {"alpha": len(cluster)}}}
        return {
            "accuracies": [0.5],
            "settings": settings,
            "info": {"cluster_sha256": cluster, "profile_sha256": {cluster: cluster}},
        }

    comparison = compared(tmp_path, {"1": about("one"), "2": about("three")})
    assert comparison.runs["group"].tolist() == ["a, cluster=one, alpha=3", "a, cluster=three, alpha=5"]


@pytest.mark.parametrize("value", [None, "x", [], [[1]], {"a": None}, 10**400])
def test_damaged_settings_make_a_group_of_their_own(tmp_path: Path, value: Any) -> None:
    config = {"seed": value, "rounds": value, "policy": {"path": value, "rank": value}}
    runs: dict[str, dict[str, Any]] = {
        "1": {"accuracies": [0.5], "settings": {"seed": 0, "rounds": 1, "policy": {"path": "a", "rank": 1}}},
        "2": {"accuracies": [0.5], "settings": config},
    }
    comparison = compared(tmp_path, runs)
    assert comparison.runs["seed"].tolist() == [0, 0]
    assert comparison.runs["policy"].str.startswith("a").all()
    assert comparison.runs["group"].nunique() == 2


def test_the_same_study_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"count twice.*first.*second"):
        compared(tmp_path, {"first": {"accuracies": [0.5]}, "second": {"accuracies": [0.5]}})


def test_no_runs_are_refused() -> None:
    with pytest.raises(UserError, match="no runs"):
        compare([])


def test_a_sweep_shows_runs_that_failed_go_on_or_have_not_begun(tmp_path: Path) -> None:
    runs: dict[str, dict[str, Any]] = {
        "a-s0": {"seed": 0, "accuracies": [0.2, 0.5]},
        "a-s1": {"seed": 1, "accuracies": [0.2], "status": "failed", "error": "a host died"},
        "b-s0": {"policy": "b", "seed": 0, "accuracies": [0.5, 0.9], "status": "running"},
        "b-s1": {},
    }
    axes = {name: {"policy": name[0], "seed": int(name[-1]), "data.partition.alpha": 0.5} for name in runs}
    comparison = compare(load_sweep(write_sweep(tmp_path / "sweep", runs, axes)))
    # The target is what the one finished run reaches; the failed one stopped before.
    assert comparison.question.target == 0.5
    assert comparison.runs["status"].tolist() == ["finished", "failed", "running", "planned"]
    assert comparison.runs["error"].tolist()[1] == "a host died"
    row = figure(comparison, "a, alpha=0.5", "time_to_target_s")
    assert (row["n_runs"], row["n_unfinished"], row["n_values"], row["mean"]) == (2, 1, 1, 20.0)
    row = figure(comparison, "b, alpha=0.5", "time_to_target_s")
    assert (row["n_runs"], row["n_unfinished"], row["n_values"], row["mean"]) == (2, 2, 1, 10.0)


def test_a_sweep_of_nothing_but_plans_has_no_figures(tmp_path: Path) -> None:
    axes: dict[str, dict[str, Any]] = {"x": {"policy": "a", "seed": 0}}
    comparison = compare(load_sweep(write_sweep(tmp_path / "sweep", {"x": {}}, axes)), baseline="a")
    assert comparison.question.target is None
    assert (comparison.groups["n_values"] == 0).all()
    assert pd.isna(comparison.groups["mean"]).all()
