"""Pruning bit by bit: by the magnitude of the pre-trained weights, on a cubic schedule, the same units on all devices.

System
    Gradual magnitude pruning: Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model
    compression", arXiv 1710.01878, here of whole heads and channels, as a baseline for ``fedspine``.

Idea
    A model that loses a little at a time recovers in between. Much is pruned early, when much is superfluous, and less
    and less towards the end; what goes next is what has the smallest weights.

Mapping
    s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Delta t))^3 with s_i = 0 -> ``cubic_sparsity`` over rounds (sourced:
    equation 1); s_f -> ``target_sparsity``; t_0 -> ``first_round``; n Delta t -> ``pruning_rounds``; Delta t ->
    ``steps_between``, in local steps.

Deviations
    1. The magnitudes are those of the pre-trained weights, which stay as they are; what adapters add to them is left
       out. So the server knows them from the start, nobody reports anything, and the order in which units go is fixed.
    2. At a pruning as much goes as the schedule has at the last round before the next, so that the target is reached
       after ``pruning_rounds`` at the latest and the first pruning does something. All schedules here do so.
    3. Sums of several matrices and ranking over all layers are those of ``oneshot_pruning``.

Defaults
    target_sparsity = 0.5, first_round = 1, steps_between = 20, pruning_rounds = 10, rank = 8 on query and value: those
    of ``fedspine``, so that only what is pruned, and how much on whom, differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from emulator.forms.base import AdapterForm
from emulator.forms.device_pruning import with_units
from emulator.forms.kept_units import (
    KeptUnits,
    pruned_to_sparsity,
    rounds_of_steps,
    scores_in_state,
    staged_sparsity,
)
from emulator.forms.pruned_lora import PrunedLoraForm, pruned_plan
from emulator.policy import Count, CountOrZero, FractionBelowOne, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class MagnitudePruning(Policy):
    """Gradual pruning by magnitude.

    Args:
        target_sparsity: share of heads and of channels that are gone in the end.
        first_round: nothing is pruned in earlier rounds.
        steps_between: local steps that a device takes from one pruning to the next, rounded up to whole rounds.
        pruning_rounds: rounds in which the target is reached.
        rank: LoRA rank of every layer.
        targets: the adapted matrices of each layer.
    """

    target_sparsity: FractionBelowOne = 0.5
    first_round: CountOrZero = 1
    steps_between: Count = 20
    pruning_rounds: Count = 10
    rank: Count = 8
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")

    _kept: KeptUnits | None = field(default=None, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        return PrunedLoraForm(ranks=(self.rank,) * model.n_layers, targets=self.targets, magnitude=True)

    def plan(self, view: ClusterView) -> RoundPlan:
        kept = self._kept or KeptUnits.whole(view.state, view.model)
        interval = rounds_of_steps(self.steps_between, view.training.n_steps)
        wanted = staged_sparsity(
            view.round_index, self.first_round, interval, self.pruning_rounds, self.target_sparsity
        )
        scores = scores_in_state(view.state) or kept.equal_scores()  # without training, any will do
        self._kept = pruned_to_sparsity(kept, scores, wanted)
        return pruned_plan(view, self.rank, self._kept)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        return mean if self._kept is None else with_units(mean, self._kept)
