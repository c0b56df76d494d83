"""Whole runs of causal language models: what they record, and what they refuse before anything is loaded."""

import math
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.errors import UserError
from tests.unit.learning.tiny_decoders import save_tiny_decoder, write_rows


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "task.kind": "causal",
        "model.train": save_tiny_decoder("llama", folder / "model"),
        "model.price": "trained",
        "data.source": write_rows(folder / "rows.jsonl", 80),
        "data.prompt_column": "prompt",
        "data.response_column": "response",
        "data.seq_len": 64,
        "policy.path": "fedlora",
        "rounds": 3,
        "testbed.n_devices": 4,
        "backend.kind": "inline",
        "training.learning_rate": 1e-2,
    } | {key.replace("__", "."): value for key, value in changed.items()}


def test_a_federated_run_learns_and_records_perplexity(tmp_path: Path) -> None:
    run = emulator.emulate(settings(tmp_path), tmp_path / "run")

    rounds = run.rounds
    assert rounds["accuracy"].isna().all()
    assert rounds["loss"].is_monotonic_decreasing
    assert rounds["perplexity"].tolist() == pytest.approx([math.exp(loss) for loss in rounds["loss"]])
    assert rounds["token_accuracy"].between(0, 1).all()
    assert run.info["majority_accuracy"] is None
    assert run.info["priced_shapes"]["vocabulary_size"] > 256
    assert run.info["priced_shapes"]["response_len"] < 64


def test_a_longer_response_costs_the_devices_more(tmp_path: Path) -> None:
    short, long = (
        emulator.emulate(
            settings(tmp_path, training__enabled=False, rounds=1, task__price_response_len=n), tmp_path / str(n)
        ).devices["work_flop"]
        for n in (4, 64)
    )
    assert (long > short).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data__response_column": "answer"}, "has no column 'answer'"),
        ({"data__template": "Say:"}, "has no slot"),
        ({"model__train": "builtin:tiny-12"}, "which gives no next word"),
        ({"model__price": "roberta-base"}, "which gives no next word"),
        ({"data__source": "builtin:intents"}, "has labels and no responses"),
        (
            {
                "model__train": "builtin:cnn",
                "model__price": "alexnet",
                "data__source": "builtin:digits",
                "policy__path": "mergesfl",
            },
            "is a convnet, which learns labels of images alone",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        emulator.emulate(settings(tmp_path, **changed), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
