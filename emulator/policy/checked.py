"""A policy as the engine calls it: what it raises says where, and only what can be used is handed on."""

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from emulator.algorithms.aggregation import Blocks, Contribution, added, block_sums, mean_of
from emulator.algorithms.server_optimizer import NO_MOMENTS, Moments, ServerOptimizer
from emulator.errors import PolicyError, UserError
from emulator.forms.base import AdapterForm
from emulator.policy.base import Policy
from emulator.policy.catalog import import_path
from emulator.policy.validation import aggregated, validated
from emulator.protocols.base import RoundProtocol
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Update

MOMENTS = "server.optimizer"
"""The key of what the server's optimizer keeps, among what a policy remembers; no attribute has such a name."""


def is_mean(kind: type[Policy]) -> bool:
    """Whether the server state is the mean of the updates, of which a policy of this kind makes nothing else."""
    return kind.aggregate is Policy.aggregate and kind.finish is Policy.finish


class CheckedPolicy:
    """One policy in one run.

    Its protocol is a copy of the policy's: what a protocol keeps from round to round belongs to one run, however many
    the policy, or a class of policies that states it once for all, is used in.

    Attributes:
        form: what the policy trains and ships in this run.
        protocol: who waits for whom.
        name: where the policy is found, such as ``policies.legend:Legend``.
    """

    def __init__(
        self,
        policy: Policy,
        form: AdapterForm,
        add_up: Blocks = block_sums,
        server_optimizer: ServerOptimizer | None = None,
    ) -> None:
        """``add_up`` is how updates are added up where the policy aggregates by a mean.

        ``server_optimizer`` steps from the state that a round began with to what it came to; the policy must be one
        that :func:`is_mean` holds for.
        """
        self.form = form
        self._add_up = add_up
        self.protocol: RoundProtocol = copy.deepcopy(policy.protocol)
        self.name = import_path(type(policy))
        self._policy = policy
        self._round_index = 0
        self._server_optimizer = server_optimizer
        self._moments: Moments = NO_MOMENTS

    @property
    def declares(self) -> frozenset[str]:
        """Facts about devices that the policy is shown."""
        return self._policy.declares

    @property
    def task(self) -> str:
        """What a host computes for a job, as an import path."""
        return self._policy.task

    def plan(self, view: ClusterView) -> RoundPlan:
        """What the policy decides for the round that ``view`` shows, with assignments in the order of device ids.

        Raises:
            PlanError: it cannot be played.
            PolicyError: the policy failed.
        """
        self._round_index = view.round_index
        return validated(self.propose(view), view, self.form, self.name)

    def propose(self, view: ClusterView) -> RoundPlan:
        """What the policy itself returns for :meth:`plan`, unchecked.

        Raises:
            PolicyError: the policy failed.
        """
        with self._calling("plan", view.round_index):
            return self._policy.plan(view)

    def aggregate(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """The server state that the policy makes of ``updates`` in the round that it has planned last.

        Raises:
            AggregationError: it is no server state.
            PolicyError: the policy failed.
        """
        with self._calling("aggregate", self._round_index):
            merged = self._aggregated(state, updates)
        return aggregated(state, merged, self._where(self._round_index))

    def _aggregated(self, state: Arrays, updates: Sequence[Update]) -> Arrays:
        policy = self._policy
        if type(policy).aggregate is not Policy.aggregate:
            return policy.aggregate(self.form, state, updates)
        weights = [policy.weight(update) for update in updates]
        mean = mean_of(state, added(self._add_up(self.form, state, updates, weights)))
        return policy.finish(self.form, state, mean, updates)

    def carried_by(self, device_id: int) -> Arrays:
        """What the device has kept of its own earlier rounds.

        Raises:
            PolicyError: the policy failed.
        """
        with self._calling("carried_by", self._round_index):
            return self._policy.carried_by(device_id)

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        """What the policy makes of the ``groups`` of a round; errors as for :meth:`aggregate`."""
        with self._calling("aggregate_groups", self._round_index):
            merged = self._policy.aggregate_groups(state, groups)
        return aggregated(state, merged, self._where(self._round_index))

    def stepped(self, before: Arrays, after: Arrays) -> Arrays:
        """The server state of the next round, of one that began with ``before`` and came to ``after``.

        Raises:
            AggregationError: a step of the server's optimizer is not finite.
        """
        if self._server_optimizer is None or not after:
            return after
        state, self._moments = self._server_optimizer.step(before, after, self._moments)
        return aggregated(before, state, self._where(self._round_index))

    def observe(self, report: RoundReport) -> None:
        """Let the policy learn from a closed round.

        Raises:
            PolicyError: the policy failed.
        """
        with self._calling("observe", report.round_index):
            self._policy.observe(report)

    def memory(self) -> Mapping[str, object]:
        """What the policy has learned, and what the server's optimizer keeps.

        Raises:
            PolicyError: the policy failed.
        """
        with self._calling("memory", self._round_index):
            learned = self._policy.memory()
        return learned if self._server_optimizer is None else {**learned, MOMENTS: self._moments}

    def recall(self, memory: Mapping[str, object]) -> None:
        """Let a fresh policy go on with what another has learned.

        Raises:
            PolicyError: the policy failed.
        """
        learned = dict(memory)
        moments: Any = learned.pop(MOMENTS, NO_MOMENTS)
        self._moments = moments
        with self._calling("recall", self._round_index):
            self._policy.recall(learned)

    def _where(self, round_index: int) -> str:
        return f"{self.name}, round {round_index}"

    @contextmanager
    def _calling(self, method: str, round_index: int) -> Iterator[None]:
        """Runs a block that calls ``method``; all but a :class:`UserError` that the policy raises is a PolicyError."""
        try:
            yield
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise PolicyError(
                f"{self._where(round_index)}: {method}() raised {type(error).__name__}: {error} "
                f"({last.filename}, line {last.lineno})"
            ) from error
