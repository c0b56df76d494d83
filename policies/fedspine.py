"""FedSpine: prune heads and channels while tuning, at a pace and with a rank that a bandit finds for each device.

System
    "Efficient Deployment of Large Language Models on Resource-constrained Devices" (FedSpine), arXiv 2501.02438. Of the
    paper only the abstract and a detailed summary by others were at hand; each formula below says what it rests on.

Idea
    Structured pruning and LoRA take turns. A device scores its attention heads and feed-forward channels by the
    gradients that its adapters get anyway, and loses the least important ones bit by bit. For each device a bandit
    picks how much is pruned next and the rank, without knowing the device. Updates are put back at their index.

Mapping
    p_i -> ``DevicePruning.sparsity[i]``, the share of all heads and of all channels that are gone; the action's
    increment of p_i and r_i -> a point of ``PartitionBandit``; importance -> ``emulator.learning.tasks.importance``;
    R_i -> ``reward``; p(t) -> ``staged_sparsity``; S-UCB -> ``PartitionBandit``; n_i (1 - p_i) -> ``weight``; local
    iterations between prunings -> ``steps_between``.

Deviations
    1. Importance is LoRAPrune's (arXiv 2305.18403; from its public code): the summary names what it is made of, not its
       formula. It goes by adapters, and those are on query and value, as those of the unpruned baselines are. Channels,
       which have none then, are scored by the gradient of their activation, which the backward pass forms anyway.
       ``targets = ["query", "value", "mlp_up"]`` measures both alike, at more than twice the bytes.
    2. A device keeps its running scores. Before a pruning it names its least important units, as many as may go, by
       numbers of as few bytes as tell them apart; the server says in the next round how many of them go: what a round
       costs is known before it is trained. Names and indices count as bytes. ``sends = "scores"`` is the dearer
       reading, a float32 for each unit in each round. Computing scores is priced, the memory that it takes is not, so a
       falling ``peak_memory_bytes`` is no claim: the summary itself reports
       114.5 % of the unpruned system's training memory.
    3. S-UCB and its reward are reconstructed from FedMP's E-UCB (from memory) and the summary's list of what the reward
       combines. A device is pruned a few times in a run, too rarely for a bandit of its own to learn; so devices of
       a class, by speed in their first round, share one, whose plays of a round are one batch (``n_classes = 0``: one
       for each device). An action holds until the next pruning, and each round of it is rewarded. In a check of their
       own such reconstructions did not beat a uniform schedule: ``uniform_pruning`` is that control, and so are
       ``schedule = "cubic"`` and ``"one_shot"`` here; ``target_sparsity = 0`` leaves the model whole.
    4. Aggregation with put-back indices and weights n_i (1 - p_i) is reconstructed. What nobody holds keeps its value.
    5. Which model is evaluated and exported is ours: one for all, as sparse as the round's devices are on average,
       without the units that most of them have pruned (weighted by examples). Once pruning has begun, accuracy is that
       of this pruned model; when all devices are at the target, so is it.
    6. Heads are ranked over all layers, channels too, and every layer keeps one of each. LoRAPrune spares some layers.
    7. The first pruning comes after one round, not after ``steps_between`` steps: until then every round costs all of
       the model.

Defaults
    target_sparsity = 0.5, importance smoothing = 0.9 (LoRAPrune), steps_between = 20 (best of those that the summary
    says were tried): sourced. pruning_rounds = 10, first_round = 1, ranks 4 to 12 around rank 8, discount = 0.95,
    exploration = 0.2 and the reward's weights 1, 0.5, 0.5 and lateness 1: not stated; chosen so that 20 rounds suffice,
    before any run was made. n_classes = 3: as many as there are kinds of boards in the paper. smallest_leaf = 0.25: a
    bandit that many devices play can tell sixteen parts of its square apart; one of a single device, four.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from emulator.algorithms.balancing import speed_classes
from emulator.algorithms.bandits import PartitionBandit, Point
from emulator.forms.base import AdapterForm
from emulator.forms.device_pruning import DevicePruning, weight_of_kept, with_common_units
from emulator.forms.kept_units import KeptUnits, rounds_of_steps, stage_of, staged_sparsity
from emulator.forms.pruned_lora import PrunedLoraForm, pruned_lora_assignment
from emulator.policy import Count, CountOrZero, FractionAboveZero, FractionBelowOne, Nonempty, NotNegative, Policy
from emulator.records import Arrays, ClusterView, DeviceReport, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec

UNSEEN = -1
"""The class of devices whose speed nobody knows yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What a device does until it is pruned again: a point of its bandit, and what that means."""

    bandit: int
    point: Point
    sparsity: float
    increment: float
    rank: int


@dataclass(kw_only=True)
class FedSpine(Policy):
    """Pruning and rank for each device.

    Args:
        target_sparsity: share of heads and of channels that are gone in the end, p_f.
        schedule: bandit; cubic, the same for all at a fixed rank; or one_shot, all at once in ``first_round``.
        importance: what is least important: by the gradients of the adapters, by magnitude, or by those of the units.
        targets: the adapted matrices of each layer.
        first_round: nothing is pruned in earlier rounds.
        steps_between: local steps that a device takes from one pruning to the next, rounded up to whole rounds.
        pruning_rounds: rounds in which cubic reaches the target; the bandit's increments let it do so on average.
        rank: where no bandit decides.
        min_rank: the bandit's smallest rank.
        max_rank: the bandit's largest rank.
        smoothing: share of the old scores in each local step.
        carries_scores: whether a device's scores go on from one of its rounds to the next, or begin anew.
        sends: all scores in each round, or, before a pruning, the numbers of as many units as may go then.
        n_classes: classes of devices, by speed, whose devices share a bandit; 0 for one of each device.
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
    importance: Literal["gradient", "magnitude", "taylor"] = "gradient"
    targets: Annotated[tuple[str, ...], Nonempty] = ("query", "value")
    first_round: CountOrZero = 1
    steps_between: Count = 20
    pruning_rounds: Count = 10
    rank: Count = 8
    min_rank: Count = 4
    max_rank: Count = 12
    smoothing: FractionBelowOne = 0.9
    carries_scores: bool = True
    sends: Literal["scores", "candidates"] = "candidates"
    n_classes: CountOrZero = 3
    discount: FractionAboveZero = 0.95
    exploration: NotNegative = 0.2
    smallest_leaf: NotNegative = 0.25
    loss_weight: NotNegative = 1.0
    progress_weight: NotNegative = 0.5
    adapter_weight: NotNegative = 0.5
    lateness: NotNegative = 1.0

    task: ClassVar[str] = "emulator.learning.tasks.importance:train_and_score"

    _pruning: DevicePruning = field(default_factory=DevicePruning, init=False, repr=False)
    _bandits: dict[int, PartitionBandit] = field(default_factory=dict, init=False, repr=False)
    _actions: dict[int, Action] = field(default_factory=dict, init=False, repr=False)
    _losses: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _step_s: dict[int, float] = field(default_factory=dict, init=False, repr=False)  # of the first round of each device
    _interval: int = field(default=1, init=False, repr=False)

    def form(self, model: ModelSpec) -> PrunedLoraForm:
        if self.max_rank < self.min_rank:
            raise ValueError(f"max_rank must be at least min_rank, {self.min_rank}, got {self.max_rank!r}")
        most = max(self.rank, self.max_rank) if self.schedule == "bandit" else self.rank
        return PrunedLoraForm(ranks=(most,) * model.n_layers, targets=self.targets)

    def plan(self, view: ClusterView) -> RoundPlan:
        whole = KeptUnits.whole(view.state, view.model)
        # Without training there are no scores, and which units go does not matter.
        equal = None if view.state else whole.equal_scores()
        self._interval = rounds_of_steps(self.steps_between, view.training.n_steps)
        stage = self._stage(view.round_index)
        due = [device for device in view.available if self._pruning.is_due(device, stage, equal)]
        if self.schedule == "bandit":
            self._act(view, due)
        for device in due:
            self._pruning.prune(device, stage, self._wanted(view.round_index, device), whole, equal)
        return RoundPlan(
            assignments={
                device: replace(
                    pruned_lora_assignment(
                        device, view.training, view.model, self._rank(device), self._pruning.kept.get(device, whole)
                    ),
                    importance=self.importance if self._sparsity(device) < self.target_sparsity else "none",
                    smoothing=self.smoothing,
                    candidates=self._candidates(view.round_index, device),
                )
                for device in view.available
            }
        )

    def weight(self, update: Update) -> float:
        """``n_i (1 - p_i)``."""
        return super().weight(update) * weight_of_kept(update)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        """Mean per coordinate over the devices that keep it; then the model for all."""
        self._pruning.hear(updates, carries=self.carries_scores)
        return with_common_units(state, mean, updates)

    def observe(self, report: RoundReport) -> None:
        fine = {device: seen for device, seen in report.devices.items() if seen.status is Status.OK}
        if not fine:
            return
        median_s = statistics.median(_completion_s(seen) for seen in fine.values())
        most = max(seen.metrics.get("adapter_importance", 0.0) for seen in fine.values())
        plays: dict[int, list[tuple[Point, float]]] = {}
        for device, seen in fine.items():
            self._step_s.setdefault(device, seen.compute_s / seen.n_steps)
            loss = seen.metrics.get("train_loss", 0.0)
            before = self._losses.get(device, loss)
            self._losses[device] = loss
            if device in self._actions:
                action = self._actions[device]
                gain = (
                    self.loss_weight * ((before - loss) / before if before else 0.0)
                    + self.progress_weight * action.increment / self._largest_increment
                    + self.adapter_weight * (seen.metrics.get("adapter_importance", 0.0) / most if most else 0.0)
                )
                rewarded = reward(gain, _completion_s(seen), median_s, self.lateness)
                plays.setdefault(action.bandit, []).append((action.point, rewarded))
        for bandit, played in plays.items():
            self._bandits[bandit].record_several(played)

    @property
    def _largest_increment(self) -> float:
        return 2 * max(self.target_sparsity, 1e-9) * self._interval / self.pruning_rounds

    def _stage(self, round_index: int) -> int:
        return stage_of(round_index, self.first_round, self._interval)

    def _sparsity(self, device: int) -> float:
        return self._pruning.sparsity.get(device, 0.0)

    def _rank(self, device: int) -> int:
        return self._actions[device].rank if device in self._actions else self.rank

    def _act(self, view: ClusterView, devices: Sequence[int]) -> None:
        """Has the bandits choose an increment and a rank for each of ``devices``."""
        classes = speed_classes(self._step_s, self.n_classes) if self.n_classes and self._step_s else {}
        sharing: dict[int, list[int]] = {}
        for device in devices:
            sharing.setdefault(classes.get(device, UNSEEN) if self.n_classes else device, []).append(device)
        for number, members in sharing.items():
            bandit = self._bandits.setdefault(
                number,
                PartitionBandit(
                    n_dimensions=2, discount=self.discount, exploration=self.exploration, smallest=self.smallest_leaf
                ),
            )
            for device, point in zip(members, bandit.choose_several(len(members), view.rng), strict=True):
                sparsity = self._sparsity(device)
                wanted = min(self.target_sparsity, sparsity + point[0] * self._largest_increment)
                rank = min(self.max_rank, self.min_rank + int(point[1] * (self.max_rank - self.min_rank + 1)))
                self._actions[device] = Action(
                    bandit=number, point=point, sparsity=wanted, increment=wanted - sparsity, rank=rank
                )

    def _wanted(self, round_index: int, device: int) -> float:
        """A device's sparsity from this round on; what is pruned stays so."""
        if self.schedule == "one_shot":
            return self.target_sparsity
        if self.schedule == "bandit":
            return self._actions[device].sparsity
        return max(self._sparsity(device), self._scheduled(round_index))

    def _scheduled(self, round_index: int) -> float:
        return staged_sparsity(round_index, self.first_round, self._interval, self.pruning_rounds, self.target_sparsity)

    def _candidates(self, round_index: int, device: int) -> float | None:
        """The share of units whose numbers a device sends: as many as its next pruning may take, if that is next."""
        if self.sends == "scores":
            return None
        if self._stage(round_index + 1) <= self._pruning.stages.get(device, 0):
            return 0.0
        left = self.target_sparsity - self._sparsity(device)
        if self.schedule == "bandit":
            left = min(left, self._largest_increment)
        elif self.schedule == "cubic":
            left = min(left, self._scheduled(round_index + 1) - self._sparsity(device))
        return max(0.0, left)


def reward(gain: float, completion_s: float, median_s: float, lateness: float) -> float:
    """``gain / (1 + kappa max(0, (T_i - T_med) / T_med))`` (reconstructed)."""
    return gain / (1 + lateness * max(0.0, (completion_s - median_s) / median_s)) if median_s else gain


def _completion_s(seen: DeviceReport) -> float:
    return seen.download_s + seen.compute_s + seen.upload_s
