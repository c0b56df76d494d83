"""FlexLoRA: the server forms the mean product at full size and gives each device its best approximation of its rank.

System
    FlexLoRA: Bai et al., "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client
    Resources", NeurIPS 2024, arXiv 2402.11505. Aggregation and redistribution were seen in the authors' code (branch
    FlexLoRA of alibaba/FederatedScope).

Idea
    Devices have ranks by what they can do. The product B A of a device has the size of the frozen matrix whatever its
    rank, so products can be averaged where factors cannot. The server decomposes the mean by singular values, and each
    device gets as many of the largest as it has ranks: none is padded, and none is held down to the smallest.

Mapping
    r_k -> one of ``ranks``; Delta W = sum p_k s_k B_k A_k -> ``emulator.algorithms.aggregation.mean_product`` times the
    form's scaling; p_k = n_k / sum n; B = U_r S_r / s, A = V_r' -> ``emulator.algorithms.ranks.best_factors``
    (sourced: the authors' code, which leaves all singular values on B).

Deviations
    1. s is the same for every rank, as in all LoRA forms here; the authors' is 16 / r_k. What a device starts from is
       s B A either way, but here a step of the same size moves the weights of large and small ranks alike.
    2. Ranks go by classes of the observed speeds, the slowest devices the smallest; a device that has not been seen yet
       has the smallest. The authors draw types of clients by lot, with ranks from 8 to 200.
    3. All reachable devices take part, and the step size is the run's; the authors sample 5 % of 1,613 clients and
       halve the step size at round 15.
    4. The server's model, which is evaluated, is the approximation of the largest rank; what goes beyond it is lost, as
       it is for the devices.
    5. Adapters are on query and value; the authors have all seven maps of a LLaMA block. The trained part of the head
       is averaged by numbers of examples.

Defaults
    ranks = (2, 4, 8, 16): those of HetLoRA here, so that both are compared on the same ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from emulator.algorithms.aggregation import contributions, mean_product, weighted_coordinate_mean
from emulator.algorithms.balancing import speed_classes
from emulator.algorithms.ranks import best_factors
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraForm, adapter_name, lora_assignment, uniform_ranks
from emulator.policy import Count, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FlexLora(Policy):
    """A rank per device; products are averaged, and decomposed anew for each rank.

    Args:
        ranks: the ranks of the classes of devices, in ascending order, the slowest devices first.
    """

    ranks: Annotated[tuple[Count, ...], Nonempty] = (2, 4, 8, 16)

    _step_s: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def __post_init__(self) -> None:
        if list(self.ranks) != sorted(self.ranks):
            raise ValueError(f"ranks must be in ascending order, got {self.ranks!r}")

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.ranks[-1], 0))

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers = view.model.n_layers
        classes = speed_classes(self._step_s, len(self.ranks))
        ranks = {device: self.ranks[classes.get(device, 0)] for device in view.available}
        return RoundPlan(
            assignments={
                device: lora_assignment(device, view.training, (rank,) * n_layers, n_layers)
                for device, rank in ranks.items()
            }
        )

    def observe(self, report: RoundReport) -> None:
        for device, seen in report.devices.items():
            if seen.status is Status.OK:
                self._step_s[device] = seen.compute_s / seen.n_steps

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, LoraForm)
        parts = contributions(form, state, updates)
        head = {name: array for name, array in state.items() if name.startswith("head.")}
        merged = weighted_coordinate_mean(head, parts)
        weights = [part.weight for part in parts]
        targets = form.targets_in(state)
        for layer, rank in enumerate(form.ranks):
            for target in targets:
                name_a, name_b = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B"))
                if name_a not in state:  # layers of an encoder-decoder differ in their matrices
                    continue
                all_b, all_a = ([update.payload[name] for update in updates] for name in (name_b, name_a))
                change = form.scaling * mean_product(weights, all_b, all_a)
                merged[name_b], merged[name_a] = best_factors(change, rank, form.scaling)
        return merged
