"""Runs that end before their last round: by a score that is reached, or a budget that is spent."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.config import Config, load_config
from emulator.errors import UserError
from emulator.launch.execute import config_to_resume, execute
from emulator.observers.base import RoundClosed, RunObserver
from emulator.results import verify
from emulator.results.reader import load_run
from tests.command_line import in_process

SETTINGS: dict[str, Any] = {
    "policy.path": "fedlora",
    "rounds": 6,
    "testbed.n_devices": 4,
    "training.learning_rate": 1e-2,
    "data.n_train": 240,
    "data.n_test": 60,
    "backend.kind": "inline",
}
TIME_ALONE = SETTINGS | {"training.enabled": False}


class Killed(BaseException):
    """What no part of a run expects."""


class KillsAfter(RunObserver):
    """Ends a run as its round of this number is closed."""

    def __init__(self, round_index: int) -> None:
        self._round_index = round_index

    def round_closed(self, closed: RoundClosed) -> None:
        if closed.report.round_index == self._round_index:
            raise Killed


@pytest.mark.slow
def test_a_run_ends_with_the_round_that_reaches_a_score(tmp_path: Path) -> None:
    whole = emulator.emulate(SETTINGS, tmp_path / "whole").rounds
    target = whole["accuracy"].iloc[2]
    assert (whole["accuracy"].iloc[:2] < target).all()

    run = emulator.emulate(SETTINGS | {"stop_at.accuracy": target}, tmp_path / "run")

    assert run.rounds.equals(whole.iloc[:3])
    assert run.info["status"] == "finished"
    assert run.info["n_rounds"] == 3
    assert run.info["ended_by"].startswith("stop_at.accuracy = ")
    assert "is reached" in run.info["ended_by"]
    assert (tmp_path / "run" / "adapter").is_dir()
    verify(run)
    said = in_process("summary", str(tmp_path / "run")).stdout
    assert re.search(r"ended early +stop_at.accuracy", said)
    with pytest.raises(UserError, match=r"finished before its last round, since stop_at.accuracy"):
        config_to_resume(tmp_path / "run", 8)


@pytest.mark.slow
def test_a_loss_is_reached_from_above(tmp_path: Path) -> None:
    run = emulator.emulate(SETTINGS | {"stop_at.loss": 1e6}, tmp_path / "run")

    assert len(run.rounds) == 1


@pytest.mark.parametrize(
    ("name", "column"),
    [("time_s", "end_s"), ("energy_j", "energy_j"), ("upload_bytes", "upload_bytes"), ("total_bytes", None)],
)
def test_a_run_ends_with_the_round_in_which_a_budget_is_spent(name: str, column: str | None, tmp_path: Path) -> None:
    whole = emulator.emulate(TIME_ALONE, tmp_path / "whole").rounds
    rows = whole["upload_bytes"] + whole["download_bytes"] if column is None else whole[column]
    spent = rows if name == "time_s" else rows.cumsum()

    run = emulator.emulate(TIME_ALONE | {f"stop_at.{name}": float(spent.iloc[1]) * 1.01}, tmp_path / "run")

    assert len(run.rounds) == 3
    assert run.info["ended_by"].startswith(f"stop_at.{name} = ")
    assert "is spent" in run.info["ended_by"]


def test_a_budget_that_is_not_spent_ends_nothing(tmp_path: Path) -> None:
    run = emulator.emulate(TIME_ALONE | {"stop_at.energy_j": 1e12}, tmp_path / "run")

    assert len(run.rounds) == 6
    assert "ended_by" not in run.info


def test_the_round_with_which_a_budget_ends_is_evaluated(tmp_path: Path) -> None:
    changed = {"evaluation.every_rounds": 5, "stop_at.time_s": 1.0}

    run = emulator.emulate(SETTINGS | changed, tmp_path / "run")

    assert len(run.rounds) == 1
    assert run.rounds["accuracy"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_a_run_that_died_ends_with_the_same_round(killed_after: int, tmp_path: Path) -> None:
    settings = TIME_ALONE | {"results.checkpoint_rounds": 1, "results.rounds_per_part": 1}
    whole = emulator.emulate(settings, tmp_path / "whole").rounds
    budget = float(whole["energy_j"].cumsum().iloc[2])
    config: Config = load_config(None, list((settings | {"stop_at.energy_j": budget}).items()))

    with pytest.raises(Killed):
        execute(config, tmp_path / "run", [KillsAfter(killed_after)])
    execute(config_to_resume(tmp_path / "run"), tmp_path / "run", resumes=True)

    run = load_run(tmp_path / "run")
    assert run.rounds.equals(whole.iloc[:3])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["ended_by"].startswith("stop_at.energy_j")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stop_at.accuracy": 80.0}, r"stop_at.accuracy is an accuracy from 0 to 1, got 80.0"),
        ({"stop_at.perplexity": 3.0}, "has no such score; give one of: accuracy, loss, macro_f1"),
        ({"stop_at.acuracy": 0.8}, "did you mean"),
        ({"stop_at.time_s": 0.0}, r"stop_at.time_s"),
        ({"stop_at.accuracy": 0.8, "training.enabled": False}, "nothing is trained that could have one"),
    ],
)
def test_what_no_run_can_reach_is_refused(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        emulator.emulate(SETTINGS | changed, tmp_path / "run")
    assert not (tmp_path / "run").exists()
