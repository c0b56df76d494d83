"""XGBLoRA: boosting with adapters of rank 1 on a random part of the layers, one after another merged into the weights.

System
    XGBLoRA: Zhang et al., "Less is More: Extreme Gradient Boost Rank-1 Adaption for Efficient Finetuning of LLMs",
    arXiv 2410.19694. Seen in a review, not in the paper; it is for one machine.

Idea
    A weak learner that is added to the sum of those before it can be as small as an adapter of rank 1 on some of the
    layers. It is trained for a few steps, merged, and the next one begins from nothing elsewhere; their sum reaches any
    rank. What is trained, and sent, at any time is tiny.

Mapping
    a booster -> a round: rank ``rank`` on ``layer_share`` of the layers, drawn from the round's stream; kappa steps ->
    the run's local steps; W <- W + alpha_t (alpha / r) B A with alpha_t = 1 -> the state's ``residual``.

Deviations
    1. The federation is our own: one booster a round, its layers drawn by the server, its A drawn alike on all devices.
       A and B are averaged by numbers of examples and the product of the means is merged, so that a booster has the
       rank that it is named for; ``averages_products`` merges the mean of the products instead, which is exact, of one
       rank for each device, and as much dearer on its way to the devices.
    2. The review has L2 terms on A and B in the loss; here it is AdamW's decay, ``training.weight_decay``, off unless
       set.
    3. A device that has missed rounds is charged for all boosters that it lacks, layer by layer, until the whole matrix
       would be smaller. The time in which it merges them is not counted.
    4. The backward pass goes down to the lowest layer drawn; layers above that have no booster are passed through.
    5. The trained part of the head travels both ways and is averaged in every round.

Defaults
    rank = 1: sourced. layer_share = 0.5: not stated for models of twelve layers (the review names eleven layers of a
    model of 32 as the best); chosen so that half the bytes of a rank go each round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emulator.algorithms.aggregation import contributions, mean_product, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name, uniform_ranks
from emulator.forms.residual import ResidualLoraForm, residual_name, residual_plan
from emulator.policy import Count, FractionAboveZero, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class XgbLora(Policy):
    """A new adapter of rank 1 in each round, on layers drawn at random, merged at the round's end.

    Args:
        rank: of a booster.
        layer_share: share of the layers that a booster is on.
        averages_products: whether the mean of the products is merged, and not the product of the means.
    """

    rank: Count = 1
    layer_share: FractionAboveZero = 0.5
    averages_products: bool = False

    _ranks: tuple[int, ...] = field(default=(), init=False, repr=False)  # of this round's booster, by layer
    _lacking: dict[int, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> ResidualLoraForm:
        return ResidualLoraForm(ranks=uniform_ranks(model, self.rank, 0), restarts=True, shares_draw=True)

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers = view.model.n_layers
        drawn = view.rng.choice(n_layers, max(1, round(self.layer_share * n_layers)), replace=False).tolist()
        self._ranks = tuple(self.rank if layer in drawn else 0 for layer in range(n_layers))
        nothing = (0,) * n_layers
        lacking = {device: self._lacking.get(device, nothing) for device in view.available}
        return residual_plan(view, dict.fromkeys(view.available, self._ranks), n_layers - min(drawn), lacking)

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, ResidualLoraForm)
        parts = contributions(form, state, updates)
        if self.averages_products:
            return weighted_coordinate_mean(state, parts)
        merged = {name: array for name, array in state.items() if not name.startswith("head.")}
        shares = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
        for layer, target in form.sites():
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            if name_a not in updates[0].payload:
                continue
            mean_a, mean_b = (
                np.sum([share * update.payload[name] for share, update in zip(shares, updates, strict=True)], axis=0)
                for name in (name_a, name_b)
            )
            name = residual_name(layer, target)
            merged[name] = (state[name] + form.scaling * mean_product([1.0], [mean_b], [mean_a])).astype(np.float32)
        head = {name: array for name, array in state.items() if name.startswith("head.")}
        return {**merged, **weighted_coordinate_mean(head, parts)}

    def observe(self, report: RoundReport) -> None:
        arrived = {device for device, seen in report.devices.items() if seen.status is Status.OK}
        n_ranks = len(arrived) if self.averages_products else min(1, len(arrived))
        grown = tuple(n_ranks * rank for rank in self._ranks)
        nothing = (0,) * len(grown)
        for device in report.devices:
            before = nothing if device in arrived else self._lacking.get(device, nothing)
            self._lacking[device] = tuple(old + new for old, new in zip(before, grown, strict=True))
