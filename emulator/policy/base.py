"""The base class of all policies: what a server decides, and how it merges what comes back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from emulator.algorithms.aggregation import (
    Contribution,
    added,
    block_sums,
    discounted_examples,
    mean_of,
    weighted_coordinate_mean,
)
from emulator.forms.base import AdapterForm
from emulator.protocols.base import RoundProtocol
from emulator.protocols.grouped import GroupedRounds
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec


class Policy(ABC):
    """A configuration policy: each round it decides which devices train with which settings.

    A policy is an ordinary class, usually a dataclass whose fields are its parameters; the run's configuration sets
    them by name and type. It is driven by one coordinator, in this order: :meth:`form` once, then for each round
    :meth:`plan`, :meth:`aggregate` and :meth:`observe`.

    It sees what the server in a paper sees: the telemetry of past rounds and those facts about devices that it
    ``declares``. It must not read the wall clock or global random state; ``view.rng`` is its source of chance.

    Example::

        @dataclass(kw_only=True)
        class Half(Policy):
            rank: int = 8

            def form(self, model):
                return LoraForm(ranks=(self.rank,) * model.n_layers)

            def plan(self, view):
                n_layers = view.model.n_layers
                cohort = view.rng.permutation(view.available)[: len(view.available) // 2]
                return lora_plan(view, (self.rank,) * n_layers, {int(device): n_layers for device in cohort})
    """

    declares: ClassVar[frozenset[str]] = frozenset()
    """Facts about devices that the policy needs to know, of :data:`emulator.world.devices.DEVICE_FACTS`."""

    families: ClassVar[frozenset[str]] = frozenset({"transformer"})
    """Which models it is for: ``transformer``, ``encoder-decoder`` (a transformer of two stacks) and ``convnet``."""

    protocol: RoundProtocol = GroupedRounds()
    """Who waits for whom."""

    task: ClassVar[str] = "emulator.learning.tasks.local:train_adapter"
    """What a host computes for a job: the import path of a function over a list of jobs."""

    @abstractmethod
    def form(self, model: ModelSpec) -> AdapterForm:
        """What is trained and shipped, for a model of these shapes; the same whenever it is asked."""

    @abstractmethod
    def plan(self, view: ClusterView) -> RoundPlan:
        """Decide the round: the cohort, each device's settings and, where devices form groups, the groups."""

    def observe(self, report: RoundReport) -> None:
        """Learn from a closed round."""

    def memory(self) -> Mapping[str, object]:
        """What the policy has learned, for a checkpoint: all that its next plan depends on beside its parameters.

        Default: all attributes of the object, which must be plain values, numpy arrays, enums, dataclasses, or
        containers of these (see :mod:`emulator.running.checkpoints.codec`). A policy that holds anything else overrides
        this and :meth:`recall`. A protocol is left out: it is brought back by playing its rounds again. Do not let a
        plan depend on the order in which a set is gone through, which is not kept.
        """
        return {name: value for name, value in vars(self).items() if not isinstance(value, RoundProtocol)}

    def recall(self, memory: Mapping[str, object]) -> None:
        """Go on with what :meth:`memory` gave, in a fresh policy with the same parameters."""
        vars(self).update(memory)

    def carried_by(self, device_id: int) -> Arrays:
        """What the device brings to its next job of its own earlier rounds: ``job.carried``, for the task.

        Where a method lets devices keep something, the policy keeps it for them, so that checkpoints have it: it takes
        it from ``update.reported`` and gives it back here. It costs no traffic but what the form says of it.

        Default: nothing.
        """
        return {}

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        """The server state after ``updates``, which come in the order of device ids.

        Default: for each coordinate, the mean over the devices that hold it, with the weights that :meth:`weight`
        gives, of which :meth:`finish` makes the server state. Override these two where that is what a policy does: the
        updates are then added up where they are, and a run of thousands of devices needs no memory for them. A policy
        that overrides this method is given every update whole.
        """
        weights = [self.weight(update) for update in updates]
        mean = mean_of(state, added(block_sums(form, state, updates, weights)))
        return self.finish(form, state, mean, updates)

    def weight(self, update: Update) -> float:
        """How much an update counts in the mean; its ``payload`` is not there to be looked at.

        Default: the device's number of examples, discounted where the update is stale.
        """
        return discounted_examples(update)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        """The server state, of the ``mean`` over ``updates``; their ``payload`` is not there to be looked at.

        Default: the mean itself.
        """
        return mean

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        """The server state after the groups of a round have each aggregated among themselves.

        Default: the same mean, taken over the groups.
        """
        return weighted_coordinate_mean(state, groups)
