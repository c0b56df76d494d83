"""SLoRA: some entries of the weights are trained first, and what they have learned becomes the start of LoRA.

System
    SLoRA: Babakniya et al., "SLoRA: Federated Parameter Efficient Fine-Tuning of Language Models", arXiv 2308.06522.
    The two stages are in its abstract; the switch was seen in the code of FlexLoRA's authors, who implement it.

Idea
    On data that differ from device to device, LoRA from a random start falls behind. In a first stage devices train a
    sparse part of the weights, the same everywhere. The server decomposes what they have learned by singular values,
    gives the weights their old values back, and LoRA goes on from the factors.

Mapping
    R_1 -> ``sparse_rounds``; density, the common mask -> :class:`emulator.forms.sparse_start.SparseStartLoraForm`;
    Delta W = W_1 - W_0 -> the state's ``sparse`` entries; B = U_r S_r / s, A = V_r' ->
    ``emulator.algorithms.ranks.best_factors`` (sourced: that code; a split of the roots is the paper's, from memory).

Deviations
    1. The mask is uniform over the entries of the adapted matrices, from ``support_seed`` whatever the run's seed is
       (drawing by chance is from memory). Positions cost no bytes, as all know the seed.
    2. Sparse are query and value alone, where the adapters are. A step of the first stage is priced with the gradients
       of these whole matrices; that they need room for it is not counted.
    3. A round in which nobody delivers does not count among ``sparse_rounds``.
    4. The trained part of the head is trained and averaged in both stages.

Defaults
    density = 0.01: the abstract's order of magnitude. sparse_rounds = 5: that code. rank = 8: that of the FedLoRA
    baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from emulator.algorithms.ranks import best_factors
from emulator.forms.base import AdapterForm
from emulator.forms.lora import adapter_name, lora_assignment, uniform_ranks
from emulator.forms.sparse_start import SPARSE, SparseStartAssignment, SparseStartLoraForm, dense_change
from emulator.policy import Count, CountOrZero, FractionAboveZero, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class SLora(Policy):
    """Sparse fine-tuning for some rounds, then LoRA from its decomposition; the same on every device.

    Args:
        rank: LoRA rank of every layer.
        sparse_rounds: rounds of the first stage; without any it is FedLoRA.
        density: share of the entries of the adapted matrices that are trained in the first stage.
        support_seed: which entries these are.
    """

    rank: Count = 8
    sparse_rounds: CountOrZero = 5
    density: FractionAboveZero = 0.01
    support_seed: CountOrZero = 0

    _n_done: int = field(default=0, init=False, repr=False)  # rounds in which somebody delivered

    def form(self, model: ModelSpec) -> SparseStartLoraForm:
        ranks = uniform_ranks(model, self.rank, None)
        return SparseStartLoraForm(ranks=ranks, density=self.density, support_seed=self.support_seed)

    def plan(self, view: ClusterView) -> RoundPlan:
        n_layers = view.model.n_layers
        assignments = {}
        for device in view.available:
            held = lora_assignment(device, view.training, (self.rank,) * n_layers, n_layers)
            assignments[device] = SparseStartAssignment(
                **{each.name: getattr(held, each.name) for each in fields(held)},
                trains_sparse=self._n_done < self.sparse_rounds,
            )
        return RoundPlan(assignments=assignments)

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, SparseStartLoraForm)
        merged = super().aggregate(form, state, updates)
        return switched(form, merged) if self._n_done + 1 == self.sparse_rounds else merged

    def observe(self, report: RoundReport) -> None:
        self._n_done += any(seen.status is Status.OK for seen in report.devices.values())


def switched(form: SparseStartLoraForm, state: Arrays) -> Arrays:
    """The state with adapters in the place of the sparse changes, which are zero again."""
    changed = dict(state)
    for layer, target in form.sites():
        name_a, name_b, name = (adapter_name(layer, target, matrix) for matrix in ("lora_A", "lora_B", SPARSE))
        shape = len(state[name_b]), state[name_a].shape[1]
        change = dense_change(state[name], form.positions(layer, target, *shape), *shape)
        changed[name_b], changed[name_a] = best_factors(change, form.ranks[layer], form.scaling)
        changed[name] = np.zeros_like(state[name])
    return changed
