"""A state is put into the object store once, and let go when others have come."""

from typing import Any

import numpy as np
import pytest

from emulator.backends.shared_states import MOST_SHARED, SharedStates
from emulator.records import Arrays


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    states: list[Any] = []

    def put(state: Any) -> int:
        states.append(state)
        return len(states)

    monkeypatch.setattr("ray.put", put)
    return states


def a_state() -> Arrays:
    return {"a": np.zeros(1, np.float32)}


def test_the_same_object_is_put_once_and_an_equal_one_by_itself(put: list[Any]) -> None:
    shared, state = SharedStates(), a_state()
    assert shared.reference(state) == shared.reference(state) == 1
    assert shared.reference(a_state()) == 2


def test_what_was_not_asked_for_lately_is_let_go_and_put_anew(put: list[Any]) -> None:
    shared, first = SharedStates(), a_state()
    shared.reference(first)
    others = [a_state() for _ in range(MOST_SHARED)]
    for other in others:
        shared.reference(other)
    assert shared.reference(first) == MOST_SHARED + 2
    assert shared.reference(others[-1]) == MOST_SHARED + 1
