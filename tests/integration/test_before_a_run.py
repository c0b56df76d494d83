"""``jetbed price`` and ``jetbed doctor`` from the command line, and what a run says of prices that are extrapolated."""

import json
from pathlib import Path

import pytest

from tests.command_line import in_process, settings
from tests.integration.conftest import SMALL, small_run

TIMING_ONLY = ("training.enabled=false", "testbed.n_devices=8")


def test_price_answers_scripts() -> None:
    step = ("--mode", "MAXN", "--model", "bert-base", "--batch", "4", "--seq", "256", "--full-finetune")
    finished = in_process("price", "jetson_tx2", *step, "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["step_s"] == pytest.approx(1.86, rel=0.15)  # published, with the embeddings
    assert found["in_known_range"] is True


@pytest.mark.parametrize("arguments", [("jetson_tx3",), ("jetson_tx2", "--depth", "13"), ("jetson_tx2", "--mode", "x")])
def test_what_cannot_be_priced_is_one_message_and_status_2(arguments: tuple[str, ...]) -> None:
    finished = in_process("price", *arguments)
    assert finished.returncode == 2
    assert len(finished.stderr.strip().splitlines()) == 1
    assert finished.stderr.startswith("jetbed: ")


def test_doctor_ends_with_0_1_or_2_and_writes_nothing(tmp_path: Path) -> None:
    fine = in_process("doctor", "--out", str(tmp_path / "run"), *settings(SMALL), "--backend", "inline", cwd=tmp_path)
    assert fine.returncode == 0, fine.stderr
    assert "expected here" in fine.stdout
    full = in_process("doctor", *settings((*TIMING_ONLY, "training.batch_size=256")), cwd=tmp_path)
    assert full.returncode == 1, full.stderr
    assert "WILL NOT FIT" in full.stdout
    wrong = in_process("doctor", "--set", "training.batch_sise=8", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "did you mean batch_size" in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_says_once_what_it_extrapolates(tmp_path: Path) -> None:
    finished = in_process("run", "--rounds", "3", "--out", str(tmp_path / "run"), "--backend", "inline",
                      *settings((*TIMING_ONLY, "training.batch_size=1")))  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    said = [line for line in finished.stderr.splitlines() if "known" in line]
    assert len(said) == 1
    assert "batch 1 x length 128 = 128 tokens a step, known from 256 to 4096" in said[0]
    noted = json.loads((tmp_path / "run" / "run.json").read_text())["outside_known_range"]
    assert sorted(noted) == ["jetson_agx_xavier", "jetson_tx2", "jetson_xavier_nx"]


def test_a_run_within_the_known_range_says_nothing(tmp_path: Path) -> None:
    out = small_run(tmp_path / "run", overrides=TIMING_ONLY)
    assert json.loads((out / "run.json").read_text())["outside_known_range"] == {}
