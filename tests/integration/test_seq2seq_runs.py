"""Whole runs of encoder-decoders: what they record, and what they refuse before anything is loaded."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM

import emulator
from emulator.backends.content import load_content
from emulator.config import load_config
from emulator.errors import UserError
from emulator.learning.host import HostContent
from emulator.policy.catalog import policy_class, policy_names
from emulator.results.reader import RunFrames
from tests.command_line import in_process
from tests.unit.learning.tiny_decoders import THINGS, save_tiny_decoder, write_chats, write_rows
from tests.unit.learning.tiny_encoder_decoders import save_tiny_encoder_decoder


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    return {
        "task.kind": "seq2seq",
        "model.train": save_tiny_encoder_decoder("t5", folder / "model"),
        "data.source": write_rows(folder / "rows.jsonl", 80),
        "data.prompt_column": "prompt",
        "data.response_column": "response",
        "policy.path": "fedlora",
        "rounds": 3,
        "testbed.n_devices": 4,
        "backend.kind": "inline",
        "training.learning_rate": 1e-2,
    } | {key.replace("__", "."): value for key, value in changed.items()}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFrames, dict[str, Any]]:
    """A run, and its settings."""
    folder = tmp_path_factory.mktemp("learnt")
    given = settings(folder, data__response_seq_len=16, evaluation__device_fraction=0.2)
    return emulator.emulate(given, folder / "run"), given


Learnt = tuple[RunFrames, dict[str, Any]]


def test_a_federated_run_learns_and_records_perplexity(learnt: Learnt) -> None:
    run, _ = learnt
    rounds = run.rounds
    assert rounds["accuracy"].isna().all()
    assert rounds["loss"].is_monotonic_decreasing
    assert rounds["perplexity"].tolist() == pytest.approx([math.exp(loss) for loss in rounds["loss"]])
    assert rounds["token_accuracy"].between(0, 1).all()
    assert run.devices["own_score"].between(0, 1).all()
    assert run.info["priced_shapes"]["n_encoder_layers"] == 2
    assert 1 <= run.info["priced_shapes"]["response_len"] <= 16
    assert run.info["data"]["example"]["given"].startswith("what is the colour")


def test_the_adapter_gives_the_run_s_own_evaluation_elsewhere(learnt: Learnt) -> None:
    run, given = learnt
    content, prepared = load_content(load_config(None, list(given.items())), 4)
    assert isinstance(content, HostContent)
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(run.path / "adapter").eval()
    data, rows = content.test, slice(prepared.n_test_examples)
    assert data.responses is not None
    ids, labels = (torch.from_numpy(each[rows].astype(np.int64)) for each in (data.input_ids, data.responses.input_ids))
    mask = torch.from_numpy(np.arange(ids.shape[1]) < data.lengths[rows][:, None]).long()
    is_said = torch.from_numpy(np.arange(labels.shape[1]) < data.responses.lengths[rows][:, None])
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, labels=labels.masked_fill(~is_said, -100))
    last = run.rounds.iloc[-1]
    assert float(out.loss) == pytest.approx(last["loss"], abs=1e-5)
    assert float((out.logits.argmax(-1) == labels)[is_said].float().mean()) == pytest.approx(last["token_accuracy"])


def test_the_adapter_is_merged_into_its_base(learnt: Learnt, tmp_path: Path) -> None:
    run, _ = learnt
    assert in_process("merge", str(run.path), "--out", str(tmp_path / "merged")).returncode == 0
    from transformers import AutoModelForSeq2SeqLM

    merged = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged").eval()
    tuned = AutoPeftModelForSeq2SeqLM.from_pretrained(run.path / "adapter").eval()
    ids = torch.arange(3, 19).view(2, 8)
    with torch.no_grad():
        logits = [each(input_ids=ids, decoder_input_ids=ids).logits for each in (merged, tuned)]
    assert torch.allclose(*logits, atol=1e-4)


def policies() -> list[str]:
    return [name for name in policy_names() if "encoder-decoder" in policy_class(name).families]


@pytest.mark.slow
@pytest.mark.parametrize("name", policies())
def test_every_policy_that_is_for_encoder_decoders_trains_one(name: str, tmp_path: Path) -> None:
    run = emulator.emulate(settings(tmp_path, policy__path=name, rounds=2), tmp_path / "run")
    assert len(run.rounds) == 2
    assert run.rounds["loss"].notna().all()
    AutoPeftModelForSeq2SeqLM.from_pretrained(run.path / "adapter")


@pytest.mark.parametrize("scheme", ["iid", "quantity", "dirichlet", "natural"])
def test_partitions_are_as_for_other_models(scheme: str, tmp_path: Path) -> None:
    given = settings(tmp_path, rounds=1) | {"data.partition.scheme": scheme}
    if scheme == "natural":
        given["data.partition.column"] = "response"
    run = emulator.emulate(given, tmp_path / "run")
    assert run.partition is not None
    assert run.partition["n_examples"].sum() == 72


def test_choices_are_scored_option_by_option(tmp_path: Path) -> None:
    rows = [
        {"ask": f"the {THINGS[row % 5]} is", "options": ["red", "green", "blue"], "answer": row % 5 % 3}
        for row in range(80)
    ]
    (tmp_path / "choices.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    columns = {"data.prompt_column": "ask", "data.options_column": "options", "data.answer_column": "answer"}
    given = settings(tmp_path, data__source=str(tmp_path / "choices.jsonl"), rounds=2) | columns
    del given["data.response_column"]
    run = emulator.emulate(given, tmp_path / "run")
    for column in ("option_accuracy", "option_accuracy_norm", "exact_match"):
        assert run.rounds[column].between(0, 1).all()
    assert run.info["n_test_examples"] == 8


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
        (
            {"model__train": "builtin:tiny-12"},
            "must be an encoder-decoder for task.kind = 'seq2seq', and none",
        ),
        ({"model__train": "builtin:cnn"}, "is a convnet, which learns labels of images alone"),
        ({"model__price": "roberta-base"}, "roberta model, which is no encoder-decoder"),
        ({"model__price": "t5-small"}, r"has 6 \+ 6 layers \(encoder \+ decoder\) but the trained model has 2 \+ 3"),
        ({"model__depth_map": "proportional"}, "an encoder-decoder has layers of two kinds"),
        ({"data__packing": True}, "it is not known that texts which share a row stay apart in a t5 model"),
        (
            {"policy__path": "splitfed"},
            "model.train is an encoder-decoder; choose another model",
        ),
        ({"policy__path": "fedspine"}, "is for transformer models, and model.train is an encoder-decoder"),
        ({"task__kind": "causal"}, "encoder-decoders, which learn with task.kind = 'seq2seq' alone"),
        ({"task__kind": "classification"}, "encoder-decoders, which learn with task.kind = 'seq2seq' alone"),
        ({"data__response_seq_len": 1}, "data.response_seq_len: input should be greater than or equal to 2"),
    ],
)
def test_what_cannot_be_learnt_so_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        emulator.emulate(settings(tmp_path, **changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_models_of_one_stack_and_chats_are_refused(tmp_path: Path) -> None:
    llama = save_tiny_decoder("llama", tmp_path / "llama")
    with pytest.raises(UserError, match="llama model, which is no encoder-decoder"):
        emulator.emulate(settings(tmp_path, model__train=llama), tmp_path / "run")
    chats = settings(tmp_path, data__source=write_chats(tmp_path / "chats.jsonl")) | {
        "data.messages_column": "messages"
    }
    for key in ("data.prompt_column", "data.response_column"):
        del chats[key]
    with pytest.raises(UserError, match="rows are a prompt and its response, and no chats"):
        emulator.emulate(chats, tmp_path / "run")


def test_a_model_that_does_not_say_how_responses_begin_is_refused(tmp_path: Path) -> None:
    given = settings(tmp_path)
    file = tmp_path / "model" / "config.json"
    stated = json.loads(file.read_text())
    del stated["decoder_start_token_id"]
    file.write_text(json.dumps(stated))
    with pytest.raises(UserError, match="does not say with which token responses begin"):
        emulator.emulate(given, tmp_path / "run")


def test_a_step_of_one_is_priced_by_name() -> None:
    done = in_process("price", "jetson_tx2", "--model", "t5-base", "--seq", "128", "--response", "32", "--depth", "6")
    assert done.returncode == 0
    assert "x length 128 + 32 = 1280 tokens" in " ".join(done.stdout.split())
    lacking = in_process("price", "jetson_tx2", "--model", "t5-base")
    assert (lacking.returncode, "give --response" in lacking.stderr) == (2, True)
    whole = in_process("price", "jetson_tx2", "--model", "t5-base", "--response", "32", "--full-finetune")
    assert (whole.returncode, "devices train adapters alone" in whole.stderr) == (2, True)
