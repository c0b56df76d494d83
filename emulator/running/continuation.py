"""A run that goes on where it was: what it keeps between rounds, and how it gets back to where it died.

Of the emulated world nothing is kept but the plans. What happens in it follows from them and the seed, so that playing
them again without training, in milliseconds a round, gives back the clock, the links, whoever is in the middle of a
transfer, and every stream of chance. Server state and the policy's memory, which training made, are kept as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from emulator.config import Config
from emulator.errors import UserError
from emulator.observers.base import Progress
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import replay
from emulator.records import Arrays, RoundPlan
from emulator.results.schemas import SCHEMAS
from emulator.running.checkpoints.codec import CheckpointError, check_readable, encoded
from emulator.running.checkpoints.store import (
    FOLDER,
    Checkpoint,
    CheckpointWriter,
    has_checkpoint,
    read_checkpoint,
    read_index,
)
from emulator.storage.patience import Patience
from emulator.storage.places import Place, RemotePath
from emulator.world.testbed import Testbed
from emulator.world.unsent import Unsent

MAY_DIFFER = frozenset({"outside_known_range", "backend", "versions", "config"})
"""Keys of ``run.json`` that change no result, or are compared one by one."""
SETTINGS_THAT_MAY_DIFFER = ("rounds", "backend", "pace", "observers", "results.wait_s")
"""Settings and tables with which a run may go on otherwise: how far, on what, how fast and how patiently."""
UNSENT = "compression.unsent"
"""The key of what devices have not sent yet, beside what a policy remembers; no attribute has such a name."""
MOST_NAMED = 4
"""So many settings that differ are named."""


class Continuation:
    """What one run keeps, so that it can go on.

    ``every_rounds`` is 0 where nothing is kept. The run ends with ``last_round``, behind which it is kept as well, so
    that it can be made longer; None where a longer run would not have come by what this one is at its end.
    """

    def __init__(
        self,
        run_dir: Place,
        policy: CheckedPolicy,
        unsent: Unsent,
        every_rounds: int,
        last_round: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._writer = CheckpointWriter(run_dir / FOLDER, patience or Patience(), [package_of(policy.name)])
        self._policy = policy
        self._unsent = unsent
        self._every_rounds = every_rounds
        self._last_round = last_round
        self._states: dict[int, Arrays] = {}
        self._plans: list[RoundPlan] = []

    def begin_round(self, round_index: int, state: Arrays) -> None:
        """A round begins with this server state."""
        if self._every_rounds:
            self._states[round_index] = state

    def is_due(self, round_index: int) -> bool:
        """Whether a checkpoint is written when this round ends; its rows must be on disk before."""
        if not self._every_rounds:
            return False
        return round_index == self._last_round or (round_index + 1) % self._every_rounds == 0

    def end_round(self, plan: RoundPlan, state: Arrays, progress: Progress) -> None:
        """A round is closed and written, and the next one begins with ``state``; writes a checkpoint where one is due.

        Raises:
            CheckpointError: the policy's memory or its plan cannot be kept.
            UserError: the disk cannot be written.
        """
        if not self._every_rounds:
            return
        self._plans.append(plan)
        in_use = {id(held) for held in self._policy.protocol.states_in_use()}
        self._states = {number: held for number, held in self._states.items() if id(held) in in_use}
        n_rounds = len(self._plans)
        if self.is_due(n_rounds - 1):
            try:
                self._writer.write(self._checkpoint(state, progress))
            except CheckpointError:
                check_memory(self._policy)  # which names the attribute
                raise
        elif n_rounds == 1:
            check_memory(self._policy)  # since the first checkpoint may be hours away

    def _checkpoint(self, state: Arrays, progress: Progress) -> Checkpoint:
        n_rounds = len(self._plans)
        return Checkpoint(
            n_rounds=n_rounds,
            states={**self._states, n_rounds: state},
            memory={**self._policy.memory(), UNSENT: self._unsent.memory()},
            totals={each.name: getattr(progress, each.name) for each in fields(progress)},
            plans=self._plans,
        )

    def go_on(self, testbed: Testbed, checkpoint: Checkpoint, index: Mapping[str, Any]) -> Arrays:
        """Bring testbed and policy to where ``checkpoint`` was written; the server state of the next round."""
        stand_ins = replay(testbed, self._policy, checkpoint.plans)
        memory = dict(checkpoint.memory)
        unsent: Any = memory.pop(UNSENT, {})
        self._unsent.recall(unsent)
        self._policy.recall(memory)
        self._plans = list(checkpoint.plans)
        for round_index, state in checkpoint.states.items():
            if round_index < checkpoint.n_rounds:
                # Devices that are still at work hold the stand-in, so that it must become what it stands for.
                stand_ins[round_index].update(state)
                self._states[round_index] = stand_ins[round_index]
        self._writer.goes_on_from(index)
        return checkpoint.states[checkpoint.n_rounds]


def check_memory(policy: CheckedPolicy) -> None:
    """Find out whether a checkpoint can keep what the policy has learned, and give it back.

    Raises:
        CheckpointError: it cannot; the message names the attribute.
        PolicyError: the policy failed.
    """
    for name, value in policy.memory().items():
        advice = f"override memory() and recall() of {policy.name} so that they keep what can be kept"
        try:
            held = encoded(value, f"{policy.name}: the attribute {name!r}")
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {advice}, or hold plain types") from None
        try:
            check_readable(held, [package_of(policy.name)])
        except CheckpointError as error:
            raise CheckpointError(
                f"{policy.name}: the attribute {name!r} cannot be read back from a checkpoint ({error.__cause__}); "
                f"{advice}, or hold classes of the policy's own package"
            ) from error


def checkpoint_of(run_dir: Place, modules: Sequence[str]) -> tuple[Checkpoint, dict[str, Any]] | None:
    """The checkpoint in a run's folder, with its index; None where the run has not come to its first.

    Raises:
        CheckpointError: it is damaged.
    """
    if not has_checkpoint(run_dir):
        return None
    return read_checkpoint(run_dir / FOLDER, modules), read_index(run_dir / FOLDER)


def why_not_from_checkpoint(run_dir: Place, policy_path: str) -> str | None:
    """What is wrong with the checkpoint in a run's folder; None where the run can go on, also without any."""
    try:
        checkpoint_of(run_dir, [package_of(policy_path)])
    except (CheckpointError, OSError) as error:
        return str(error)
    return None


