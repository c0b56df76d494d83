"""What the default testbed must show: LEGEND against FedLoRA, same seed, same trace of modes and links.

Where accuracies are looked at, the encoder is the one that is learnt in the fewest rounds.
"""

from pathlib import Path

import pandas as pd
import pytest

import emulator
from emulator.results import RunFrames
from tests.command_line import in_process
from tests.integration.conftest import small_run

QUICK_TO_LEARN = ("model.train=builtin:tiny-12", "training.learning_rate=1e-3")


def default_run(out: Path, policy: str, *arguments: str) -> RunFrames:
    """A run of the default testbed under ``policy``."""
    finished = in_process("run", "--policy", policy, "--out", str(out), "--backend", "inline", *arguments)
    assert finished.returncode == 0, finished.stderr
    return emulator.load(out)


def time_to(rounds: pd.DataFrame, accuracy: float) -> float:
    """Emulated seconds until the first round that reaches ``accuracy``."""
    return float(rounds.loc[rounds["accuracy"] >= accuracy, "end_s"].iloc[0])


def test_legend_waits_at_most_six_tenths_of_fedlora(tmp_path: Path) -> None:
    timing_only = ("--set", "training.enabled=false")
    legend = default_run(tmp_path / "legend", "legend", *timing_only)
    fedlora = default_run(tmp_path / "fedlora", "fedlora", *timing_only)
    trace = ["round_index", "device_id", "power_mode", "downlink_bytes_per_s", "uplink_bytes_per_s"]
    assert legend.devices[trace].equals(fedlora.devices[trace])
    assert legend.rounds["mean_waiting_s"].mean() <= 0.6 * fedlora.rounds["mean_waiting_s"].mean()


SIXTEEN = (*QUICK_TO_LEARN, "testbed.n_devices=16", "data.n_train=1600", "data.n_test=300", "training.local_steps=8")
"""A smaller testbed, so that it is quick: sixteen devices with more steps see as many examples."""


@pytest.fixture(scope="module")
def legend(tmp_path_factory: pytest.TempPathFactory) -> RunFrames:
    return emulator.load(small_run(tmp_path_factory.mktemp("legend") / "run", rounds=8, overrides=SIXTEEN))


@pytest.mark.slow
@pytest.mark.golden
def test_legend_reaches_the_same_accuracy_in_less_emulated_time(legend: RunFrames, tmp_path: Path) -> None:
    """Seen: LEGEND gets to 0.58 in 120 s, where FedLoRA needs 151 s for it; the most frequent class has 0.18."""
    out = small_run(tmp_path / "fedlora", "--policy", "fedlora", rounds=8, overrides=SIXTEEN)
    fedlora = emulator.load(out).rounds
    both_reach = min(legend.rounds["accuracy"].max(), fedlora["accuracy"].max())
    assert both_reach > 0.35
    assert time_to(legend.rounds, both_reach) < time_to(fedlora, both_reach)


@pytest.mark.slow
@pytest.mark.golden
def test_accuracy_climbs_well_above_the_majority_class(legend: RunFrames) -> None:
    """Seen: 0.58 in the last round, where the most frequent of eight classes has 0.18."""
    assert legend.rounds["accuracy"].iloc[-1] > 2 * legend.info["majority_accuracy"]
