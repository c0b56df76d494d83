"""What no checkpoint can keep of a policy is found before there is anything to lose."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulator.config import Config, load_config
from emulator.launch.execute import execute
from emulator.launch.preflight import examine
from emulator.observers.base import RoundClosed, RunObserver
from emulator.running.checkpoints.codec import CheckpointError
from emulator.running.continuation import check_memory
from emulator.testing.small_testbed import small_testbed
from policies.fedlora import FedLora

POLICY = """
from emulator.policy import LoraForm, Policy, lora_plan

class Forgetful(Policy):
    def __init__(self, is_bad_at_once: bool = True):
        self.draws = (i for i in range(3)) if is_bad_at_once else None

    def form(self, model):
        return LoraForm(ranks=(2,) * model.n_layers)

    def plan(self, view):
        return lora_plan(view, self.form(view.model).ranks, dict.fromkeys(view.available, 1))

    def observe(self, report):
        self.draws = (i for i in range(3))
"""
MESSAGE = (
    r"^forgetful:Forgetful: the attribute 'draws' is a builtins.generator, which a checkpoint cannot keep; .*; "
    r"override memory\(\) and recall\(\) of forgetful:Forgetful"
)


class Rounds(RunObserver):
    """Counts the rounds that are over."""

    n_closed = 0

    def round_closed(self, closed: RoundClosed) -> None:
        self.n_closed += 1


@dataclass
class Count:
    """A class that is neither the policy's nor the project's."""

    n: int


@pytest.fixture(autouse=True)
def _policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forgetful.py").write_text(POLICY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "forgetful", raising=False)


def config(**settings: Any) -> Config:
    given = {"policy.path": "forgetful:Forgetful", "training.enabled": False, "testbed.n_devices": 4, "rounds": 30}
    return load_config(None, [*given.items(), *((key.replace("__", "."), value) for key, value in settings.items())])


def test_a_policy_with_an_attribute_that_cannot_be_kept_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=MESSAGE):
        execute(config(), tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_one_that_comes_by_such_an_attribute_ends_after_its_first_round(tmp_path: Path) -> None:
    rounds = Rounds()
    with pytest.raises(CheckpointError, match=MESSAGE):
        execute(config(policy__is_bad_at_once=False), tmp_path / "run", [rounds])
    assert rounds.n_closed == 1


@pytest.mark.parametrize("is_bad_at_once", [True, False])
def test_doctor_finds_it(is_bad_at_once: bool, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=MESSAGE):
        examine(config(policy__is_bad_at_once=is_bad_at_once), tmp_path / "run")


def test_a_run_that_keeps_no_checkpoints_may_hold_anything(tmp_path: Path) -> None:
    settings = config(results__checkpoint_rounds=0, rounds=2)
    execute(settings, tmp_path / "run")
    assert examine(settings, tmp_path / "other").will_fit


def test_a_class_that_a_resumed_run_would_not_know_is_found_as_well() -> None:
    small = small_testbed(FedLora(rank=2))
    check_memory(small.checked)
    vars(small.policy)["count"] = Count(3)
    with pytest.raises(CheckpointError, match=r"'count' cannot be read back from a checkpoint \(.* is none of"):
        check_memory(small.checked)
