"""The choice of learning rates, on scores that are given."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.claims.plan import tuned_rates
from benchmarks.claims.tuning import choose, said, score, write

SEEDS = (10, 11)


def test_a_runs_score_is_its_mean_accuracy_in_the_second_half() -> None:
    nan = float("nan")
    rounds = pd.DataFrame({"round_index": [3, 0, 1, 2], "accuracy": [0.75, 1.0, 1.0, nan]})

    assert score(rounds) == 0.75  # of rounds 2 and 3; round 2 was not evaluated


def test_the_rate_with_the_best_mean_over_seeds_is_chosen() -> None:
    found = {0.1: {10: 0.2, 11: 0.3}, 0.2: {10: 0.9, 11: 0.1}, 0.3: {10: 0.4, 11: 0.4}}

    choice = choose(found, (0.3, 0.1, 0.2), SEEDS)

    assert choice is not None
    assert choice.rate == 0.2
    assert choice.means == pytest.approx({0.1: 0.25, 0.2: 0.5, 0.3: 0.4})
    assert not choice.is_at_edge


def test_of_equal_rates_the_lower_is_chosen_and_an_edge_is_told() -> None:
    choice = choose({0.1: {10: 0.5, 11: 0.5}, 0.2: {10: 0.5, 11: 0.5}}, (0.1, 0.2), SEEDS)

    assert choice is not None
    assert choice.rate == 0.1
    assert "at the edge" in said(choice)


@pytest.mark.parametrize("found", [{}, {0.1: {10: 0.5, 11: 0.5}}, {0.1: {10: 0.5, 11: 0.5}, 0.2: {10: 0.9}}])
def test_nothing_is_chosen_while_runs_are_missing(found: dict[float, dict[int, float]]) -> None:
    assert choose(found, (0.1, 0.2), SEEDS) is None
    assert said(None) == "not all runs are finished"


def test_what_was_chosen_before_stays_unless_the_size_is_another(tmp_path: Path) -> None:
    file = tmp_path / "learning_rates.toml"
    choice = choose({0.1: {10: 0.5, 11: 0.5}}, (0.1,), SEEDS)
    assert choice is not None

    write("builtin", "small", {"fedlora": choice}, file)
    write("builtin", "small", {"legend": choice}, file)
    write("real", "gpu", {"fedlora": choice}, file)
    assert tuned_rates(file) == {"builtin": {"fedlora": 0.1, "legend": 0.1}, "real": {"fedlora": 0.1}}
    assert tomllib.loads(file.read_text())["builtin"]["scores"]["legend"] == {"0.1": 0.5}

    write("builtin", "laptop", {"legend": choice}, file)
    assert tuned_rates(file)["builtin"] == {"legend": 0.1}


def test_without_a_search_there_are_no_tuned_rates(tmp_path: Path) -> None:
    assert tuned_rates(tmp_path / "none.toml") == {}
