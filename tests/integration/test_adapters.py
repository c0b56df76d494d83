"""Adapters that runs leave behind load elsewhere, and there give what the run itself evaluated."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import emulator
from emulator.backends.content import load_content
from emulator.config import load_config, parse_setting
from emulator.learning.host import HostContent
from emulator.learning.model.weights_digest import weights_digest
from emulator.policy.catalog import policy_names
from tests.command_line import in_process
from tests.integration.conftest import SMALL, small_run
from tests.integration.test_task_kinds import write_rows
from tests.unit.learning.tiny_decoders import save_tiny_decoder
from tests.unit.learning.tiny_decoders import write_rows as write_answers

NOT_OF_PEFT = {
    "fedadapter": "bottleneck adapters behind the feed-forward part",
    "fedpeft": "the same",
    "fedavg": "a whole model, without an adapter",
    **dict.fromkeys(
        ("fedspine", "oneshot_pruning", "magnitude_pruning", "uniform_pruning", "taylor_pruning"),
        "a pruned model, of which the adapter is a part",
    ),
}
"""Policies whose adapters PEFT alone does not evaluate as the run did, and what they train."""


@pytest.fixture(scope="session")
def content() -> HostContent:
    """Model and held-out rows of the small runs."""
    made, _ = load_content(load_config(None, [parse_setting(text) for text in SMALL]), 8)
    assert isinstance(made, HostContent)
    return made


def batches(content: HostContent) -> Iterator[dict[str, torch.Tensor]]:
    """The held-out rows as transformers takes them, with labels."""
    data, size = content.test, 40
    for start in range(0, len(data.lengths), size):
        ids = torch.from_numpy(data.input_ids[start : start + size].astype(np.int64))
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(data.lengths[start : start + size])[:, None]
        batch = {"input_ids": ids, "attention_mask": mask.long()}
        if data.scored is None:
            yield {**batch, "labels": torch.from_numpy(data.labels[start : start + size])}
        else:
            is_scored = torch.from_numpy(data.scored[start : start + size])
            yield {**batch, "labels": ids.masked_fill(~is_scored, -100)}


@torch.no_grad()
def evaluated(model: Any, content: HostContent) -> tuple[float, float]:
    """Mean loss and accuracy on the held-out rows; of tokens where those are learnt."""
    loss, n_right, n = 0.0, 0, 0
    for batch in batches(content):
        out = model.eval()(**batch)
        logits, labels = out.logits, batch["labels"]
        if content.test.scored is not None:
            logits = logits[:, -labels.shape[1] :]  # behind a prompt, which has some too
            logits, labels = logits[:, :-1], labels[:, 1:]
        counted = labels != -100
        n_now = int(counted.sum()) if labels.dim() == 1 or content.test.scored is not None else len(labels)
        loss += float(out.loss) * n_now
        if not labels.is_floating_point():
            n_right += int((logits.argmax(dim=-1) == labels)[counted].sum())
        n += n_now
    return loss / n, n_right / n


def small_policies() -> list[str]:
    return [name for name in policy_names() if name not in NOT_OF_PEFT]


@pytest.mark.slow
@pytest.mark.parametrize("name", small_policies())
def test_the_adapter_of_every_policy_gives_the_runs_own_evaluation(
    name: str, inline_runs: Mapping[str, Path], content: HostContent
) -> None:
    run = inline_runs[name]
    if not (run / "adapter" / "adapter_config.json").exists():
        pytest.skip("it trains weights of its own, which are no adapter")
    names = json.loads((run / "adapter" / "labels.json").read_text())
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        run / "adapter", num_labels=len(names), id2label=dict(enumerate(names)), dtype=torch.float32
    )
    last = emulator.load(run).rounds.iloc[-1]
    loss, accuracy = evaluated(model, content)
    assert accuracy == last["accuracy"]
    assert loss == pytest.approx(last["loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NOT_OF_PEFT if name != "fedavg"])
def test_what_peft_does_not_know_is_not_said_to_be_its_own(name: str, inline_runs: Mapping[str, Path]) -> None:
    adapter = inline_runs[name] / "adapter"
    stated = json.loads((adapter / "adapter_config.json").read_text())
    assert "peft_type" not in stated or (adapter / "kept_units.json").exists()


def task_settings(kind: str, folder: Path) -> dict[str, Any]:
    given = {
        "task.kind": kind,
        "policy.path": "fedlora",
        "rounds": 2,
        "testbed.n_devices": 2,
        "backend.kind": "inline",
        "model.price": "trained",
        "training.learning_rate": 1e-2,
    }
    if kind == "causal":
        model = save_tiny_decoder("llama", folder / "model")
        columns = {"data.prompt_column": "prompt", "data.response_column": "response", "data.seq_len": 64}
        return given | columns | {"model.train": model, "data.source": write_answers(folder / "rows.jsonl", 40)}
    return given | {"data.source": write_rows(folder / "rows.jsonl", kind, 80)}


AUTO = {
    "multi_label": (
        peft.AutoPeftModelForSequenceClassification,
        {"num_labels": 3, "problem_type": "multi_label_classification"},
    ),
    "regression": (peft.AutoPeftModelForSequenceClassification, {"num_labels": 1}),
    "causal": (peft.AutoPeftModelForCausalLM, {}),
}


@pytest.mark.parametrize("kind", AUTO)
def test_the_adapter_of_every_kind_of_task_gives_the_runs_own_loss(kind: str, tmp_path: Path) -> None:
    given = task_settings(kind, tmp_path)
    run = emulator.emulate(given, tmp_path / "run")
    content, _ = load_content(load_config(None, list(given.items())), 2)
    assert isinstance(content, HostContent)
    auto, settings = AUTO[kind]
    loss, accuracy = evaluated(
        auto.from_pretrained(tmp_path / "run" / "adapter", dtype=torch.float32, **settings), content
    )
    assert loss == pytest.approx(run.rounds["loss"].iloc[-1], abs=1e-5)
    if kind == "causal":
        assert accuracy == run.rounds["token_accuracy"].iloc[-1]
    merged = tmp_path / "merged"
    answer = in_process("merge", str(tmp_path / "run"), "--out", str(merged))
    assert answer.returncode == 0, answer.stderr
    role = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModelForSequenceClassification
    assert evaluated(role.from_pretrained(merged), content)[0] == pytest.approx(loss, abs=1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("adapter", ["prompt", "prefix"])
@pytest.mark.parametrize("kind", ["multi_label", "causal"])
def test_virtual_tokens_give_the_runs_own_loss_and_are_no_weights(kind: str, adapter: str, tmp_path: Path) -> None:
    if (kind, adapter) == ("multi_label", "prefix"):
        pytest.skip("PEFT 0.21 does not find how transformers 5.24 calls what is in front of a classifier's keys")
    own = {"policy.path": "fedpeft", "policy.adapter": adapter, "policy.n_virtual_tokens": 4, "data.seq_len": 28}
    given = task_settings(kind, tmp_path) | own
    run = emulator.emulate(given, tmp_path / "run")
    content, _ = load_content(load_config(None, list(given.items())), 2)
    assert isinstance(content, HostContent)
    auto, settings = AUTO[kind]
    model = auto.from_pretrained(tmp_path / "run" / "adapter", dtype=torch.float32, **settings)
    assert evaluated(model, content)[0] == pytest.approx(run.rounds["loss"].iloc[-1], abs=1e-5)
    answer = in_process("merge", str(tmp_path / "run"), "--out", str(tmp_path / "merged"))
    assert answer.returncode == 2
    assert "virtual tokens, which are no part of any weight" in answer.stderr
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("settings", [{}, {"policy.embeddings": True}, {"policy.depth": 1}])
@pytest.mark.parametrize("kind", [*AUTO, "classification"])
def test_a_run_that_trains_the_weights_leaves_a_model_that_gives_its_own_loss(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    given = task_settings(kind, tmp_path) | {"policy.path": "fedavg", "training.learning_rate": 1e-3} | settings
    run = emulator.emulate(given, tmp_path / "run")
    content, _ = load_content(load_config(None, list(given.items())), 2)
    assert isinstance(content, HostContent)
    role = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModelForSequenceClassification
    model: Any = role.from_pretrained(tmp_path / "run" / "adapter")  # type: ignore[attr-defined]
    last = run.rounds.iloc[-1]
    loss, right = evaluated(model, content)
    assert loss == pytest.approx(last["loss"], abs=1e-5)
    assert abs(last["loss"] - run.rounds["loss"].iloc[0]) > 1e-4
    if kind in ("classification", "causal"):
        assert right == last["accuracy" if kind == "classification" else "token_accuracy"]
    answer = in_process("merge", str(tmp_path / "run"), "--out", str(tmp_path / "merged"))
    assert answer.returncode == 2
    assert "is a whole model already" in answer.stderr


@pytest.mark.parametrize("kind", ["multi_label", "causal"])
def test_a_merged_model_has_the_frozen_weights_that_the_run_computed_with(kind: str, tmp_path: Path) -> None:
    given = task_settings(kind, tmp_path) | {"model.base_precision": "nf4"}
    run = emulator.emulate(given, tmp_path / "run")
    content, _ = load_content(load_config(None, list(given.items())), 2)
    assert isinstance(content, HostContent)
    auto, settings = AUTO[kind]
    on_float32 = auto.from_pretrained(tmp_path / "run" / "adapter", dtype=torch.float32, **settings)
    loss = run.rounds["loss"].iloc[-1]
    assert evaluated(on_float32, content)[0] != pytest.approx(loss, abs=1e-4)
    answer = in_process("merge", str(tmp_path / "run"), "--out", str(tmp_path / "merged"))
    assert answer.returncode == 0, answer.stderr
    role = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModelForSequenceClassification
    merged = role.from_pretrained(tmp_path / "merged")  # type: ignore[attr-defined]
    assert evaluated(merged, content)[0] == pytest.approx(loss, abs=1e-5)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a run on it, whose configuration has a relative path, after both have moved."""
    before, after = tmp_path_factory.mktemp("before"), tmp_path_factory.mktemp("after") / "project"
    shutil.copytree(Path(emulator.__file__).parent / "learning" / "builtin" / "tiny-12", before / "models" / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(before)
        small_run(Path("runs/one"), rounds=1, overrides=(*SMALL, "model.train=models/mine", "model.price=trained"))
    shutil.move(before, after)
    return after


def test_a_merged_model_needs_neither_peft_nor_jetbed_and_finds_its_base_after_a_move(
    moved: Path, content: HostContent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # from anywhere
    answer = in_process("merge", str(moved / "runs" / "one"), "--out", str(tmp_path / "merged"))
    assert answer.returncode == 0, answer.stderr
    assert str(moved / "models" / "mine") in answer.stdout

    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    run = emulator.load(moved / "runs" / "one")
    assert list(model.config.id2label.values()) == run.info["label_names"]
    assert model.config.problem_type == "single_label_classification"
    loss, accuracy = evaluated(model, content)
    assert accuracy == run.rounds["accuracy"].iloc[-1]
    assert loss == pytest.approx(run.rounds["loss"].iloc[-1], abs=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")  # type: ignore[no-untyped-call]
    assert tokenizer.pad_token_id == model.config.pad_token_id is not None
    assert not list(tmp_path.glob(".jetbed-*"))


def test_a_base_that_was_given_by_an_absolute_path_is_found_where_it_moved_with_the_run(tmp_path: Path) -> None:
    builtin = Path(emulator.__file__).parent / "learning" / "builtin" / "tiny-12"
    shutil.copytree(builtin, tmp_path / "before" / "models" / "mine")
    model = f"model.train={tmp_path / 'before' / 'models' / 'mine'}"
    small_run(tmp_path / "before" / "runs" / "one", rounds=1, overrides=(*SMALL, model, "model.price=trained"))
    shutil.move(tmp_path / "before", tmp_path / "after")

    answer = in_process("merge", str(tmp_path / "after" / "runs" / "one"), "--out", str(tmp_path / "merged"))

    assert answer.returncode == 0, answer.stderr
    assert str(tmp_path / "after" / "models" / "mine") in answer.stdout


def test_a_base_of_the_same_shapes_and_other_weights_is_refused(moved: Path, tmp_path: Path) -> None:
    other, run = tmp_path / "other", tmp_path / "project" / "run"
    shutil.copytree(moved / "models" / "mine", other)
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("query.weight"))
    save_file({**weights, name: -weights[name]}, other / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(moved / "runs" / "one", run)

    given = in_process("merge", str(run), "--base", str(other), "--out", str(tmp_path / "merged"))
    shutil.copytree(other, run.parent / "models" / "mine")
    found = in_process("merge", str(run), "--out", str(tmp_path / "merged"))

    assert (given.returncode, found.returncode) == (2, 2)
    assert f"--base: the weights of {str(other)!r} are others than the run trained on, those of '" in given.stderr
    assert "there is one with other weights); say with --base where it is now" in found.stderr
    assert not (tmp_path / "merged").exists()


def test_a_run_says_what_its_base_model_was_loaded_as(moved: Path) -> None:
    said = emulator.load(moved / "runs" / "one").info["base_model"]

    assert said == {
        "name": said["name"],
        "revision": None,
        "weights_sha256": weights_digest([moved / "models" / "mine" / "model.safetensors"]),
        "task_type": "SEQ_CLS",
        "problem_type": "single_label_classification",
        "n_labels": 8,
    }
    assert Path(said["name"]).parts[-2:] == ("models", "mine")


def test_a_base_model_that_is_gone_is_asked_for(moved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(moved / "runs" / "one", run)
    lost = in_process("merge", str(run), "--out", str(tmp_path / "merged"))
    assert lost.returncode == 2
    assert "say with --base where it is now" in lost.stderr
    assert not (tmp_path / "merged").exists()
    other = in_process("merge", str(run), "--out", str(tmp_path / "merged"), "--base", "builtin:tiny-llama-12")
    assert other.returncode == 2
    assert "are others than the run trained on" in other.stderr
    found = in_process("merge", str(run), "--out", str(tmp_path / "merged"), "--base", str(moved / "models" / "mine"))
    assert found.returncode == 0, found.stderr


def test_what_cannot_be_merged_is_said_in_one_sentence(moved: Path, tmp_path: Path) -> None:
    def said(run: Path, out: Path = tmp_path / "out") -> str:
        answer = in_process("merge", str(run), "--out", str(out))
        assert answer.returncode == 2
        return answer.stderr

    run = tmp_path / "run"
    shutil.copytree(moved / "runs" / "one", run)
    assert "must be a new or empty folder" in said(run, run)
    (tmp_path / "file").touch()
    assert "/file' is no folder, so that none can be made in it; got" in said(run, tmp_path / "file" / "deep" / "x")
    (run / "adapter" / "kept_units.json").write_text("{}")
    assert "belongs to a pruned model" in said(run)
    (run / "adapter" / "kept_units.json").unlink()
    (run / "adapter" / "adapter_config.json").write_text("{}")
    assert "of a form that PEFT does not know" in said(run)
    shutil.rmtree(run / "adapter")
    assert "there is no adapter" in said(run)
    assert "not the folder of a run" in said(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("adapter_config.json", b"{", "adapter_config.json: is not valid JSON"),
        ("adapter_config.json", b"\xff", "adapter_config.json: is not valid JSON"),
        ("adapter_config.json", b'{"peft_type": "LORA"}', "base_model_name_or_path must be a text, got None"),
        ("adapter_model.safetensors", b"cut", "adapter_model.safetensors: cannot be read"),
        ("adapter_model.safetensors", None, "adapter_model.safetensors: cannot be read"),
    ],
)
def test_a_damaged_adapter_is_told_by_its_file(
    moved: Path, tmp_path: Path, file: str, content: bytes | None, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(moved / "runs" / "one", run)
    damaged = run / "adapter" / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content)
    answer = in_process("merge", str(run), "--out", str(tmp_path / "out"))
    assert answer.returncode == 2
    assert message in answer.stderr
    assert not (tmp_path / "out").exists()


def test_a_merged_model_goes_to_a_folder_of_this_machine_alone(moved: Path, tmp_path: Path) -> None:
    run = str(moved / "runs" / "one")
    url = in_process("merge", run, "--out", "s3://bucket/merged", cwd=tmp_path)
    assert (url.returncode, "not a URL" in url.stderr) == (2, True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    dangling = in_process("merge", run, "--out", str(tmp_path / "dangling"))
    assert (dangling.returncode, "must be a new or empty folder" in dangling.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["dangling"]
