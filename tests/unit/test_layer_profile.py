"""Profiles of layers: rank laws that can be compared, what is measured of a model, and the table of several."""

import math
from typing import Any

import pytest

from benchmarks.layer_profile import HIGHEST_RANK, LOWEST_RANK, MEAN_RANK, Protocol, measure, page, rank_laws, table

HALF = "upper half, rank 8"
HOW = {
    "batch_size": 16,
    "learning_rate": 1e-3,
    "precision": "bfloat16",
    "n_train": None,
    "seq_len": 32,
    "seeds": [10, 11],
}


@pytest.mark.parametrize("n_layers", [6, 12, 24])
def test_rank_laws_that_are_compared_have_the_same_sum(n_layers: int) -> None:
    laws = rank_laws(n_layers)
    rising, falling = laws["ranks 2 to 14, rising"], laws["ranks 14 to 2, falling"]

    assert sum(rising) == sum(falling) == sum(laws["all layers, rank 8"]) == MEAN_RANK * n_layers
    assert list(rising) == sorted(rising)
    assert (rising[0], rising[-1]) == (LOWEST_RANK, HIGHEST_RANK)


def test_depths_are_shares_of_the_layers_counted_from_the_output() -> None:
    laws = rank_laws(12)

    assert laws[HALF] == (0,) * 6 + (8,) * 6
    assert laws["upper quarter, rank 8"] == (0,) * 9 + (8,) * 3
    assert laws["last layer, rank 8"] == (0,) * 11 + (8,)
    assert laws["lower half, rank 8"] == (8,) * 6 + (0,) * 6
    assert not any(laws["head alone"])


def profile(model: str, half: float) -> dict[str, Any]:
    rows = {"head alone": [0.2, 0.4], "all layers, rank 8": [0.8, 0.8], HALF: [half]}
    return {
        "protocol": {"model": model, "data": "builtin:intents", "steps": 60, **HOW},
        "n_test_examples": 50,
        "accuracies": rows,
        "gradient_norms": [[1.0, 3.0], [3.0, 5.0]],
    }


def test_the_table_has_means_over_seeds_the_share_that_the_upper_half_keeps_and_gradients_over_the_largest() -> None:
    lines = table([profile("builtin:one", half=0.7), profile("models/another", half=0.8)]).splitlines()

    assert lines[0] == "| | builtin:one on builtin:intents, 60 steps | models/another on builtin:intents, 60 steps |"
    assert "| head alone | 0.300 | 0.300 |" in lines
    # (0.7 - 0.3) / (0.8 - 0.3), and all of it.
    assert lines[-2].endswith("| 80% | 100% |")
    # Means over seeds 2 and 4, over 4.
    assert lines[-1].endswith("| 0.50 1.00 | 0.50 1.00 |")


def test_the_page_says_how_each_profile_was_measured() -> None:
    text = page([profile("builtin:one", half=0.7)])

    # Half a point in the middle of the scale, over the root of 2 x 50 held-out examples.
    assert (
        "- builtin:one on builtin:intents, 60 steps of 16 at 0.001, in bfloat16: all examples to train on, 50 held "
        "out, at most 32 tokens; seeds 10, 11; uncertain by 0.050" in text
    )
    assert "| head alone | 0.300 |" in text


@pytest.mark.slow
def test_a_profile_of_the_built_in_model_has_a_gradient_for_each_layer_and_a_head_that_learns() -> None:
    protocol = Protocol(
        model="builtin:tiny-12",
        data="builtin:intents",
        test_data=None,
        text_column="text",
        label_column="label",
        seq_len=32,
        n_train=200,
        n_test=100,
        steps=2,
        batch_size=8,
        learning_rate=1e-3,
        seeds=(10,),
        threads=1,
    )
    measured = measure(protocol, only=["head"])

    assert list(measured["accuracies"]) == ["head alone"]
    (norms,) = measured["gradient_norms"]
    assert len(norms) == 12
    assert all(math.isfinite(norm) and norm > 0 for norm in norms)
