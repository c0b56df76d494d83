"""What the sums of shards come to, by objective."""

import math

import pytest

from emulator.objective.causal import Causal, option_accuracies
from emulator.objective.classification import Classification
from emulator.records import EvaluationShard, OptionScore
from emulator.shapes.catalog import causal_spec_from_config
from emulator.shapes.causal import CausalSpec


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


def test_a_priced_response_is_as_long_as_the_setting_or_the_trained_examples_say() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 10,
        "max_position_embeddings": 64,
    }

    def response_len(objective: Causal, like: CausalSpec | None = None) -> int:
        spec = objective.spec("tiny", n_labels=0, seq_len=32, head="output", config=config, like=like)
        assert isinstance(spec, CausalSpec)
        return spec.response_len

    trained = causal_spec_from_config(config, name="tiny", seq_len=64, response_len=16)
    assert response_len(Causal()) == 32
    assert response_len(Causal(), like=trained) == 8  # a quarter
    assert response_len(Causal(response_len=5), like=trained) == 5
    assert response_len(Causal(response_len=500)) == 32
    priced = Causal(response_len=5).priced(trained)
    assert isinstance(priced, CausalSpec)
    assert priced.response_len == 5


def test_an_answer_counts_where_it_is_the_likeliest_in_all_or_by_character() -> None:
    scores = [
        # -6 / 6 characters is better than -3 / 2: the long answer wins by character alone
        OptionScore(0, True, 6, -6.0),
        OptionScore(0, False, 2, -3.0),
        OptionScore(1, False, 3, -9.0),
        OptionScore(1, True, 3, -8.0),
    ]
    assert option_accuracies(scores) == (0.5, 1.0)
    assert option_accuracies(scores[::-1]) == (0.5, 1.0)  # shards may part the options of a choice
    assert option_accuracies([]) == (None, None)
