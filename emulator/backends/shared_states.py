"""Server states that hosts start from: each is put into the object store once, whoever asks for it how often."""

from collections import OrderedDict
from typing import Any

import ray

from emulator.records import Arrays

MOST_SHARED = 4
"""So many are held for calls to come: a round's own, and what groups or its end make of it."""


class SharedStates:
    """References to states, found again by the object that was shared."""

    def __init__(self) -> None:
        # With the object itself, so that nobody else can get its id.
        self._shared: OrderedDict[int, tuple[Arrays, Any]] = OrderedDict()

    def reference(self, state: Arrays) -> Any:
        """Where hosts find ``state``; what was not asked for lately is let go unless a call still holds it."""
        if id(state) not in self._shared:
            self._shared[id(state)] = (state, ray.put(state))
        self._shared.move_to_end(id(state))
        while len(self._shared) > MOST_SHARED:
            self._shared.popitem(last=False)
        return self._shared[id(state)][1]
