"""Trains two rounds on the cluster at RAY_ADDRESS, and tells what each added up to.

Run by a test on a machine: ``python -m tests.integration.summed_by_hand``. It says ``trained`` once all is trained in
the second round, waits for a line, and ends with a line of JSON.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from emulator.backends.inline import InlineBackend
from emulator.backends.ray import RayBackend, begin_hosts
from emulator.backends.ray_run import connected
from emulator.config import Config
from emulator.forms.base import AdapterForm
from emulator.learning.host import DeviceHost
from emulator.learning.tasks.local import train_adapter
from emulator.policy.rounds import play_round
from emulator.records import Arrays, Job, Update
from emulator.running.compose import StartBackend, build_emulation
from emulator.world.clock import Clock
from policies.fedlora import FedLora

N_DEVICES = 32
N_ROUNDS = 2


def are_views(arrays: Arrays) -> bool:
    """Whether these are read-only views of memory that somebody else owns, as those in an object store are."""
    return all(not array.flags.writeable and not array.flags.owndata for array in arrays.values())


def look_and_train(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Trains as ever, and tells as a metric whether the state that it was given is a view."""
    seen = float(all(are_views(job.state) for job in jobs))
    return [replace(one, metrics={**one.metrics, "is_view": seen}) for one in train_adapter(host, form, jobs)]


@dataclass(kw_only=True)
class Looking(FedLora):
    """FedLoRA whose hosts look at what they are given."""

    task: ClassVar[str] = "tests.integration.summed_by_hand:look_and_train"


def configuration() -> Config:
    """Two stacks of adapters, each larger than what is handed around."""
    return Config.model_validate(
        {
            "rounds": N_ROUNDS,
            "testbed": {"n_devices": N_DEVICES, "availability": {"kind": "always"}},
            "data": {"n_train": 4 * N_DEVICES, "n_test": 20, "seq_len": 8, "partition": {"scheme": "iid"}},
            "training": {"local_steps": 1, "batch_size": 1, "devices_stacked": 16},
            "backend": {"hosts": 2, "gpus_per_host": 0},
            "policy": {"path": "tests.integration.summed_by_hand:Looking", "rank": 32},
        }
    )


def told(config: Config, start: StartBackend, is_trained: Callable[[int], object]) -> list[dict[str, object]]:
    """What the rounds come to; ``is_trained`` is called in each with its index, between training and adding up."""
    emulation = build_emulation(config, start, Clock())
    backend, state, facts = emulation.backend, emulation.initial_state, list[dict[str, object]]()
    assert backend is not None
    for index in range(N_ROUNDS):
        trained: list[Update] = []

        def train(jobs: Sequence[Job], index: int = index, trained: list[Update] = trained) -> Sequence[Update]:
            task, form = emulation.policy.task, emulation.policy.form
            trained.extend(backend.train(task, form, jobs, lambda n_done, n_jobs: None))
            is_trained(index)
            return trained

        state = play_round(emulation.testbed, emulation.policy, index, state, train).after
        emulation.policy.observe(emulation.testbed.close_round())
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(state[name]).tobytes() for name in sorted(state)))
        facts.append(
            {
                "digest": digest.hexdigest(),
                "n_updates": len(trained),
                "n_stacks_trained": sum(timing.phase == "train" for timing in backend.timings()),
                "states_are_views": all(update.metrics["is_view"] for update in trained),
                "payloads_are_views": all(are_views(update.payload) for update in trained),
            }
        )
    backend.close()
    return facts


def inline() -> list[dict[str, object]]:
    """What the rounds come to in this process."""
    config = configuration()
    return told(config, partial(InlineBackend, config), lambda index: None)


def _wait_for_a_line(index: int) -> None:
    if index == N_ROUNDS - 1:
        print("trained", flush=True)
        input()


def main() -> None:
    config = configuration()
    with connected():
        begun = begin_hosts(config, N_DEVICES)
        print(json.dumps(told(config, partial(RayBackend, config, begun), _wait_for_a_line)), flush=True)


if __name__ == "__main__":
    main()
