"""Every way in which policies train learns."""

import json
from pathlib import Path

import pytest

import emulator
from emulator.policy.catalog import build_policy, policy_names
from emulator.testing import tiny_model
from tests.integration.conftest import sweep_of

pytestmark = pytest.mark.slow

LEARNING = (
    "model.train=builtin:tiny-12",
    "testbed.n_devices=8",
    "data.n_train=1600",
    "data.n_test=300",
    "training.local_steps=12",
    "training.learning_rate=3e-3",
)
"""Enough training to tell whether a policy learns at all: 8 devices with 200 examples each."""

SLOW_STARTERS = {"fedadapter": 12, "slora": 7}
"""Rounds of policies that begin with less than a whole form: the first grows it by trials, the second's is sparse for
five rounds."""


def ways_to_learn() -> list[str]:
    """Policies of which no earlier one has task, form and protocol alike; the others learn through the same code."""
    found: dict[tuple[str, type, type], str] = {}
    for name in policy_names():
        policy = build_policy(name, {})
        found.setdefault((policy.task, type(policy.form(tiny_model(4))), type(policy.protocol)), name)
    return list(found.values())


@pytest.fixture(scope="module")
def learning_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    others = [name for name in ways_to_learn() if name not in SLOW_STARTERS]
    runs = sweep_of(others, tmp_path_factory.mktemp("learning"), rounds=4, overrides=LEARNING)
    for name, rounds in SLOW_STARTERS.items():
        runs |= sweep_of([name], tmp_path_factory.mktemp(name), rounds=rounds, overrides=LEARNING)
    return runs


@pytest.mark.golden
@pytest.mark.parametrize("name", ways_to_learn())
def test_every_way_to_learn_beats_the_majority_class_clearly(learning_runs: dict[str, Path], name: str) -> None:
    """Seen: 0.73 (fedadapter) to 0.90 (slora), where the majority class has 0.18."""
    run = learning_runs[name]
    majority = json.loads((run / "run.json").read_text())["majority_accuracy"]
    assert emulator.load(run).rounds["accuracy"].max() > majority + 0.4
