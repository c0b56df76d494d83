"""Whatever a policy attaches to a decoder, layers of its own and those of transformers train the same."""

from pathlib import Path

import pytest

import emulator
from emulator.learning import host
from tests.command_line import in_process, settings

SMALL = (
    "task.kind=causal", "rounds=2", "testbed.n_devices=5", "data.n_train=120", "data.n_test=40",
    "training.local_steps=2", "data.partition.alpha=10",
)  # fmt: skip


def losses(policy: str, out: Path) -> list[float]:
    """Of both rounds."""
    finished = in_process("run", "--policy", policy, "--backend", "inline", "--out", str(out), *settings(SMALL))
    assert finished.returncode == 0, finished.stderr
    return list(emulator.load(out).rounds["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fedlora", "legend", "fedara", "beamlora", "fedadapter", "fedspine"])
def test_a_run_has_the_losses_that_transformers_layers_give(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = losses(policy, tmp_path / "fast")
    monkeypatch.setattr(host, "speed_up_decoder", lambda model, frozen: None)
    assert fast == pytest.approx(losses(policy, tmp_path / "plain"), abs=1e-4)
