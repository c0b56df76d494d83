"""Payloads that are kept elsewhere: what is known without fetching them, and what happens where they are lost."""

from typing import Any

import numpy as np
import pytest
from ray.exceptions import ObjectLostError

from emulator.algorithms.aggregation import group_contribution
from emulator.backends.kept_updates import KeptPayload, KeptStack, shapes_of
from emulator.forms.lora import LoraAssignment, LoraForm
from emulator.records import Arrays, Update
from emulator.seeds import Seeds
from emulator.testing.small_world import tiny_model, tiny_state

LOST = ObjectLostError("00" * 28, None, "")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Arrays]]:
    """What references stand for; others are lost."""
    held: dict[str, list[Arrays]] = {}

    def get(reference: str) -> list[Arrays]:
        if reference not in held:
            raise LOST
        return held[reference]

    monkeypatch.setattr("ray.get", get)
    return held


def never() -> Any:
    raise AssertionError("nothing is to be trained again")


def test_names_and_shapes_are_known_without_fetching(store: dict[str, list[Arrays]]) -> None:
    payload = KeptPayload(KeptStack("gone", never), 0, {"a": (2, 3)})
    assert list(payload) == ["a"]
    assert len(payload) == 1
    assert "a" in payload.shapes


def test_a_stack_that_is_lost_is_trained_again_once(store: dict[str, list[Arrays]]) -> None:
    arrays = {"a": np.ones(2, np.float32)}
    store["again"] = [arrays, arrays]
    calls: list[str] = []

    def again() -> str:
        calls.append("again")
        return "again"

    stack = KeptStack("gone", again)
    assert KeptPayload(stack, 0, shapes_of(arrays))["a"] is arrays["a"]
    assert KeptPayload(stack, 1, shapes_of(arrays))["a"] is arrays["a"]
    stack.replace("gone")  # somebody else has noticed as well, later
    assert calls == ["again"]


def test_the_coordinates_of_a_group_are_told_without_fetching(store: dict[str, list[Arrays]]) -> None:
    model = tiny_model()
    form = LoraForm(ranks=(4,) * model.n_layers)
    state = tiny_state(form, model, Seeds(0))
    ranks = (4,) * (model.n_layers - 1) + (2,)
    assignment = LoraAssignment(
        device_id=0, n_steps=1, batch_size=1, learning_rate=0.1, depth=model.n_layers, ranks=ranks
    )
    whole = form.project(state, assignment)
    update = Update(device_id=0, assignment=assignment, payload=whole, n_examples=3, metrics={})
    elsewhere = Update(
        device_id=0,
        assignment=assignment,
        payload=KeptPayload(KeptStack("gone", never), 0, shapes_of(whole)),
        n_examples=3,
        metrics={},
    )
    here, there = (group_contribution(form, state, state, [one]) for one in (update, elsewhere))
    assert here.weight == there.weight == 3
    assert list(here.support) == list(there.support) == list(there.arrays)
    assert all(np.array_equal(here.support[name], there.support[name]) for name in here.support)
    assert not all(mask.all() for mask in here.support.values())
