"""FedBuff: nobody waits; the server aggregates as soon as a buffer of updates is full, the stale ones with less weight.

System
    Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, arXiv 2106.06639.
    All of it from memory.

Idea
    A device that has delivered its update starts again at once from the newest server state. The server collects K
    updates, whoever they are from, and adds their mean change to its state. A device that took long started from an old
    state; its change counts less the more aggregations it has missed.

Mapping
    K -> ``buffer_size``; eta_g -> ``server_learning_rate``; Delta_i -> the difference of ``Update.payload`` and
    ``Update.base``; tau_i -> ``Update.staleness``; s(tau) = 1 / sqrt(1 + tau) -> ``staleness_discount``; algorithm 1,
    server -> ``buffered_step``; the clients' loop -> ``emulator.protocols.buffered.BufferedAsync``.

Deviations
    1. What is trained are LoRA adapters and the trained part of the head. A and B are changed each by its own mean; the
       product of the means is not the mean of the products, as in any averaging of A and B.
    2. Every reachable device is at work all the time; the paper keeps a fixed number of clients at work, drawn from a
       population of millions.
    3. The changes of a buffer are weighted by the devices' numbers of examples, as everywhere in this testbed, so that
       policies differ in what they decide and not in how they count; the paper weights by staleness alone.
       ``weight_by_examples = false`` is the literal reading.

Defaults
    buffer_size = 10: the paper's K. server_learning_rate = 1.0: not stated in what was at hand; chosen because the step
    is then FedAvg's where nothing is stale. rank = 8, all layers: those of FedLoRA, to which it compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from emulator.algorithms.aggregation import Contribution, contributions, staleness_discount, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraForm, lora_plan, uniform_ranks
from emulator.policy import Count, Policy, Positive
from emulator.protocols.buffered import BufferedAsync
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedBuff(Policy):
    """The same depth and rank on every device, and no barrier.

    Args:
        buffer_size: updates in an aggregation, K.
        server_learning_rate: what the mean change is multiplied by, eta_g.
        weight_by_examples: whether a device with more examples counts for more.
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    buffer_size: Count = 10
    server_learning_rate: Positive = 1.0
    weight_by_examples: bool = True
    rank: Count = 8
    depth: Count | None = None
    protocol: BufferedAsync = field(init=False, repr=False, compare=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def __post_init__(self) -> None:
        self.protocol = BufferedAsync(self.buffer_size)

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        depth = self.depth or view.model.n_layers
        return lora_plan(view, uniform_ranks(view.model, self.rank, self.depth), dict.fromkeys(view.available, depth))

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        if not self.weight_by_examples:
            updates = [replace(update, n_examples=1) for update in updates]
        shrunk = sum(update.n_examples * staleness_discount(update.staleness) for update in updates)
        left = shrunk / sum(update.n_examples for update in updates)
        return buffered_step(state, contributions(form, state, updates), self.server_learning_rate * left)


def buffered_step(state: Arrays, buffer: Sequence[Contribution], step: float) -> Arrays:
    """``w + eta_g / K * sum_i s(tau_i) Delta_i`` (algorithm 1, server; from memory).

    The mean over the buffer divides by the sum of the discounted weights; ``step`` is eta_g times that sum over the one
    without discounts, which brings the paper's division by K back: what is stale moves the server less far.
    """
    mean = weighted_coordinate_mean(state, buffer)
    return {name: (old + np.float32(step) * (mean[name] - old)).astype(np.float32) for name, old in state.items()}
