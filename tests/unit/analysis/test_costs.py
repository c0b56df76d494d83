"""Costs to a target and accuracy under a budget, against closed forms of runs by hand."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from emulator.analysis import best_score, cost_to_target, final_score, score_within, spent, total
from emulator.analysis.costs import kind_of_task, quoted_score
from emulator.config.task import TaskConfig
from emulator.objective.scores import QUOTED_OF
from emulator.results.reader import load_run
from tests.made_runs import write_run


@pytest.fixture
def rounds(tmp_path: Path) -> pd.DataFrame:
    """Rounds of 10, 20, 30 and 40 s that start at 5 s; the second is not evaluated, the last is worse than the third.

    Each round receives 1000 bytes, sends 500 and takes 20 J.
    """
    run = write_run(tmp_path / "run", [0.2, None, 0.6, 0.5], round_s=[10.0, 20.0, 30.0, 40.0], start_s=5.0)
    return load_run(run).rounds


def test_what_is_spent_adds_up_from_the_start_of_the_run(rounds: pd.DataFrame) -> None:
    rows = spent(rounds)
    assert rows["time_s"].tolist() == [10.0, 30.0, 60.0, 100.0]
    assert rows["n_rounds"].tolist() == [1, 2, 3, 4]
    assert rows["total_bytes"].tolist() == [1500, 3000, 4500, 6000]
    assert rows["energy_j"].tolist() == [20.0, 40.0, 60.0, 80.0]
    assert total(rounds) == {
        "n_rounds": 4,
        "time_s": 100.0,
        "download_bytes": 4000,
        "upload_bytes": 2000,
        "total_bytes": 6000,
        "energy_j": 80.0,
    }


def test_rounds_in_any_order_spend_the_same(rounds: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(spent(rounds.iloc[::-1]), spent(rounds))


@pytest.mark.parametrize(
    ("target", "n_rounds", "time_s"),
    [
        (0.1, 1, 10.0),
        (0.2, 1, 10.0),  # exactly what the first round has
        (0.3, 3, 60.0),  # between two evaluated rounds: the later one, past the round that was not evaluated
        (0.6, 3, 60.0),
        (0.55, 3, 60.0),  # the last round is below it again
    ],
)
def test_a_target_is_reached_at_the_end_of_the_first_evaluated_round_that_has_it(
    rounds: pd.DataFrame, target: float, n_rounds: int, time_s: float
) -> None:
    assert cost_to_target(rounds, target) == {
        "n_rounds": n_rounds,
        "time_s": time_s,
        "download_bytes": 1000 * n_rounds,
        "upload_bytes": 500 * n_rounds,
        "total_bytes": 1500 * n_rounds,
        "energy_j": 20.0 * n_rounds,
    }


def test_a_target_above_the_best_is_never_reached(rounds: pd.DataFrame) -> None:
    assert cost_to_target(rounds, 0.6000001) is None
    assert cost_to_target(rounds, 0.6000001, interpolate=True) is None


def test_interpolation_draws_a_line_between_evaluated_rounds(rounds: pd.DataFrame) -> None:
    # 0.3 is a quarter of the way from 0.2 at 10 s, 1500 bytes, to 0.6 at 60 s, 4500 bytes.
    cost = cost_to_target(rounds, 0.3, interpolate=True)
    assert cost is not None
    assert cost["time_s"] == pytest.approx(10 + 50 / 4)
    assert cost["total_bytes"] == pytest.approx(1500 + 3000 / 4)
    assert cost["energy_j"] == pytest.approx(20 + 40 / 4)
    assert cost["n_rounds"] == pytest.approx(1 + 2 / 4)


@pytest.mark.parametrize(("target", "time_s"), [(0.1, 10.0), (0.2, 10.0), (0.6, 60.0)])
def test_interpolation_changes_nothing_before_the_first_and_at_an_evaluated_round(
    rounds: pd.DataFrame, target: float, time_s: float
) -> None:
    cost = cost_to_target(rounds, target, interpolate=True)
    assert cost is not None
    assert cost["time_s"] == pytest.approx(time_s, abs=1e-12)


@pytest.mark.parametrize(
    ("cost", "budget", "accuracy"),
    [
        ("time_s", 9.9, None),
        ("time_s", 10.0, 0.2),
        ("time_s", 59.9, 0.2),
        ("time_s", 60.0, 0.6),
        ("time_s", 1e9, 0.5),  # the run ended long before: its last accuracy, not its best
        ("total_bytes", 4499, 0.2),
        ("total_bytes", 4500, 0.6),
        ("energy_j", 80.0, 0.5),
    ],
)
def test_a_budget_buys_the_last_accuracy_that_was_known_within_it(
    rounds: pd.DataFrame, cost: str, budget: float, accuracy: float | None
) -> None:
    assert score_within(rounds, cost, budget) == accuracy


def test_the_final_accuracy_is_the_last_evaluated_and_the_best_the_highest(rounds: pd.DataFrame) -> None:
    assert (final_score(rounds), best_score(rounds)) == (0.5, 0.6)
    assert (final_score(rounds.iloc[:2]), best_score(rounds.iloc[:2])) == (0.2, 0.2)


def test_a_run_without_accuracy_or_rounds_has_neither(rounds: pd.DataFrame) -> None:
    for empty in (rounds.iloc[1:2], rounds.iloc[:0]):
        assert final_score(empty) is None
        assert best_score(empty) is None
        assert cost_to_target(empty, 0.0) is None
        assert score_within(empty, "time_s", 1e9) is None
    assert total(rounds.iloc[:0]) == {}


def test_a_score_that_is_better_the_lower_it_is_is_reached_from_above(rounds: pd.DataFrame) -> None:
    # The loss is one minus the accuracy: 0.8, not evaluated, 0.4, 0.5.
    assert cost_to_target(rounds, 0.7, score="loss") == cost_to_target(rounds, 0.3)
    assert cost_to_target(rounds, 0.7, True, "loss") == pytest.approx(cost_to_target(rounds, 0.3, True))
    assert cost_to_target(rounds, 0.39, score="loss") is None
    assert (final_score(rounds, "loss"), best_score(rounds, "loss")) == (0.5, 0.4)
    assert score_within(rounds, "time_s", 60.0, "loss") == 0.4


def test_runs_are_measured_by_accuracy_or_by_what_people_quote_of_them(rounds: pd.DataFrame) -> None:
    tokens = rounds.assign(accuracy=float("nan"), token_accuracy=0.5, perplexity=3.0)

    assert quoted_score([rounds, tokens, None]) == "accuracy"
    assert quoted_score([tokens, None]) == "token_accuracy"
    assert quoted_score([None]) == "accuracy"


def test_where_nothing_is_evaluated_the_kind_of_task_says_what_is_quoted(rounds: pd.DataFrame) -> None:
    unseen = rounds.assign(accuracy=float("nan"))

    assert quoted_score([unseen], "causal") == "token_accuracy"
    assert quoted_score([rounds], "causal") == "accuracy"
    assert kind_of_task({"config": {"task": {"kind": "causal"}}}) == "causal"
    assert kind_of_task({"status": "running"}) is None


def test_something_is_quoted_of_every_kind_of_task() -> None:
    assert set(QUOTED_OF) == set(get_args(TaskConfig.model_fields["kind"].annotation))
