"""Within the steps of a stack nobody waits for what a GPU computes, whatever the devices train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.learning.cut.convnet import MergedConvNet
from emulator.learning.local_training import LocalTraining
from emulator.policy.catalog import policy_names
from tests.command_line import in_process, settings
from tests.host_waits import host_waits

SMALL = ("rounds=2", "testbed.n_devices=6", "data.n_train=120", "data.n_test=20", "training.local_steps=2")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that make the host wait within the steps of all stacks that are trained from now on."""
    found: list[str] = []

    def watched(steps: Callable[..., None]) -> Callable[..., None]:
        def within(*args: Any) -> None:
            with host_waits() as own:
                steps(*args)
            found.extend([*own, "steps"])

        return within

    for owner, name in ((LocalTraining, "_train"), (MergedConvNet, "_step")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    return found


@pytest.mark.parametrize(
    "read", [lambda x: float(x.sum()), lambda x: x[x > 0], lambda x: (x > 0).nonzero(), lambda x: bool((x > 0).any())]
)
def test_what_reads_a_tensor_is_seen(read: Callable[[torch.Tensor], object]) -> None:
    with host_waits() as found:
        read(torch.ones(3))
    assert found


def test_what_only_computes_is_not_taken_for_waiting() -> None:
    with host_waits() as found:
        x = torch.ones(3).masked_fill(torch.tensor([True, False, True]), 0.0)
        x[torch.tensor([0, 1])] += x[torch.tensor([2, 2])]
    assert not found


@pytest.mark.slow
@pytest.mark.parametrize("policy", policy_names())
def test_no_policy_makes_the_host_wait_within_steps(policy: str, waits: list[str], tmp_path: Path) -> None:
    finished = in_process(
        "run", "--policy", policy, "--backend", "inline", "--out", str(tmp_path / "run"), *settings(SMALL)
    )

    assert finished.returncode == 0, finished.stderr
    assert set(waits) == {"steps"}
