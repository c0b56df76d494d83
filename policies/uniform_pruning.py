"""FedSpine without its bandit: the same importance, but one share of units and one rank for all devices.

System
    The uniform schedule that FedSpine (arXiv 2501.02438) adapts to each device, as a baseline: what pruning alone
    gives.

Idea
    Each device loses its own least important heads and channels by the gradients of its adapters, all devices as many
    of them at a time and with the same rank, on the cubic schedule of gradual pruning.

Mapping
    importance -> ``emulator.learning.tasks.importance``; the schedule -> ``staged_sparsity`` (Zhu and Gupta, arXiv
    1710.01878, equation 1); aggregation and the model for all -> those of ``fedspine``.

Deviations
    1. It stands for the baselines of the paper with one ratio for all, which were not at hand in detail.
    2. A device names the units that are to go before it is pruned, as in ``fedspine``; it is told how many those are.

Defaults
    Those of ``fedspine`` where it has them; rank = 8, the middle of its ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from emulator.forms.base import AdapterForm
from emulator.forms.device_pruning import DevicePruning, weight_of_kept, with_common_units
from emulator.forms.kept_units import KeptUnits, rounds_of_steps, stage_of, staged_sparsity
from emulator.forms.pruned_lora import PrunedLoraForm, pruned_lora_assignment
from emulator.policy import Count, CountOrZero, FractionBelowOne, Nonempty, Policy
from emulator.records import Arrays, ClusterView, RoundPlan, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class UniformPruning(Policy):
    """Gradual pruning by each device's own importance, at one pace and rank.

    Args:
        target_sparsity: share of heads and of channels that are gone in the end.
        first_round: nothing is pruned in earlier rounds.
        steps_between: local steps that a device takes from one pruning to the next, rounded up to whole rounds.
        pruning_rounds: rounds in which the target is reached.
        rank: LoRA rank of every layer.
        targets: the adapted matrices of each layer.
        smoothing: share of the old scores in each local step.
    """

    target_sparsity: FractionBelowOne = 0.5
    first_round: CountOrZero = 1
    steps_between: Count = 20
    pruning_rounds: Count = 10
    rank: Count = 8
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")
    smoothing: FractionBelowOne = 0.9

    task: ClassVar[str] = "emulator.learning.tasks.importance:train_and_score"

    _pruning: DevicePruning = field(default_factory=DevicePruning, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        return PrunedLoraForm(ranks=(self.rank,) * model.n_layers, targets=self.targets)

    def plan(self, view: ClusterView) -> RoundPlan:
        whole = KeptUnits.whole(view.state, view.model)
        equal = None if view.state else whole.equal_scores()  # without training, any will do
        now, following = (self._stage_and_sparsity(view, view.round_index + later) for later in (0, 1))
        assignments = {}
        for device in view.available:
            if self._pruning.is_due(device, now[0], equal):
                self._pruning.prune(device, *now, whole, equal)
            sparsity, stage = self._pruning.sparsity.get(device, 0.0), self._pruning.stages.get(device, 0)
            assignments[device] = replace(
                pruned_lora_assignment(
                    device, view.training, view.model, self.rank, self._pruning.kept.get(device, whole)
                ),
                importance="gradient" if sparsity < self.target_sparsity else "none",
                smoothing=self.smoothing,
                candidates=max(0.0, following[1] - sparsity) if following[0] > stage else 0.0,
            )
        return RoundPlan(assignments=assignments)

    def weight(self, update: Update) -> float:
        """``n_i (1 - p_i)``."""
        return super().weight(update) * weight_of_kept(update)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        self._pruning.hear(updates, carries=True)
        return with_common_units(state, mean, updates)

    def _stage_and_sparsity(self, view: ClusterView, round_index: int) -> tuple[int, float]:
        interval = rounds_of_steps(self.steps_between, view.training.n_steps)
        wanted = staged_sparsity(round_index, self.first_round, interval, self.pruning_rounds, self.target_sparsity)
        return stage_of(round_index, self.first_round, interval), wanted
