"""FLoRA: the server stacks the devices' adapters, which is their exact mean, and everybody starts new ones.

System
    FLoRA: Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations",
    NeurIPS 2024, arXiv 2409.05976.

Idea
    Side by side along the rank, the adapters of all devices are one adapter whose product is the mean of their
    products. Ranks may differ. The stack is merged into the frozen weights, and every round begins with a new adapter.

Mapping
    B = [B_1 ... B_K], A = [p_1 A_1; ...; p_K A_K] -> ``emulator.algorithms.aggregation.mean_product``; the merged
    stack -> the state's ``residual`` arrays; r_k -> ``ranks``; alpha_k / r_k = 2 -> the form's scaling
    (sourced: the authors' code).

Deviations
    1. The stack travels as it is, of rank sum r_k, until the whole matrix would be smaller, and then whole; the paper
       always sends the stack. A device that has missed rounds is charged for all the stacks that it lacks.
    2. A device merges the stack into its weights before it trains: time and energy of the product are priced, what
       memory it takes is not.
    3. The trained part of the classification head travels both ways and is averaged, since it is no adapter.
    4. The authors' plain branch, without stacking, keeps the first device alone; it is not reproduced.

Defaults
    ranks = (8,): that of the FedLoRA baseline on every device. The authors' example has 64, 32, 16, 16, 8, 8, 4, 4,
    4, 4; give it as ``ranks`` to see heterogeneous ones, which devices take in turn. depth is not given: all layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from emulator.algorithms.aggregation import contributions, mean_product, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name, uniform_ranks
from emulator.forms.residual import ResidualLoraForm, lacking_ranks, residual_name, residual_plan
from emulator.policy import Count, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class Flora(Policy):
    """New adapters in every round; their stack becomes part of the model.

    Args:
        ranks: LoRA ranks, which devices take in turn by their ids.
        depth: how many layers are adapted, counted from the output; all where it is not given.
    """

    ranks: Annotated[tuple[Count, ...], Nonempty] = (8,)
    depth: Count | None = None

    _lacking: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> ResidualLoraForm:
        return ResidualLoraForm(ranks=uniform_ranks(model, max(self.ranks), self.depth), restarts=True)

    def plan(self, view: ClusterView) -> RoundPlan:
        ranks = {device: uniform_ranks(view.model, self._rank(device), self.depth) for device in view.available}
        return residual_plan(view, ranks, self.depth or view.model.n_layers, self._lacking)

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, ResidualLoraForm)
        heads = contributions(form, state, [replace(update, payload=_head(update.payload)) for update in updates])
        merged = weighted_coordinate_mean(state, heads)
        weights = [one.weight for one in heads]
        for layer, target in form.sites():
            name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
            all_b, all_a = ([update.payload[name] for update in updates] for name in (name_b, name_a))
            name = residual_name(layer, target)
            merged[name] = (state[name] + form.scaling * mean_product(weights, all_b, all_a)).astype(np.float32)
        return merged

    def observe(self, report: RoundReport) -> None:
        self._lacking = lacking_ranks(self._lacking, report, self._rank)

    def _rank(self, device: int) -> int:
        return self.ranks[device % len(self.ranks)]


def _head(payload: Arrays) -> Arrays:
    return {name: array for name, array in payload.items() if name.startswith("head.")}
