"""Hosts that die are replaced and asked again, whatever they were doing, until it has happened too often."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError

from emulator.backends.ray import MOST_REPLACEMENTS, RayBackend
from emulator.backends.shared_states import SharedStates
from emulator.errors import UserError
from emulator.forms.lora import LoraForm
from emulator.learning.settings import NumericSettings
from emulator.objective.classification import Classification
from emulator.records import EvaluationShard
from emulator.running.hosts import HostTiming

FORM = LoraForm(ranks=(2,) * 4)
N_EXAMPLES = 700
DEATH = ActorDiedError()


class FakeHost:
    """A host whose calls are computed when they are waited for; a dead one raises ``death`` instead."""

    def __init__(self, name: str, death: Exception | None = None) -> None:
        self.name = name
        self.death = death
        self.calls: list[str] = []

    def __getattr__(self, method: str) -> Any:
        class Method:
            remote = staticmethod(lambda *arguments: lambda: self._answer(method, arguments))

        return Method

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        self.calls.append(method)
        if self.death:
            raise self.death
        if method == "evaluate":
            return [EvaluationShard(loss_sum=0.5 * len(rows), n_correct=1, n=len(rows)) for rows in arguments[2]]
        if method == "timings":
            return [HostTiming.since(0.0, self.name, "train")]
        if method == "export":
            return {"adapter.bin": b"weights", "parts/1.json": b"{}"}
        return None


class Prepared:
    n_test_rows = N_EXAMPLES
    own_test_offsets = np.zeros(1, np.int64)


class FakeBackend(RayBackend):
    """A backend over hosts that are given; those started later die like the ``replacements`` left to start."""

    def __init__(self, hosts: list[FakeHost], replacements: list[FakeHost]) -> None:
        self._settings = NumericSettings(run_seed=0, eval_batch_size=8, weight_decay=0.01)
        self._objective = Classification()
        self._n_replaced = Counter()
        self._states = SharedStates()
        self._hosts: list[Any] = list(hosts)
        self._replacements = replacements
        self.prepared = Prepared()  # type: ignore[assignment]

    def _new_host(self, number: int) -> Any:
        return self._replacements.pop(0)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """References are functions, and objects are references to themselves."""

    def get(reference: Callable[[], Any]) -> Any:
        return reference()

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray, "kill", lambda host: None)


@pytest.mark.parametrize("death", [DEATH, OutOfMemoryError("the node ran low on memory")])
def test_an_evaluation_asks_again_for_the_shards_of_the_dead_host_alone(death: Exception) -> None:
    hosts, new = [FakeHost("a"), FakeHost("b")], FakeHost("new")
    undisturbed = FakeBackend(hosts, []).evaluate(FORM, {})()
    hosts = [FakeHost("a", death), FakeHost("b")]

    assert FakeBackend(hosts, [new]).evaluate(FORM, {})() == undisturbed
    assert undisturbed.n_examples == N_EXAMPLES
    assert (hosts[0].calls, hosts[1].calls, new.calls) == (["evaluate"], ["evaluate"], ["evaluate"])


def test_a_host_that_dies_once_is_replaced_once_for_all_its_calls() -> None:
    new = FakeHost("new")
    backend = FakeBackend([FakeHost("a", DEATH)], [new])
    waits = [backend.evaluate(FORM, {}) for _ in range(2)]

    assert waits[0]() == waits[1]()
    assert new.calls == ["evaluate", "evaluate"]


def test_an_export_is_repeated_on_a_new_host_and_written_here(tmp_path: Path) -> None:
    new = FakeHost("new")
    FakeBackend([FakeHost("a", DEATH)], [new]).export(FORM, {}, tmp_path / "adapter")

    assert new.calls == ["export"]
    assert (tmp_path / "adapter" / "adapter.bin").read_bytes() == b"weights"
    assert (tmp_path / "adapter" / "parts" / "1.json").read_text() == "{}"


def test_the_timings_of_a_dead_host_are_left_out() -> None:
    backend = FakeBackend([FakeHost("a", DEATH), FakeHost("b")], [])

    assert [timing.host for timing in backend.timings()] == ["b"]


def test_hosts_that_keep_dying_end_the_run_with_one_line(tmp_path: Path) -> None:
    dying = [FakeHost(str(number), ActorDiedError()) for number in range(MOST_REPLACEMENTS)]
    backend = FakeBackend([FakeHost("a", ActorDiedError())], dying)

    with pytest.raises(UserError, match=f"a device host died {MOST_REPLACEMENTS + 1} times.*backend.hosts") as caught:
        backend.export(FORM, {}, tmp_path)
    assert "\n" not in str(caught.value)
