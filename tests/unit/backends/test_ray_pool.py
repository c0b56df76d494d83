"""What runs of a batch share: what is loaded, and hosts that come and go while a run goes on."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from emulator.backends.host_actor import Started
from emulator.backends.ray import RayHosts
from emulator.backends.ray_pool import Lease, LeasedBackend, Loaded
from emulator.errors import DataError
from emulator.forms.lora import LoraForm
from emulator.learning.settings import NumericSettings
from tests.unit.backends.test_batch import batch_run

FORM = LoraForm(ranks=(2,) * 4)


@dataclass(eq=False)
class Reference:
    """The result of a call of a fake host: a value, or an error that is raised where it is asked for."""

    value: Any = None
    error: Exception | None = None


@dataclass(eq=False)
class FakeHost:
    name: str
    error: Exception | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __getattr__(self, method: str) -> Any:
        host = self

        class Method:
            @staticmethod
            def options(num_returns: int) -> type["Method"]:
                return Method

            @staticmethod
            def remote(*arguments: Any) -> Any:
                host.calls.append((method, *arguments))
                if method == "load":
                    seed, with_weights = arguments[0].seed, arguments[2]
                    values = (f"content {seed}", f"weights {seed}" if with_weights else None, f"prepared {seed}")
                    return [Reference(value, host.error) for value in values]
                return Reference(error=host.error)

        return Method


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(reference: Reference) -> Any:
        if reference.error:
            raise reference.error
        return reference.value

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "kill", lambda host: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}])


def test_runs_of_a_seed_share_their_content_and_all_runs_of_a_model_its_weights() -> None:
    loaded, host = Loaded(), FakeHost("a")
    first, _ = loaded.of(batch_run(seed=0), host)
    twin, _ = loaded.of(batch_run(seed=0, policy__path="fedlora"), host)
    other, prepared = loaded.of(batch_run(seed=1), host)

    assert (first.content.value, twin.content, other.content.value) == ("content 0", first.content, "content 1")
    assert first.weights is twin.weights is other.weights
    assert prepared.value == "prepared 1"
    assert [call[3] for call in host.calls] == [True, False]
    assert twin.settings == first.settings != other.settings


def test_weights_that_are_stored_in_another_precision_are_others() -> None:
    loaded, host = Loaded(), FakeHost("a")
    whole, _ = loaded.of(batch_run(seed=0), host)
    low, _ = loaded.of(batch_run(seed=0, model__base_precision="nf4"), host)

    assert whole.weights is not low.weights
    assert whole.content is not low.content
    assert [call[3] for call in host.calls] == [True, True]


def test_weights_of_a_call_that_failed_are_not_shared() -> None:
    loaded = Loaded()
    cause = DataError("there is no such file")
    broken = FakeHost("a", RayTaskError("load", "", cause))
    _, prepared = loaded.of(batch_run(data__source="nowhere.csv"), broken)
    assert prepared.error is broken.error

    started, _ = loaded.of(batch_run(seed=1), FakeHost("b"))
    assert started.weights.value == "weights 1"


def test_weights_that_were_lost_with_a_run_are_loaded_again_for_others_of_the_model() -> None:
    loaded, host = Loaded(), FakeHost("a")
    loaded.of(batch_run(seed=0), host)
    loaded.of(batch_run(seed=1), host)
    loaded.forget(batch_run(seed=0))

    started, _ = loaded.of(batch_run(seed=1), host)

    assert (started.content.value, started.weights.value) == ("content 1", "weights 1")
    assert [call[3] for call in host.calls] == [True, False, True]


def test_what_no_run_needs_any_more_is_dropped() -> None:
    loaded, host = Loaded(), FakeHost("a")
    first, _ = loaded.of(batch_run(seed=0), host)
    loaded.of(batch_run(seed=1), host)
    loaded.keep([batch_run(seed=0)])
    again, _ = loaded.of(batch_run(seed=0), host)
    loaded.of(batch_run(seed=1), host)

    assert again.content is first.content
    assert len(host.calls) == 3


def leased(hosts: Sequence[FakeHost], granted: queue.SimpleQueue[tuple[str, Any]]) -> LeasedBackend:
    started = Started(
        key="k", settings=NumericSettings(run_seed=0, weight_decay=0.01), content="content", weights="weights"
    )
    lease = Lease(
        hosts={host.name: host for host in hosts}, cpus_per_host=1.0, started=started, prepared=Reference("prepared")
    )
    return LeasedBackend(batch_run().config, lease, granted)


def test_a_run_takes_hosts_that_it_is_granted_when_it_next_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RayHosts, "train", lambda self, *arguments: [])
    own, new = FakeHost("host-0"), FakeHost("host-1")
    granted: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    backend = leased([own], granted)
    assert own.calls == [("start", "k", NumericSettings(run_seed=0, weight_decay=0.01), "content", "weights")]

    granted.put(("host-1", new))
    assert new.calls == []
    backend.train("task", FORM, [], lambda done, total: None)
    assert new.calls == own.calls
    assert backend.hosts() == {"host-0": own, "host-1": new}
    # Nobody owns devices here: every stack goes to some host, also where stacks are cut as if.
    assert sorted(index for share in backend._shares([[]] * 5, [1.0] * 5) for index in share) == list(range(5))


def test_a_host_that_died_is_handed_back_as_the_one_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    dead, new = FakeHost("host-3", ActorDiedError()), FakeHost("new")
    replaced = []

    def start_new(name: str, n_cpus: float, n_gpus: float, started: Started) -> FakeHost:
        replaced.append((name, n_cpus, started.key))
        return new

    monkeypatch.setattr("emulator.backends.ray.new_host", start_new)
    backend = leased([dead], queue.SimpleQueue())

    # One that waited for the CPUs of a machine that is gone would wait for ever.
    assert replaced == [("host-3", 0.0, "k")]
    assert backend.hosts() == {"host-3": new}
