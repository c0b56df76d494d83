"""What needs a GPU to be seen: the same results as on a CPU, and nobody who waits for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emulator import load
from emulator.learning.cut.convnet import MergedConvNet
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.local_training import LocalTraining
from emulator.policy.catalog import policy_names
from tests.integration.conftest import SMALL, small_run
from tests.unit.learning.test_stacked_training import FORM, HETEROGENEITY, SETTINGS, TASK, jobs, server_state
from tests.unit.learning.tiny_models import tiny_content

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch finds none here"),
]
ON_GPU = replace(SETTINGS, device="cuda")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> HostContent:
    return tiny_content("bert", tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("policy", ["fedara", "fedquad", "hetlora", "legend", "mergesfl"])
def test_a_run_learns_what_it_learns_on_a_cpu(policy: str, tmp_path: Path) -> None:
    cpu, gpu = (
        load(
            small_run(tmp_path / str(share), "--policy", policy, overrides=(*SMALL, f"backend.gpus_per_host={share}"))
        ).rounds
        for share in (0, 1)
    )

    # 100 held-out examples: two of them may fall on the other side.
    assert gpu["accuracy"].to_numpy() == pytest.approx(cpu["accuracy"].to_numpy(), abs=0.02)
    assert gpu["loss"].to_numpy() == pytest.approx(cpu["loss"].to_numpy(), rel=0.01)
    assert gpu["end_s"].tolist() == cpu["end_s"].tolist()


def test_a_stack_trains_as_its_devices_one_at_a_time(content: HostContent) -> None:
    work, host = jobs(server_state(content, FORM), **HETEROGENEITY["everything"]), DeviceHost(content, ON_GPU)

    together = host.train(TASK, FORM, work)

    for update, job in zip(together, work, strict=True):
        [alone] = host.train(TASK, FORM, [job])
        for name, array in alone.payload.items():
            assert update.payload[name] == pytest.approx(array, abs=1e-4)


def test_between_rounds_model_data_and_adapters_stay_where_they_are(content: HostContent) -> None:
    work, host = jobs(server_state(content, FORM)), DeviceHost(content, ON_GPU)
    tokens, adapters = host.train_tokens, host.attach(FORM)
    host.train(TASK, FORM, work)
    batch, held_bytes = tokens.batch(np.arange(3)), torch.cuda.memory_allocated()

    host.train(TASK, FORM, work)

    assert batch.input_ids.is_cuda
    assert all(parameter.is_cuda for parameter in host.model.parameters())
    assert host.train_tokens is tokens
    assert host.attach(FORM) is adapters
    assert adapters.stack.values.is_cuda
    assert torch.cuda.memory_allocated() == held_bytes


@pytest.fixture
def refuses_to_wait(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes of every wait within the steps of a stack an error; holds a word for each stack that was trained."""
    trained: list[str] = []

    def strictly(steps: Callable[..., None]) -> Callable[..., None]:
        def within(*args: Any) -> None:
            torch.cuda.set_sync_debug_mode("error")
            try:
                steps(*args)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            trained.append("steps")

        return within

    for owner, name in ((LocalTraining, "_train"), (MergedConvNet, "_step")):
        monkeypatch.setattr(owner, name, strictly(getattr(owner, name)))
    return trained


@pytest.mark.parametrize("policy", policy_names())
def test_within_the_steps_of_a_stack_nobody_waits(policy: str, refuses_to_wait: list[str], tmp_path: Path) -> None:
    small_run(tmp_path / "run", "--policy", policy, rounds=2, overrides=(*SMALL, "backend.gpus_per_host=1"))

    assert refuses_to_wait


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_coarser_arithmetic_stays_near_float32(precision: Any, content: HostContent) -> None:
    state = server_state(content, FORM)
    exact, rough = (
        DeviceHost(content, replace(ON_GPU, precision=one)).evaluate(FORM, state, range(50))
        for one in ("float32", precision)
    )
    assert rough.loss_sum == pytest.approx(exact.loss_sum, rel=0.05)
