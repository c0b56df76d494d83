"""LEGEND: LoRA depth by what a device can do, rank by where a layer lies.

System
    "Adaptive Parameter-Efficient Federated Fine-Tuning on Heterogeneous Devices" (LEGEND), arXiv 2412.20004.
    Of the paper only the abstract and its opening were at hand; each formula below says what it rests on.

Idea
    Adapters near the output matter most, so ranks grow towards the output and a slow device trains only the layers
    nearest to it. The server estimates each device's speed from past rounds and shortens the depth of the slowest until
    nobody waits long. Each layer is averaged over the devices that trained it.

Mapping
    k_i -> ``depths[i]``; r_l = r_1 + lambda (l - 1) -> ``rank_law(first_rank, rank_step)``; rho -> ``smoothing``;
    t-hat_i -> ``Capacity.forward_s``; mu_i -> ``Capacity.backward_s_per_layer``; beta_i -> ``Capacity.*_s_per_byte``;
    W <= epsilon -> ``waiting_fraction`` (of the slowest device's time); LCD, the LoRA Configuration Determination ->
    ``emulator.algorithms.balancing.relieve_slowest``. Ablations: ``rank_order = "uniform"``, ``adapt_depth = false``.

Deviations
    1. The greedy LCD algorithm is reconstructed: the abstract names it and what it decides, not its steps.
    2. beta is estimated per byte and per direction instead of per unit of rank, since the head travels as well.
    3. A device that ran out of memory is held below the depth at which it did; the paper's resource constraints are
       known only by name.
    4. ``downlink = "full"``: a device also receives the adapters below its depth and applies them, frozen, in its
       forward pass; otherwise it would train against another model than the server's. ``"tuned"`` is the literal
       reading, in which only the layers that a device trains travel in either direction.
    5. ``rank_order = "uniform"`` gives every layer the mean of the law, rounded; over twelve layers of the default law
       7.5 becomes 8. ``"decreasing"`` is the law upside down, of the same sum, to see what the order is worth.
    6. The one public code that names LEGEND, a third party's, has ranks 17 to 28 over twelve layers at alpha 28, so a
       scale near 1, and depths of 6, 9 or 12: the step of the law is the same, its ratio of last to first is 1.65
       instead of 6.5, and no device trains less than half of the model. ``first_rank = 17, scaling = 1, min_share =
       0.5`` is that; ``first_rank = 6, rank_step = 0.36, min_share = 0.5`` has its ratio at the ranks' sum of the
       defaults.
    7. ``skips_floor`` leaves a device that is at its least depth out of the waiting and goes on with the next. Without,
       one device with a slow link ends the search for all; with it, the others give up layers in a round that the
       device makes long anyway.

Defaults
    smoothing = 0.8: the estimator's factor in MergeSFL by the same group (from memory); assumed the same here.
    first_rank = 2, rank_step = 1, waiting_fraction = 0.2, min_depth = 1: not stated in what was at hand; chosen so that
    the ranks' sum over twelve layers, 90, is close to that of rank 8 everywhere, 96, and fixed before any run was made.
    scaling = 2: that of the other policies; min_share = 0 and skips_floor = false: as min_depth alone has it.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from emulator.algorithms.balancing import relieve_slowest
from emulator.algorithms.estimation import Capacities, held_below, measured_capacity
from emulator.compression.payloads import download_bytes, upload_bytes
from emulator.forms.lora import LoraForm, lora_plan, lora_template
from emulator.policy import Count, Fraction, Policy, Positive
from emulator.records import ClusterView, RoundPlan, RoundReport
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class Legend(Policy):
    """Depth per device by its estimated speed, rank per layer by an arithmetic law.

    Args:
        first_rank: rank of the layer nearest to the input, r_1.
        rank_step: how much the rank grows per layer towards the output, lambda.
        scaling: LoRA's alpha / r, the same for every rank.
        smoothing: share of the old estimate in the capacity estimator, rho.
        waiting_fraction: mean waiting that is tolerated, as a share of the slowest device's time, epsilon.
        min_depth: no device trains fewer layers than this.
        min_share: nor a smaller share of the layers than this.
        skips_floor: whether a device at its least depth is left out of the waiting instead of ending the search.
        rank_order: increasing towards the output, as the paper has it; uniform or decreasing, to compare.
        adapt_depth: whether slow devices train fewer layers; without, all train all that fit.
        downlink: full, or tuned (only the layers that a device trains).
    """

    first_rank: Count = 2
    rank_step: float = 1.0
    scaling: Positive = 2.0
    smoothing: Fraction = 0.8
    waiting_fraction: Fraction = 0.2
    min_depth: Count = 1
    min_share: Fraction = 0.0
    skips_floor: bool = False
    rank_order: Literal["increasing", "uniform", "decreasing"] = "increasing"
    adapt_depth: bool = True
    downlink: Literal["full", "tuned"] = "full"

    _capacities: Capacities = field(init=False, repr=False)
    _most_layers: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _depths: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _least_depth: int = field(default=1, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def __post_init__(self) -> None:
        self._capacities = Capacities(self.smoothing)

    def form(self, model: ModelSpec) -> LoraForm:
        if self.min_depth > model.n_layers:
            raise ValueError(f"min_depth must be at most the model's {model.n_layers} layers, got {self.min_depth!r}")
        ranks = rank_law(model.n_layers, self.first_rank, self.rank_step)
        match self.rank_order:
            case "uniform":
                ranks = (round(sum(ranks) / len(ranks)),) * len(ranks)
            case "decreasing":
                ranks = ranks[::-1]
        return LoraForm(ranks=ranks, scaling=self.scaling)

    def plan(self, view: ClusterView) -> RoundPlan:
        form, n_layers = self.form(view.model), view.model.n_layers
        self._least_depth = least_depth(n_layers, self.min_depth, self.min_share)
        self._depths = {device: self._most_layers.get(device, n_layers) for device in view.available}
        if self.adapt_depth:
            self._depths |= self._determined_depths(view, form)
        return lora_plan(view, form.ranks, self._depths, hold_below=self.downlink == "full")

    def observe(self, report: RoundReport) -> None:
        self._most_layers |= held_below(report, self._depths, self._least_depth)
        self._capacities.observe(report, lambda device, seen: measured_capacity(seen, self._depths[device]))

    def _determined_depths(self, view: ClusterView, form: LoraForm) -> dict[int, int]:
        """LCD (reconstructed), for the devices of which something is known."""
        settings = [
            lora_template(view.training, form.ranks, depth, hold_below=self.downlink == "full")
            for depth in range(view.model.n_layers + 1)
        ]
        how = view.model, view.training.compression
        received = [download_bytes(form, setting, *how) for setting in settings]
        sent = [upload_bytes(form, setting, *how) for setting in settings]

        def completion_s(device: int, depth: int) -> float:
            return self._capacities.known[device].completion_s(depth, received[depth], sent[depth])

        known = {device: depth for device, depth in self._depths.items() if device in self._capacities.known}
        return relieve_slowest(completion_s, known, self.waiting_fraction, self._least_depth, self.skips_floor)


def rank_law(n_layers: int, first_rank: int, rank_step: float) -> tuple[int, ...]:
    """``r_l = r_1 + lambda (l - 1)``, rounded, at least 1; layer 1 is nearest to the input (from memory)."""
    return tuple(max(1, round(first_rank + rank_step * layer)) for layer in range(n_layers))


def least_depth(n_layers: int, min_depth: int, min_share: float) -> int:
    """The fewest layers that a device trains: ``min_depth``, and ``min_share`` of all, rounded up."""
    return max(min_depth, math.ceil(min_share * n_layers))
