"""Why an actor died, as far as that is known, and how often the coordinator of a run may die."""

import re
from dataclasses import dataclass, field

from ray.exceptions import ActorUnavailableError, OutOfMemoryError

from emulator.errors import LostError
from emulator.running.continuation import clear_temporaries, rounds_kept
from emulator.running.limits import n_ended_for_memory
from emulator.storage.places import Place

MOST_RESTARTS = 3
"""So often in a row a coordinator is started again that has not come to another checkpoint."""

_DETAILS = tuple(re.compile(f"{before} (.+)", re.DOTALL) for before in ("Worker exit detail:", "is dead because"))
"""What comes before Ray's cause, the most specific first."""
_GUESSES = re.compile(
    r"\s*(?:Some common causes|There are some potential root causes|If the process was killed).*", re.DOTALL
)
_MOST_LETTERS = 200


def why_died(error: BaseException) -> str:
    """What ended an actor whose call raised ``error``, to be read behind its name; no more than what is known.

    Ray lists causes that it can only guess at, want of memory before all; they are left out.
    """
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return "was ended by Ray to save the memory of its node"
    if "owner has died" in text:
        return "died with the Ray process of this machine (raylet)"
    if _has_node_died(text):
        return "died with its node"
    if isinstance(error, ActorUnavailableError):
        return "is out of reach"
    if "killed by `ray.kill`" in text:
        return "was ended by ray.kill"
    return f"died; Ray says: {_said(text)}"


def is_cluster_lost(error: BaseException) -> bool:
    """Whether with a coordinator, whose call raised ``error``, the cluster under this process has died.

    Coordinators lie on the node of this process, so that without it nothing can be started again.
    """
    return "owner has died" in str(error) or _has_node_died(str(error))


def _has_node_died(text: str) -> bool:
    return "node has died" in text or "node was terminated" in text


def _said(text: str) -> str:
    """The sentence of Ray that comes closest to a cause."""
    found = next((found for detail in _DETAILS if (found := detail.search(text))), None)
    if found:
        said = " ".join(_GUESSES.sub("", found[1]).split())
    else:
        said = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
    return said[:_MOST_LETTERS].rstrip(". ")


@dataclass
class Lives:
    """How often the coordinator of the run in ``run_dir`` has died, and whether it may be started again.

    It has as many lives as it needs as long as each comes to another checkpoint. ``command`` is what a user gives to go
    on where there are no more.
    """

    run_dir: Place
    command: str = "'jetbed resume'"
    _n_restarts: int = 0
    _n_rounds: int = 0
    _n_ended: int = field(default_factory=n_ended_for_memory)

    def lose_one(self, error: BaseException) -> str:
        """Make the folder ready for another coordinator, after one whose call raised ``error``; what is to be told.

        Raises:
            LostError: it is of no use to start another one.
        """
        why = f"the coordinator {why_died(error)}{self._memory()}"
        n_rounds = rounds_kept(self.run_dir)
        self._n_restarts = 0 if n_rounds > self._n_rounds else self._n_restarts
        self._n_rounds = n_rounds
        if is_cluster_lost(error):
            raise LostError(f"{why}{self._advice()}") from error
        if self._n_restarts == MOST_RESTARTS:
            often = f"{MOST_RESTARTS + 1} times without coming to another checkpoint, the last time: {why}"
            raise LostError(f"the coordinator died {often}{self._advice()}") from error
        self._n_restarts += 1
        clear_temporaries(self.run_dir)
        return f"{why}; it is started again, from round {n_rounds}"

    def _memory(self) -> str:
        n_ended, self._n_ended = self._n_ended, n_ended_for_memory()
        return " (the kernel has ended a process of this machine for want of memory)" if self._n_ended > n_ended else ""

    def _advice(self) -> str:
        start = f"from round {self._n_rounds}" if self._n_rounds else "from the start"
        return f"; {self.command} goes on {start}: {str(self.run_dir)!r}"
