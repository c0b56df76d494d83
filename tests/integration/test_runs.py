"""Whole runs: the same bytes wherever they run, books that balance, an adapter that others load."""

import json
from pathlib import Path

import pytest

import emulator
from emulator.objective.scores import SCORES
from emulator.results import verify
from tests.command_line import jetbed, settings
from tests.integration.conftest import N_ROUNDS, SMALL, TABLES, digests, small_run
from tests.integration.ray_cluster import RayCluster


@pytest.mark.slow
def test_a_second_run_with_the_same_seed_gives_the_same_bytes_in_another_process(
    inline_run: Path, tmp_path: Path
) -> None:
    arguments = ("--rounds", str(N_ROUNDS), "--out", "again", "--backend", "inline", *settings(SMALL))
    again = jetbed("run", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(digests(inline_run)) == N_ROUNDS * len(TABLES)
    assert digests(tmp_path / "again") == digests(inline_run)


def test_another_seed_gives_other_bytes(inline_run: Path, tmp_path: Path) -> None:
    other = small_run(tmp_path / "other", "--seed", "1")
    first, second = digests(inline_run), digests(other)
    assert all(second[name] != digest for name, digest in first.items())


@pytest.mark.slow
def test_an_actor_for_every_device_agrees(ray_cluster: RayCluster, tmp_path: Path) -> None:
    """A device alone is trained alone, so the numbers agree to float tolerance and all else to the byte."""
    three = [*SMALL, "testbed.n_devices=3"]
    inline = small_run(tmp_path / "inline", overrides=three)
    run = small_run(tmp_path / "actors", "--devices-per-actor", "1", overrides=three, cluster=ray_cluster)
    shared, alone = emulator.load(inline), emulator.load(run)
    assert json.loads((run / "run.json").read_text())["backend"]["n_hosts"] == 3
    assert digests(run).keys() == digests(inline).keys()
    numeric = [*SCORES, "class_f1", "train_loss"]
    assert alone.activities.equals(shared.activities)
    assert alone.rounds.drop(columns=numeric).equals(shared.rounds.drop(columns=numeric))
    assert alone.rounds["loss"].to_numpy() == pytest.approx(shared.rounds["loss"].to_numpy(), abs=1e-4)
    assert alone.devices["train_loss"].to_numpy() == pytest.approx(shared.devices["train_loss"].to_numpy(), abs=1e-4)


def test_the_books_of_a_run_balance(inline_run: Path) -> None:
    frames = emulator.load(inline_run)
    verify(frames)
    length_s = frames.rounds.set_index("round_index").eval("end_s - start_s")
    devices = frames.devices
    spent_s = devices["download_s"] + devices["compute_s"] + devices["upload_s"] + devices["waiting_s"]
    assert (spent_s - devices["round_index"].map(length_s)).abs().max() < 1e-6
    for column in ("download_bytes", "upload_bytes"):
        assert devices[column].sum() == frames.rounds[column].sum()
    sent = frames.activities.groupby("kind")["n_bytes"].sum()
    assert sent["download"] == frames.rounds["download_bytes"].sum()
    assert sent["upload"] == frames.rounds["upload_bytes"].sum()
    joules = frames.rounds["energy_j"].sum()
    assert devices["energy_j"].sum() == pytest.approx(joules, rel=1e-12)
    assert frames.activities["energy_j"].sum() == pytest.approx(joules, rel=1e-12)


def test_the_adapter_loads_with_peft_and_scores_as_the_run_did(inline_run: Path) -> None:
    import numpy as np
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    from emulator.backends.content import load_content
    from emulator.config import load_config, parse_setting

    config = load_config(None, [parse_setting(text) for text in SMALL])
    content, _ = load_content(config, 8)
    base = AutoModelForSequenceClassification.from_pretrained(
        content.model.path, num_labels=content.model.n_labels, dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, str(inline_run / "adapter")).eval()
    ids = torch.from_numpy(content.test.input_ids.astype(np.int64))
    mask = torch.arange(ids.shape[1]) < torch.from_numpy(content.test.lengths)[:, None]
    with torch.inference_mode():
        predicted = model(input_ids=ids, attention_mask=mask.long()).logits.argmax(dim=1).numpy()
    accuracy = float((predicted == content.test.labels).mean())
    assert accuracy == emulator.load(inline_run).rounds["accuracy"].iloc[-1]


def test_nothing_in_a_run_folder_is_a_pickle(inline_run: Path) -> None:
    suffixes = {path.suffix for path in inline_run.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".parquet", ".safetensors", ".md"}


def test_training_can_be_left_out(tmp_path: Path) -> None:
    timing = small_run(tmp_path / "timing", overrides=[*SMALL, "training.enabled=false"])
    frames = emulator.load(timing)
    verify(frames)
    assert frames.rounds["accuracy"].isna().all()


def test_emulated_time_does_not_depend_on_training(inline_run: Path, tmp_path: Path) -> None:
    """The timeline follows from declared work alone (the number of labels of the priced head is the task's)."""
    timing = small_run(tmp_path / "timing", overrides=[*SMALL, "training.enabled=false"])
    trained, timed = emulator.load(inline_run).devices, emulator.load(timing).devices
    assert (trained["compute_s"] / timed["compute_s"] - 1).abs().max() < 1e-3
