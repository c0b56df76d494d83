"""Pruning at once: before the first round, by the magnitude of the pre-trained weights, the same units on all devices.

System
    No paper of its own: the baseline that pruning papers are compared with. Ranking by magnitude: Han et al., "Learning
    both Weights and Connections for Efficient Neural Networks", arXiv 1506.02626; of whole structures, by the sum of
    their magnitudes: Li et al., "Pruning Filters for Efficient ConvNets", arXiv 1608.08710.

Idea
    The server removes the heads and feed-forward channels whose weights are smallest and never looks at data. All
    rounds are those of FedLoRA on the small model.

Mapping
    the sum of a structure's magnitudes -> the scores of ``emulator.forms.pruned_lora.PrunedLoraForm`` with
    ``magnitude``; the sparsity -> ``target_sparsity``.

Deviations
    1. A unit lies in several matrices: its sum in each is divided by the norm over all units of that matrix, so that
       none of them decides alone. This is how FedSpine's importance is put together.
    2. Heads are ranked over all layers, channels too, and every layer keeps one of each, as in ``fedspine``.

Defaults
    target_sparsity = 0.5, rank = 8 on query and value in all layers: those of ``fedspine``, so that both are compared
    at one sparsity and with like adapters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from emulator.forms.base import AdapterForm
from emulator.forms.device_pruning import with_units
from emulator.forms.kept_units import KeptUnits, pruned_to_sparsity, scores_in_state
from emulator.forms.pruned_lora import PrunedLoraForm, pruned_plan
from emulator.policy import Count, FractionBelowOne, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class OneShotPruning(Policy):
    """All pruning before the first round, by magnitude.

    Args:
        target_sparsity: share of heads and of channels that are gone.
        rank: LoRA rank of every layer.
        targets: the adapted matrices of each layer.
    """

    target_sparsity: FractionBelowOne = 0.5
    rank: Count = 8
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")

    _kept: KeptUnits | None = field(default=None, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        return PrunedLoraForm(ranks=(self.rank,) * model.n_layers, targets=self.targets, magnitude=True)

    def plan(self, view: ClusterView) -> RoundPlan:
        if self._kept is None:
            whole = KeptUnits.whole(view.state, view.model)
            scores = scores_in_state(view.state) or whole.equal_scores()  # without training, any will do
            self._kept = pruned_to_sparsity(whole, scores, self.target_sparsity)
        return pruned_plan(view, self.rank, self._kept)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        return mean if self._kept is None else with_units(mean, self._kept)
