"""What the sums of shards come to, by objective."""

import math

import pytest

from emulator.objective.causal import Causal
from emulator.objective.classification import Classification
from emulator.records import EvaluationShard


def test_an_evaluation_is_the_mean_over_all_examples_of_all_shards() -> None:
    evaluation = Classification().evaluation([EvaluationShard(6.0, 3, 4), EvaluationShard(1.0, 1, 1)])

    # (3 + 1) of 5 examples are right; the loss is (6 + 1) / 5, not the mean of 6 / 4 and 1.
    assert (evaluation.accuracy, evaluation.loss, evaluation.n_examples) == (4 / 5, 7 / 5, 5)
    assert (evaluation.perplexity, evaluation.token_accuracy) == (None, None)


def test_a_causal_evaluation_is_the_mean_over_all_tokens() -> None:
    evaluation = Causal().evaluation([EvaluationShard(6.0, 3, 2, n_tokens=8), EvaluationShard(4.0, 1, 1, n_tokens=2)])

    # 10 nat and 4 tokens foretold of 10, in 3 examples.
    assert (evaluation.loss, evaluation.token_accuracy, evaluation.n_examples) == (1.0, 0.4, 3)
    assert evaluation.perplexity == pytest.approx(math.e)
    assert evaluation.accuracy is None


def test_a_loss_that_has_diverged_has_a_perplexity_that_is_a_number() -> None:
    evaluation = Causal().evaluation([EvaluationShard(5000.0, 0, 1, n_tokens=1)])

    assert evaluation.perplexity is not None
    assert math.isfinite(evaluation.perplexity)
