"""Whole runs of causal language models: what they record, and what they refuse before anything is loaded."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.config import load_config
from emulator.errors import UserError
from emulator.running.inputs import price_name
from emulator.shapes.transformer_catalog import BUILTIN_DECODER
from tests.unit.learning.tiny_decoders import CHAT_TEMPLATE, THINGS, save_tiny_decoder, write_chats, write_rows


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


def chat_settings(folder: Path, **changed: Any) -> dict[str, Any]:
    chats = {"data.source": write_chats(folder / "chats.jsonl", 80), "data.messages_column": "messages"}
    given = settings(folder) | chats | {key.replace("__", "."): value for key, value in changed.items()}
    return {key: value for key, value in given.items() if key not in ("data.prompt_column", "data.response_column")}


def test_chats_are_learnt_in_the_words_of_the_models_own_template(tmp_path: Path) -> None:
    model = save_tiny_decoder("llama", tmp_path / "chats", CHAT_TEMPLATE)
    run = emulator.emulate(chat_settings(tmp_path, model__train=model), tmp_path / "run")
    assert run.rounds["loss"].is_monotonic_decreasing
    assert run.info["data"]["example"]["learnt"].startswith("the ")


def test_chats_are_refused_where_a_model_has_no_template_for_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no chat template for data.messages_column"):
        emulator.emulate(chat_settings(tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.golden
def test_a_run_on_choices_records_how_many_answers_are_the_likeliest_option(tmp_path: Path) -> None:
    rows = [
        {"ask": f"the {THINGS[row % 5]} is", "options": ["red", "green", "blue"], "answer": row % 5 % 3}
        for row in range(80)
    ]
    (tmp_path / "choices.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    columns = {"data.prompt_column": "ask", "data.options_column": "options", "data.answer_column": "answer"}
    given = settings(tmp_path, data__source=str(tmp_path / "choices.jsonl"), rounds=8) | columns
    del given["data.response_column"]
    run = emulator.emulate(given, tmp_path / "run")
    for column in ("option_accuracy", "option_accuracy_norm", "exact_match"):
        assert run.rounds[column].between(0, 1).all()
    assert run.rounds["option_accuracy"].iloc[-1] > 0.8  # 0.625 after the first round; 1.0 was seen
    assert run.info["n_test_examples"] == 8


def test_packed_texts_are_learnt(tmp_path: Path) -> None:
    run = emulator.emulate(settings(tmp_path, data__packing=True), tmp_path / "run")
    assert run.rounds["loss"].is_monotonic_decreasing


def test_the_kind_of_task_alone_names_the_built_in_decoder() -> None:
    causal = ("task.kind", "causal")
    built_in = load_config(None, [causal])
    assert (built_in.model.train, built_in.data.source) == (BUILTIN_DECODER, "builtin:intents")
    assert price_name(built_in) == "llama-160m"
    # A user's own texts have words that it does not know, and a model that is named is meant.
    assert load_config(None, [causal, ("data.source", "rows.jsonl")]).model.train == "builtin:mini-12"
    assert load_config(None, [causal, ("model.train", "mine")]).model.train == "mine"
    assert load_config(None, [("data.source", "builtin:intents")]).model.train == "builtin:mini-12"


@pytest.mark.golden
@pytest.mark.slow
def test_the_built_in_decoder_learns_to_answer_the_built_in_commands(tmp_path: Path) -> None:
    given = {
        "task.kind": "causal",
        "data.n_train": 1600,
        "data.n_test": 200,
        "policy.path": "fedlora",
        "rounds": 8,
        "testbed.n_devices": 8,
        "backend.kind": "inline",
        "training.learning_rate": 5e-3,
    }
    run = emulator.emulate(given, tmp_path / "run")
    first, last = run.rounds.iloc[0], run.rounds.iloc[-1]
    assert last["loss"] < 0.75 * first["loss"]  # 0.6 of it was seen
    assert last["exact_match"] > 0.4  # 0.28 before any training, 0.46 was seen
    assert run.info["priced_shapes"]["name"] == "llama-160m"


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
        ({"data__source": "builtin:poems"}, "there is no built-in data set 'builtin:poems'; there is: builtin:intents"),
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
