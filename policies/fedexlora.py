"""FedEx-LoRA: A and B are averaged apart, and what that leaves out of the mean product goes into the frozen weights.

System
    FedEx-LoRA: Singhal et al., "FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of Foundation
    Models", ACL 2025, arXiv 2410.09432.

Idea
    The product of the means is not the mean of the products. The difference is known to the server exactly: it is added
    to the frozen weights, the averaged factors go on as adapters, and together they are the exact mean.

Mapping
    mean of A_k, mean of B_k -> the state's ``lora_A``, ``lora_B``; Delta W_res = (1/K) sum B_k A_k - mean(B) mean(A),
    times s -> added to the state's ``residual`` arrays; s = alpha / r -> the form's scaling (sourced: public code).

Deviations
    1. Means are weighted by the devices' numbers of examples, as everywhere here; the public code averages evenly.
    2. The residual of a round travels as two factors of rank K r, until the whole matrix would be smaller, and then
       whole. A device that has missed rounds is charged for all that it lacks.
    3. A device adds the residual to its weights before it trains: time and energy are priced, what memory it takes is
       not.
    4. The trained part of the classification head travels with the adapters and is averaged like them (as in the public
       code).

Defaults
    rank = 8: that of the FedLoRA baseline, so that both are compared at one rank; the public code has 4 with three
    devices (sourced). depth is not given: all layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emulator.algorithms.aggregation import contributions, mean_product, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name, uniform_ranks
from emulator.forms.residual import ResidualLoraForm, lacking_ranks, residual_name, residual_plan
from emulator.policy import Count, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedExLora(Policy):
    """The same depth and rank on every device; the mean is exact.

    Args:
        rank: LoRA rank of every adapted layer.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    rank: Count = 8
    depth: Count | None = None

    _lacking: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> ResidualLoraForm:
        return ResidualLoraForm(ranks=uniform_ranks(model, self.rank, self.depth))

    def plan(self, view: ClusterView) -> RoundPlan:
        ranks = dict.fromkeys(view.available, uniform_ranks(view.model, self.rank, self.depth))
        return residual_plan(view, ranks, self.depth or view.model.n_layers, self._lacking)

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, ResidualLoraForm)
        sent = contributions(form, state, updates)
        merged = weighted_coordinate_mean(state, sent)
        weights = [one.weight for one in sent]
        for layer, target in form.sites():
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            exact = mean_product(weights, [one.arrays[name_b] for one in sent], [one.arrays[name_a] for one in sent])
            left_out = exact - merged[name_b].astype(np.float64) @ merged[name_a]
            name = residual_name(layer, target)
            merged[name] = (state[name] + form.scaling * left_out).astype(np.float32)
        return merged

    def observe(self, report: RoundReport) -> None:
        self._lacking = lacking_ranks(self._lacking, report, lambda device: self.rank)