def package_of(policy_path: str) -> str:
    """The top package of a policy, whose classes may be in a checkpoint of its runs."""
    return policy_path.partition(":")[0].partition(".")[0]


def rounds_kept(run_dir: Place) -> int:
    """With how many rounds the run in this folder would go on; 0 where it would begin anew."""
    try:
        return int(read_index(run_dir / FOLDER)["n_rounds"])
    except CheckpointError:
        return 0


def clear_temporaries(run_dir: Place) -> None:
    """Remove what a process that was killed had not written to its end, so that it can go on in this folder."""
    if isinstance(run_dir, RemotePath):
        return  # whose files are whole or not there
    for folder in (run_dir, run_dir / FOLDER, *(run_dir / table for table in SCHEMAS)):
        for path in (*folder.glob(".*.tmp"), *folder.glob(".*.part")):
            path.unlink(missing_ok=True)


def check_same_run(before: Mapping[str, Any], now: Mapping[str, Any], run_dir: Place) -> None:
    """Raise UserError where what a run is made of is not what it was, and it could not end as it would have.

    ``before`` is what its ``run.json`` says, ``now`` what it would say today.
    """
    for key in sorted(set(now) - MAY_DIFFER):
        if key not in before:
            continue  # which a run of an earlier version does not say
        if _plain(before.get(key)) != _plain(now[key]):
            raise UserError(
                f"the run cannot go on, since {key} has changed: it was {_short(before.get(key))}, now it is "
                f"{_short(now[key])}; bring it back, or start the run anew: {str(run_dir)!r}"
            )
    if differences := settings_that_differ(before, now["config"]):
        raise UserError(
            f"the run cannot go on with other settings ({differences}); bring them back, or start the run anew: "
            f"{str(run_dir)!r}"
        )


def settings_that_differ(before: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Where a run that goes on with ``settings`` would not be the one of which ``run.json`` says ``before``.

    The settings are named with both values; the text is empty where none stands in the way.
    """
    # A setting that a run of an earlier version does not have was what it is by default.
    settings_before = _filled(before.get("config") or {}, Config().model_dump())
    had, wanted = _by_key(_plain(settings_before)), _by_key(_plain(settings))
    differing = [
        f"{key} was {_short(had.get(key))} and is now {_short(wanted.get(key))}"
        for key in sorted({*had, *wanted})
        if had.get(key) != wanted.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in SETTINGS_THAT_MAY_DIFFER)
    ]
    more = [f"{len(differing) - MOST_NAMED} more"] if len(differing) > MOST_NAMED else []
    return ", ".join(differing[:MOST_NAMED] + more)


def _by_key(value: Any, prefix: str = "") -> dict[str, Any]:
    """Settings by their key paths."""
    if not isinstance(value, Mapping) or (prefix and not value):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _by_key(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def check_rounds(n_before: int, n_now: int, every_rounds: int, n_done: int) -> None:
    """Raise UserError if a run of ``n_before`` rounds cannot become one of ``n_now``.

    Args:
        n_before: rounds that it was started with.
        n_now: rounds that are wanted.
        every_rounds: between two evaluations.
        n_done: rounds that its checkpoint has.
    """
    if n_now < n_done:
        raise UserError(f"--rounds: {n_done} rounds are done already, got {n_now}")
    if n_now != n_before and n_done == n_before and n_before % every_rounds:
        raise UserError(
            f"--rounds: the last of its {n_before} rounds was evaluated out of turn (evaluation.every_rounds = "
            f"{every_rounds}), as it would not be in a longer run; start that anew"
        )


def _filled(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with those of ``defaults`` that they lack, table by table."""
    filled = {**defaults, **settings}
    for key, value in settings.items():
        if isinstance(value, Mapping) and isinstance(default := defaults.get(key), Mapping):
            filled[key] = _filled(value, default)
    return filled


def _plain(value: Any) -> Any:
    """``value`` as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
