"""FedSpine: prune heads and channels while tuning, at a pace and with a rank that a bandit finds for each device.

System
    "Efficient Deployment of Large Language Models on Resource-constrained Devices" (FedSpine), arXiv 2501.02438. Of the
    paper only the abstract and a detailed summary by others were at hand; each formula below says what it rests on.

Idea
    Structured pruning and LoRA take turns. A device scores its attention heads and feed-forward channels by the
    gradients that its adapters get anyway, and loses the least important ones round by round. For each device a bandit
    picks how much is pruned next and the rank, without knowing the device. Updates are put back at their index.

Mapping
    p_i -> ``_sparsity[i]``, the share of all heads and of all channels that are gone; the action's increment of p_i and
    r_i -> a point of ``PartitionBandit``; importance -> ``emulator.learning.tasks.importance``; R_i -> ``reward``;
    p(t) -> ``cubic_sparsity``; S-UCB -> ``PartitionBandit``; n_i (1 - p_i) -> the weight in ``aggregate``.

Deviations
    1. Importance is LoRAPrune's (arXiv 2305.18403; from its public code): the summary names what it is made of, not its
       formula. It needs adapters on a matrix of each kind of unit, hence ``mlp_up`` beside query and value.
    2. A device reports its scores and the server picks the units by them, for the device's next round: what a round
       costs is known before it is trained. Scores and indices count as bytes. Computing them (under 1 % of a step's
       FLOP at rank 8) and the memory that it takes are not priced, so a falling ``peak_memory_bytes`` is no claim: the
       summary itself reports 114.5 % of the unpruned system's training memory.
    3. S-UCB and its reward are reconstructed from FedMP's E-UCB (from memory) and the summary's list of what the reward
       combines. In a check of their own such reconstructions did not beat a uniform schedule, so ``schedule = "cubic"``
       and ``"one_shot"`` are there as controls; ``target_sparsity = 0`` leaves the model whole.
    4. Aggregation with put-back indices and weights n_i (1 - p_i) is reconstructed. What nobody holds keeps its value.
    5. Which model is evaluated and exported is ours: one for all, as sparse as the round's devices are on average,
       without the units that most of them have pruned (weighted by examples). Once pruning has begun, accuracy is that
       of this pruned model; when all devices are at the target, so is it.
    6. Heads are ranked over all layers, channels too, and every layer keeps one of each. LoRAPrune spares some layers.

Defaults
    target_sparsity = 0.5, importance smoothing = 0.9 (LoRAPrune): sourced. pruning_rounds = 10, first_round = 1, ranks
    4 to 12 around rank 8, discount = 0.95, exploration = 0.2, smallest_leaf = 0.5 and the reward's weights 1, 0.5, 0.5
    and lateness 1: not stated; chosen so that 20 rounds suffice, before any run was made.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from emulator.algorithms.bandits import PartitionBandit, Point
from emulator.forms.base import AdapterForm
from emulator.forms.kept_units import KeptUnits, common_units, cubic_sparsity, pruned_to_sparsity
from emulator.forms.pruned_lora import PrunedLoraAssignment, PrunedLoraForm, pruned_lora_assignment
from emulator.policy import Count, CountOrZero, FractionAboveZero, FractionBelowOne, NotNegative, Policy
from emulator.records import Arrays, ClusterView, DeviceReport, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class FedSpine(Policy):
    """Pruning and rank for each device.

    Args:
        target_sparsity: share of heads and of channels that are gone in the end, p_f.
        schedule: bandit; cubic, the same for all at a fixed rank; or one_shot, all at once in ``first_round``.
        importance: what is least important, by gradient or by magnitude.
        first_round: nothing is pruned in earlier rounds; one_shot prunes in it, cubic begins after it.
        pruning_rounds: rounds in which cubic reaches the target; the bandit's increments let it do so on average.
        rank: where no bandit decides.
        min_rank: the bandit's smallest rank.
        max_rank: the bandit's largest rank.
        smoothing: share of the old scores in each local step.
        discount: of the bandit's rewards, for each round.
        exploration: of the bandit, c.
        smallest_leaf: the bandit splits no smaller part of its (increment, rank) square, both from 0 to 1.
        loss_weight: of the relative fall of the training loss in the reward, w1.
        progress_weight: of the increment, as a share of the largest, w2.
        adapter_weight: of the adapters' importance, as a share of the cohort's largest, w3.
        lateness: how much a device later than the median loses of its reward, kappa.
    """

    target_sparsity: FractionBelowOne = 0.5
    schedule: Literal["bandit", "cubic", "one_shot"] = "bandit"
    importance: Literal["gradient", "magnitude"] = "gradient"
    first_round: CountOrZero = 1
    pruning_rounds: Count = 10
    rank: Count = 8
    min_rank: Count = 4
    max_rank: Count = 12
    smoothing: FractionBelowOne = 0.9
    discount: FractionAboveZero = 0.95
    exploration: NotNegative = 0.2
    smallest_leaf: NotNegative = 0.5
    loss_weight: NotNegative = 1.0
    progress_weight: NotNegative = 0.5
    adapter_weight: NotNegative = 0.5
    lateness: NotNegative = 1.0

    task: ClassVar[str] = "emulator.learning.tasks.importance:train_and_score"

    _kept: dict[int, KeptUnits] = field(default_factory=dict, init=False, repr=False)
    _sparsity: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _scores: dict[int, Arrays] = field(default_factory=dict, init=False, repr=False)
    _bandits: dict[int, PartitionBandit] = field(default_factory=dict, init=False, repr=False)
    _played: dict[int, tuple[Point, float]] = field(default_factory=dict, init=False, repr=False)
    _losses: dict[int, float] = field(default_factory=dict, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        if self.max_rank < self.min_rank:
            raise ValueError(f"max_rank must be at least min_rank, {self.min_rank}, got {self.max_rank!r}")
        most = max(self.rank, self.max_rank) if self.schedule == "bandit" else self.rank
        return PrunedLoraForm(ranks=(most,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        whole, assignments, self._played = KeptUnits.whole(view.state, view.model), {}, {}
        # Without training there are no scores, and which units go does not matter.
        equal = None if view.state else whole.equal_scores()
        for device in view.available:
            kept, sparsity = self._kept.get(device, whole), self._sparsity.get(device, 0.0)
            scores = self._scores.get(device, equal)
            rank = self.rank
            if scores is not None:
                wanted, rank = self._decide(view, device, sparsity)
                kept = pruned_to_sparsity(kept, scores, wanted)
                self._kept[device], self._sparsity[device] = kept, wanted
            measures = self._sparsity.get(device, 0.0) < self.target_sparsity
            assignments[device] = replace(
                pruned_lora_assignment(device, view.training, view.model, rank, kept),
                importance=self.importance if measures else "none",
                smoothing=self.smoothing,
            )
        return RoundPlan(assignments=assignments)

    def weight(self, update: Update) -> float:
        """``n_i (1 - p_i)``."""
        own = update.assignment
        return super().weight(update) * (own.kept.kept_fraction if isinstance(own, PrunedLoraAssignment) else 1.0)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        """Mean per coordinate over the devices that keep it; then the model for all."""
        self._scores |= {update.device_id: update.reported for update in updates if update.reported}
        before = KeptUnits.in_state(state)
        if not updates or before is None:
            return state
        kept = [update.assignment.kept for update in updates if isinstance(update.assignment, PrunedLoraAssignment)]
        common = common_units(before, kept, [update.n_examples for update in updates])
        return {**mean, **common.arrays()}

    def observe(self, report: RoundReport) -> None:
        fine = {device: seen for device, seen in report.devices.items() if seen.status is Status.OK}
        if not fine:
            return
        median_s = statistics.median(_completion_s(seen) for seen in fine.values())
        most = max(seen.metrics.get("adapter_importance", 0.0) for seen in fine.values())
        for device, seen in fine.items():
            loss = seen.metrics.get("train_loss", 0.0)
            before = self._losses.get(device, loss)
            self._losses[device] = loss
            if device in self._played:
                point, increment = self._played[device]
                gain = (
                    self.loss_weight * ((before - loss) / before if before else 0.0)
                    + self.progress_weight * increment / self._largest_increment
                    + self.adapter_weight * (seen.metrics.get("adapter_importance", 0.0) / most if most else 0.0)
                )
                self._bandits[device].record(point, reward(gain, _completion_s(seen), median_s, self.lateness))

    @property
    def _largest_increment(self) -> float:
        return 2 * max(self.target_sparsity, 1e-9) / self.pruning_rounds

    def _decide(self, view: ClusterView, device: int, sparsity: float) -> tuple[float, int]:
        """The device's sparsity and rank of this round; what is pruned stays so."""
        if view.round_index < self.first_round:
            return sparsity, self.rank
        if self.schedule == "one_shot":
            return self.target_sparsity, self.rank
        if self.schedule == "cubic":
            wanted = cubic_sparsity(view.round_index, self.first_round, self.pruning_rounds, self.target_sparsity)
            return max(sparsity, wanted), self.rank
        bandit = self._bandits.setdefault(
            device,
            PartitionBandit(
                n_dimensions=2, discount=self.discount, exploration=self.exploration, smallest=self.smallest_leaf
            ),
        )
        point = bandit.choose(view.rng)
        wanted = min(self.target_sparsity, sparsity + point[0] * self._largest_increment)
        self._played[device] = (point, wanted - sparsity)
        return wanted, min(self.max_rank, self.min_rank + int(point[1] * (self.max_rank - self.min_rank + 1)))


def reward(gain: float, completion_s: float, median_s: float, lateness: float) -> float:
    """``gain / (1 + kappa max(0, (T_i - T_med) / T_med))`` (reconstructed)."""
    return gain / (1 + lateness * max(0.0, (completion_s - median_s) / median_s)) if median_s else gain


def _completion_s(seen: DeviceReport) -> float:
    return seen.download_s + seen.compute_s + seen.upload_s
