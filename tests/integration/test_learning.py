"""Every way in which policies train learns."""

import json
from pathlib import Path

import pytest

import emulator
from tests.integration.conftest import sweep_of
from tests.ways import ways_to_learn

pytestmark = pytest.mark.slow

LEARNING = (
    "model.train=builtin:tiny-12",
    "testbed.n_devices=4",
    "data.n_train=1600",
    "data.n_test=300",
    "training.local_steps=12",
    "training.learning_rate=3e-3",
)
"""Enough training to tell whether a policy learns at all: 4 devices with 400 examples each."""

SLOW_STARTERS = {"fedra": 4, "slora": 6}
"""Rounds of policies whose devices begin with less than a whole form: the layers of the first are dealt out among its
devices, and for five rounds the second's is sparse."""
WAYS = ways_to_learn(last=("fedadapter",))
"""FedAdapter grows its adapters by trials, for many rounds; another policy trains such adapters whole."""


@pytest.fixture(scope="module")
def learning_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    others = [name for name in WAYS if name not in SLOW_STARTERS]
    runs = sweep_of(others, tmp_path_factory.mktemp("learning"), rounds=3, overrides=LEARNING)
    for name, rounds in SLOW_STARTERS.items():
        runs |= sweep_of([name], tmp_path_factory.mktemp(name), rounds=rounds, overrides=LEARNING)
    return runs


@pytest.mark.golden
@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_learn_beats_the_majority_class_clearly(learning_runs: dict[str, Path], name: str) -> None:
    """Seen: 0.73 (fedspine) to 0.87 (mergesfl), where the majority class has 0.18."""
    run = learning_runs[name]
    majority = json.loads((run / "run.json").read_text())["majority_accuracy"]
    assert emulator.load(run).rounds["accuracy"].max() > majority + 0.4
