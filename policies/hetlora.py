"""HetLoRA: a rank for each device by what it can do, which it lowers by itself; merged by how much each one learned.

System
    Cho et al., "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models", EMNLP 2024,
    arXiv 2401.06432. Its formulas were seen in third parties' texts and code, not in the paper.

Idea
    The server keeps adapters of the largest rank and sends each device the first ranks of them. A device penalises its
    last ranks while it trains and gives them up where they shrank. The server pads what comes back with zeros and
    weights each device by the norm of what it learned, so that devices of small rank do not drown the others.

Mapping
    r_k -> ``self._ranks[k]``, of ``ranks`` at first; r_max -> the largest of ``ranks``; gamma -> ``kept_fraction``;
    lambda -> ``tail_weight``; ||B[:, gamma r:]||_F ||A[gamma r:]||_F -> ``emulator.forms.lora_tail.tail_product``;
    ||B_k A_k||_F -> ``emulator.algorithms.ranks.adapters_norm``; self-pruning -> ``pruned_rank``;
    zero-padded aggregation -> ``emulator.algorithms.aggregation.zero_padded_mean``.

Deviations
    1. Ranks by quarters of the observed speeds, the slowest devices the smallest, are reconstructed: how ranks are
       first assigned was not at hand. A device that has not been seen yet trains the smallest rank.
    2. A device has one rank for all layers, one tail product (the sum over its adapters) and one weight (the norm of
       all its products together); what was at hand is written for a single matrix.
    3. Where no device has learned anything (all products are zero), weights are the devices' numbers of examples.
    4. A rank that nobody holds keeps its value instead of being averaged with nothing but zeros, which would end it
       for good: with A and B zero, neither gets a gradient any more.
    5. The trained part of the head is averaged by numbers of examples: it has no rank, and no norm of the kind.

Defaults
    kept_fraction = 0.99, tail_weight = 0.01: seen in code by others; the paper's own values were not at hand, and the
    code of FlexLoRA's authors, where HetLoRA is a baseline, has a tail_weight of 0.001. scaling = 2: alpha 16 over
    rank 8 in that code, as in the engine for every form; it rescales factors by rank, which leaves products alike, and
    is not done here. A starts as PEFT draws it, as there. learning_rate_scale = 1: no source compares rates.
    ranks = (2, 4, 8, 16): not stated; chosen around rank 8, that of the baselines. min_rank = 2: the smallest of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from emulator.algorithms.aggregation import contributions, weighted_coordinate_mean, zero_padded_mean
from emulator.algorithms.balancing import speed_classes
from emulator.algorithms.ranks import adapters_norm
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraForm, uniform_ranks
from emulator.forms.lora_tail import TailAssignment
from emulator.policy import Count, FractionAboveZero, Nonempty, NotNegative, Policy, Positive
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class HetLora(Policy):
    """A rank per device, zero-padded aggregation weighted by norms.

    Args:
        ranks: the ranks of the classes of devices, in ascending order, the slowest devices first.
        kept_fraction: share of the ranks that a device keeps when it prunes itself, gamma.
        tail_weight: weight of the penalty on the last ranks, lambda.
        min_rank: no device prunes itself below this rank.
        scaling: what the product B A is multiplied by, at every rank.
        learning_rate_scale: what the run's learning rate is multiplied by.
    """

    ranks: Annotated[tuple[Count, ...], Nonempty] = (2, 4, 8, 16)
    kept_fraction: FractionAboveZero = 0.99
    tail_weight: NotNegative = 0.01
    min_rank: Count = 2
    scaling: float = 2.0
    learning_rate_scale: Positive = 1.0

    task = "emulator.learning.tasks.tail:train_with_tail_penalty"

    _ranks: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _step_s: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def __post_init__(self) -> None:
        if list(self.ranks) != sorted(self.ranks):
            raise ValueError(f"ranks must be in ascending order, got {self.ranks!r}")
        if self.min_rank > self.ranks[-1]:
            raise ValueError(f"min_rank must be at most the largest of ranks, {self.ranks[-1]}, got {self.min_rank!r}")

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.ranks[-1], 0), scaling=self.scaling)

    def plan(self, view: ClusterView) -> RoundPlan:
        return RoundPlan(
            assignments={
                device: TailAssignment(
                    device_id=device,
                    n_steps=view.training.n_steps,
                    batch_size=view.training.batch_size,
                    learning_rate=self.learning_rate_scale * view.training.learning_rate,
                    ranks=(self._ranks.get(device, self.ranks[0]),) * view.model.n_layers,
                    depth=view.model.n_layers,
                    kept_fraction=self.kept_fraction,
                    tail_weight=self.tail_weight,
                )
                for device in view.available
            }
        )

    def observe(self, report: RoundReport) -> None:
        delivered = {device: seen for device, seen in report.devices.items() if seen.status is Status.OK}
        for device, seen in delivered.items():
            if device in self._ranks:
                self._ranks[device] = pruned_rank(self._ranks[device], seen.metrics, self.kept_fraction, self.min_rank)
            else:
                self._step_s[device] = seen.compute_s / seen.n_steps
        classes = speed_classes(self._step_s, len(self.ranks))
        self._ranks = {device: self.ranks[place] for device, place in classes.items()} | self._ranks

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        parts = contributions(form, state, updates)
        norms = [adapters_norm(update.payload) for update in updates]
        weighted = [replace(part, weight=norm) for part, norm in zip(parts, norms, strict=True)]
        head = {name: array for name, array in state.items() if name.startswith("head.")}
        adapters = {name: array for name, array in state.items() if name not in head}
        return {
            **zero_padded_mean(adapters, weighted if any(norms) else parts),
            **weighted_coordinate_mean(head, parts),
        }


def pruned_rank(rank: int, metrics: Mapping[str, float], kept_fraction: float, min_rank: int) -> int:
    """``max(r_min, floor(gamma r))`` if the tail product shrank while the device trained, else ``r``.

    Seen in code by others. Without training there are no tail products, and the rank stays.
    """
    if "tail_after" not in metrics or metrics["tail_after"] >= metrics["tail_before"]:
        return rank
    return min(rank, max(min_rank, int(kept_fraction * rank)))
