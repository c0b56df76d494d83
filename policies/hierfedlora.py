"""HierFedLoRA: near-IID groups that aggregate among themselves, each with a frequency and a depth that suit it.

System
    HierFedLoRA, a hierarchical approach to federated fine-tuning with LoRA, arXiv 2503.21213. Of the paper only the
    abstract was at hand; each formula below says what it rests on.

Idea
    Devices form groups whose labels, taken together, resemble those of all devices. In a round each group aggregates
    among its members several times before the server aggregates the groups: often is good against non-IID data, but
    costs traffic. More tuned layers learn more, but cost time. So the server chooses both together for each group, such
    that no group makes the others wait.

Mapping
    v_i, |D_i| -> the declared ``label_histogram`` and its sum; Phi_g, KL -> ``emulator.algorithms.grouping``; f_g ->
    ``Group.inner_rounds``; d_g -> the members' depth; tau -> ``training.local_steps``, of a round, of which an inner
    round has ``inner_steps``; T_g(f, d) -> ``longest_s``; q(f, d) = f^a * sum of g-hat_l over the tuned layers ->
    ``joint_choice``; T* (1 + epsilon) -> the median over groups of T_g(1, L), times ``1 + slack_fraction``; g-hat_l ->
    ``layer_importance``.

Deviations
    1. The abstract has near-IID groups, a frequency and a depth for each, and their joint choice; every formula here is
       reconstructed.
    2. g-hat_l is the norm of the aggregated change of layer l in a round, as the server sees no gradients; an
       exponential moving average over the rounds, as shares of their sum.
    3. The server aggregates within groups, too, over each device's own link; there are no edge servers.
    4. The abstract speaks of a frequency of aggregation that trades traffic against non-IID data, so the local steps
       are divided among the inner rounds: f costs transfers, not computation (reconstructed). Where f does not divide
       the local steps an inner round has one more rather than one less. ``shares_steps = false`` is the reading in
       which each inner round has all of them: there hardly a group can afford f > 1, and with f = 1 throughout the
       groups' weighted mean is that of all devices, so that grouping cannot matter.
    5. Memory is not declared: a device that ran out of it holds its group below that depth.
    6. Before anything is known of a group's devices it has f = 1 and all layers; groups are then formed by labels
       alone, and again after the first round, when speeds are known.
    7. Groups are formed by speed first, as a group is as slow as its slowest member, within ``divergence_bound``, and
       near-IID as far as speed leaves a choice: a constraint on one kind of heterogeneity while the other is lowered is
       how ParallelSFL of the same group has it (from its summary). ``speed_weight = 0.1`` with a bound that is
       never reached, such as 100, is labels first.

Defaults
    group_size = 10, frequencies up to 8, frequency_power = 0.5, slack_fraction = 0.2, speed_weight = 10: not stated in
    what was at hand; chosen, the last so that speed decides within the bound. divergence_bound =
    0.05: the default of a third party's MergeSFL for the same measure. smoothing = 0.8:
    the group's common estimator (from memory). regroup_rounds = 20: how often the testbed's devices change their power
    modes. rank = 8: that of FedLoRA, to which it compares.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np

from emulator.algorithms.aggregation import Contribution
from emulator.algorithms.estimation import Capacities, Capacity, held_below, measured_capacity
from emulator.algorithms.grouping import near_iid_groups, random_groups
from emulator.compression.payloads import download_bytes, upload_bytes
from emulator.forms.lora import LoraForm, lora_plan, lora_template, uniform_ranks
from emulator.policy import Between, Count, Fraction, Nonempty, NotNegative, Policy
from emulator.records import Arrays, ClusterView, DeviceReport, Group, RoundPlan, RoundReport
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class HierFedLora(Policy):
    """Groups of like label mixture, with a frequency of aggregation and a depth for each.

    Args:
        rank: LoRA rank of every tuned layer.
        group_size: devices in a group, about.
        grouping: near_iid, or random to see what the grouping is worth.
        regroup_rounds: rounds after which groups are formed anew.
        speed_weight: what a spread of speeds within a group counts beside its divergence in labels.
        divergence_bound: divergence of a group's labels, in nat, up to which speed may decide.
        shares_steps: whether the local steps are divided among a group's inner rounds; without, each has all of them.
        frequencies: how often a group may aggregate within a round, f.
        frequency_power: how much frequency is worth beside depth, a.
        slack_fraction: how much longer than the median group a group may take, epsilon.
        smoothing: share of the old estimate in the estimators of capacity and of layer importance.
    """

    declares: ClassVar[frozenset[str]] = frozenset({"label_histogram"})

    rank: Count = 8
    group_size: Count = 10
    grouping: Literal["near_iid", "random"] = "near_iid"
    regroup_rounds: Count = 20
    speed_weight: NotNegative = 10.0
    divergence_bound: NotNegative = 0.05
    shares_steps: bool = True
    frequencies: Annotated[tuple[Annotated[int, Between(1, 1000)], ...], Nonempty] = (1, 2, 4, 8)
    frequency_power: Annotated[float, Between(0, 10)] = 0.5
    slack_fraction: NotNegative = 0.2
    smoothing: Fraction = 0.8

    _capacities: Capacities = field(init=False, repr=False)  # per local step
    _most_layers: dict[int, int] = field(default_factory=dict, init=False, repr=False)
    _importance: tuple[float, ...] = field(default=(), init=False, repr=False)
    _groups: tuple[tuple[int, ...], ...] = field(default=(), init=False, repr=False)
    _grouped_in: int = field(default=-1, init=False, repr=False)
    _chosen: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    families = frozenset({"transformer", "encoder-decoder"})

    def __post_init__(self) -> None:
        self._capacities = Capacities(self.smoothing)

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=uniform_ranks(model, self.rank, 0))

    def plan(self, view: ClusterView) -> RoundPlan:
        form, n_layers = self.form(view.model), view.model.n_layers
        settings = [lora_template(view.training, form.ranks, depth) for depth in range(n_layers + 1)]
        how = view.model, view.training.compression
        sent_bytes = [(download_bytes(form, each, *how), upload_bytes(form, each, *how)) for each in settings]
        n_steps = {often: self._inner_steps(view.training.n_steps, often) for often in (1, *self.frequencies)}
        known = self._capacities.known

        def inner_s(device: int, often: int) -> list[float]:
            """The seconds of an inner round at each depth, of a device of which something is known."""
            return [known[device].completion_s(depth, *sent, n_steps[often]) for depth, sent in enumerate(sent_bytes)]

        if self._is_due(view.round_index):
            self._groups = self._formed(view, {device: inner_s(device, 1)[-1] for device in known})
            self._grouped_in = view.round_index
        reachable = set(view.available)
        groups = [members for group in self._groups if (members := tuple(d for d in group if d in reachable))]
        slowest_s = [
            {often: longest_s([inner_s(device, often) for device in members if device in known]) for often in n_steps}
            for members in groups
        ]
        full_s = [each[1][-1] for each in slowest_s if each[1]]
        bound_s = (1 + self.slack_fraction) * float(np.median(full_s or [math.inf]))
        importance = self._importance or (1 / n_layers,) * n_layers
        frequencies = []
        for members, seconds in zip(groups, slowest_s, strict=True):
            frequency, depth = 1, min(self._most_layers.get(device, n_layers) for device in members)
            if seconds[1]:
                inner_round_s = {often: seconds[often][: depth + 1] for often in self.frequencies}
                frequency, depth = joint_choice(inner_round_s, bound_s, importance, self.frequency_power)
            frequencies.append(frequency)
            self._chosen |= dict.fromkeys(members, (frequency, depth))
        depths = {device: self._chosen[device][1] for members in groups for device in members}
        planned = [Group(members=who, inner_rounds=often) for who, often in zip(groups, frequencies, strict=True)]
        assignments = {
            device: replace(each, n_steps=n_steps[self._chosen[device][0]])
            for device, each in lora_plan(view, form.ranks, depths).assignments.items()
        }
        return RoundPlan(assignments=assignments, groups=tuple(planned))

    def observe(self, report: RoundReport) -> None:
        def measured(device: int, seen: DeviceReport) -> Capacity:
            frequency, depth = self._chosen[device]
            return measured_capacity(seen, depth, inner_rounds=frequency * seen.n_steps)

        self._most_layers |= held_below(report, {device: depth for device, (_, depth) in self._chosen.items()})
        self._capacities.observe(report, measured)

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        merged = super().aggregate_groups(state, groups)
        latest = layer_importance(state, merged)
        old = self._importance or latest
        self._importance = tuple(
            self.smoothing * before + (1 - self.smoothing) * now for before, now in zip(old, latest, strict=True)
        )
        return merged

    def _inner_steps(self, n_steps: int, frequency: int) -> int:
        return inner_steps(n_steps, frequency) if self.shares_steps else n_steps

    def _is_due(self, round_index: int) -> bool:
        """Whether groups are to be formed: first, when speeds are known first, and every so many rounds."""
        is_first_with_speeds = self._grouped_in == 0 and bool(self._capacities.known)
        return self._grouped_in < 0 or is_first_with_speeds or round_index - self._grouped_in >= self.regroup_rounds

    def _formed(self, view: ClusterView, full_s: Mapping[int, float]) -> tuple[tuple[int, ...], ...]:
        """All devices of the cluster in groups, reachable or not; ``full_s`` has the seconds of the known ones."""
        n_groups = max(1, round(view.n_devices / self.group_size))
        if self.grouping == "random":
            numbers = random_groups(view.n_devices, n_groups, view.rng)
        else:
            counts = [view.declared[device]["label_histogram"] for device in range(view.n_devices)]
            usual_s = float(np.median(list(full_s.values()) or [1.0]))
            log_speeds = [-math.log(full_s.get(device, usual_s)) for device in range(view.n_devices)]
            numbers = near_iid_groups(
                np.array(counts, np.float64),
                np.array(log_speeds),
                n_groups,
                self.speed_weight,
                view.rng,
                self.divergence_bound,
            )
        return tuple(tuple(np.flatnonzero(numbers == group).tolist()) for group in range(n_groups))


def inner_steps(n_steps: int, frequency: int) -> int:
    """Local steps of each of ``frequency`` inner rounds that together have ``n_steps``, rounded up (reconstructed)."""
    return -(-n_steps // frequency)


def longest_s(inner_s: Sequence[Sequence[float]]) -> list[float]:
    """For each depth the seconds of an inner round of a group whose members take ``inner_s``; nothing without members.

    ``T_g(f, d) = f max_i (tau_f (forward_i + d backward_i) + transfers_i(d))``, with ``tau_f`` steps in an inner round,
    is ``f`` times that (reconstructed).
    """
    return [max(seconds) for seconds in zip(*inner_s, strict=True)]


def joint_choice(
    inner_round_s: Mapping[int, Sequence[float]],
    bound_s: float,
    importance: Sequence[float],
    frequency_power: float,
) -> tuple[int, int]:
    """Frequency and depth of a group: ``argmax f^a sum_(l > L - d) g-hat_l`` with ``T_g <= bound_s`` (reconstructed).

    ``inner_round_s[f][d]`` are the seconds of an inner round of frequency ``f`` at depth ``d``, up to the deepest that
    is allowed. Of equals the one that takes least is taken. A group that cannot keep to the bound does as little as it
    may.
    """
    best, best_key = (min(inner_round_s), 1), (-math.inf, 0.0)
    for frequency, by_depth in inner_round_s.items():
        for depth in range(1, len(by_depth)):
            seconds = frequency * by_depth[depth]
            worth = frequency**frequency_power * sum(importance[len(importance) - depth :])
            if seconds <= bound_s and (worth, -seconds) > best_key:
                best, best_key = (frequency, depth), (worth, -seconds)
    return best


def layer_importance(before: Arrays, after: Arrays) -> tuple[float, ...]:
    """For each layer the norm of the change of its adapters, as shares of their sum (reconstructed)."""
    squares: dict[int, float] = {}
    for name, old in before.items():
        if name.startswith("layers."):
            layer = int(name.split(".")[1])
            squares[layer] = squares.get(layer, 0.0) + float(np.sum((after[name] - old).astype(np.float64) ** 2))
    norms = [math.sqrt(squares[layer]) for layer in sorted(squares)]
    total = sum(norms)
    return tuple(norm / total for norm in norms) if total > 0 else (1 / len(norms),) * len(norms)
