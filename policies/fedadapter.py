"""FedAdapter: bottleneck adapters that begin small and grow deeper or wider, as trials side by side find best.

System
    FedAdapter (AdaFL): Cai et al., "Efficient Federated Learning for Modern NLP", MobiCom 2023, arXiv 2205.10162. The
    configurator was seen in the authors' code.

Idea
    Which depth and width of adapters is best changes as training goes on: shallow and narrow ones learn fast at first,
    larger ones go further. So in each trial three cohorts go on from the same adapters for the same time, one with the
    present setting, one a layer deeper, one wider. The best of them is what all go on from.

Mapping
    depth, width -> ``self._depth``, ``self._width``; a trial -> one round whose groups are the cohorts; the rounds of a
    cohort -> the inner rounds of its group, ``rounds_within``; T -> ``trial_s``, T_t = T (4 depth + 1) ->
    ``trial_length_s``; comm + comp -> ``Capacity.completion_s``; the winner's weights, inherited ->
    ``aggregate_groups`` (sourced: the authors' code).

Deviations
    1. The winner is the cohort with the lowest training loss in its last inner round, weighted by numbers of examples;
       the authors evaluate each on the server's data, which a policy here does not see in the middle of a round. Ties
       go to the present setting, then to the wider and then to the deeper one, as theirs. Without training the setting
       stays.
    2. The length of a trial is shared out by what was observed of the devices, the slowest of each cohort counting,
       since a round waits for it; the authors use a table measured offline. Until a device has been seen, a cohort has
       one inner round.
    3. No cohort has more than ``most_rounds`` inner rounds; where one would, all are shortened in proportion.
    4. Devices are dealt out to the cohorts by lot in every trial; the authors draw 5 clients a round for each.
    5. Adapters stand behind the feed-forward part with GELU (theirs: ReLU). Units beyond the present width are drawn as
       the run begins and wait near zero. Activations below the adapters are kept by the engine, not priced as kept.
    6. The trained part of the head travels with the adapters.

Defaults
    first_depth = 1, first_width = 8, width_step = 8, most_width = 64: the authors' code. depth_step = 1: the same.
    trial_s = 3, most_rounds = 5: not stated for rounds as short as these (theirs is 90 s, 156 rounds at depth 1);
    chosen so that a run of twenty trials takes a few minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.algorithms.aggregation import Contribution
from emulator.algorithms.estimation import Capacities, measured_capacity
from emulator.compression.payloads import download_bytes, upload_bytes
from emulator.forms.base import AdapterForm
from emulator.forms.bottleneck import BottleneckAssignment, BottleneckForm
from emulator.policy import Count, Policy, Positive
from emulator.records import Arrays, ClusterView, Group, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A cohort's setting, and the loss that it came to; None before it has trained."""

    depth: int
    width: int
    loss: float | None = None


@dataclass(kw_only=True)
class FedAdapter(Policy):
    """Three cohorts try the present adapters, deeper ones and wider ones; all go on from the best.

    Args:
        first_depth: adapted layers at the start, counted from the output.
        first_width: units of an adapter at the start.
        depth_step: layers that the deeper cohort has more.
        width_step: units that the wider cohort has more.
        most_width: no adapter has more units.
        trial_s: emulated seconds T of a trial, which lasts T (4 depth + 1).
        most_rounds: no cohort has more inner rounds in a trial.
    """

    first_depth: Count = 1
    first_width: Count = 8
    depth_step: Count = 1
    width_step: Count = 8
    most_width: Count = 64
    trial_s: Positive = 3.0
    most_rounds: Count = 5

    _depth: int = field(default=0, init=False, repr=False)
    _width: int = field(default=0, init=False, repr=False)
    _trials: list[Trial] = field(default_factory=list, init=False, repr=False)  # of this round, those that delivered
    _asked: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)  # depth, inner rounds
    _capacities: Capacities = field(default_factory=lambda: Capacities(0.5), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.first_width > self.most_width:
            raise ValueError(f"first_width must be at most most_width, {self.most_width}, got {self.first_width!r}")
        self._depth, self._width = self.first_depth, self.first_width

    def form(self, model: ModelSpec) -> BottleneckForm:
        if self.first_depth > model.n_layers:
            raise ValueError(
                f"first_depth must be at most the model's {model.n_layers} layers, got {self.first_depth!r}"
            )
        return BottleneckForm(width=self.most_width)

    def plan(self, view: ClusterView) -> RoundPlan:
        tried = self._candidates(view.model.n_layers)[: len(view.available)]
        shuffled = [int(device) for device in view.rng.permutation(view.available)]
        cohorts = [sorted(shuffled[place :: len(tried)]) for place in range(len(tried))]
        assignments = {
            device: BottleneckAssignment(
                device_id=device,
                n_steps=view.training.n_steps,
                batch_size=view.training.batch_size,
                learning_rate=view.training.learning_rate,
                depth=trial.depth,
                width=trial.width,
            )
            for trial, cohort in zip(tried, cohorts, strict=True)
            for device in cohort
        }
        length_s = trial_length_s(self.trial_s, self._depth)
        round_s = [self._round_s([assignments[device] for device in cohort], view) for cohort in cohorts]
        n_rounds = rounds_within(length_s, round_s, self.most_rounds)
        self._trials = []
        self._asked = {
            device: (trial.depth, n)
            for trial, cohort, n in zip(tried, cohorts, n_rounds, strict=True)
            for device in cohort
        }
        groups = [Group(members=tuple(cohort), inner_rounds=n) for cohort, n in zip(cohorts, n_rounds, strict=True)]
        return RoundPlan(assignments=assignments, groups=tuple(groups))

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        held = updates[0].assignment
        assert isinstance(held, BottleneckAssignment)
        latest = Trial(depth=held.depth, width=held.width, loss=mean_loss(updates))
        settings = [(trial.depth, trial.width) for trial in self._trials]
        if (latest.depth, latest.width) in settings:
            self._trials[settings.index((latest.depth, latest.width))] = latest
        else:
            self._trials.append(latest)
        return super().aggregate(form, state, updates)

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        """What the best cohort has come to; of the others nothing stays."""
        if not groups:
            return state
        best = winner(self._trials, Trial(depth=self._depth, width=self._width))
        self._depth, self._width = self._trials[best].depth, self._trials[best].width
        return {**state, **groups[best].arrays}

    def observe(self, report: RoundReport) -> None:
        self._capacities.observe(report, lambda device, seen: measured_capacity(seen, *self._asked[device]))

    def _candidates(self, n_layers: int) -> list[Trial]:
        """The present setting, the deeper and the wider one, without those that are at their bounds."""
        deeper = min(n_layers, self._depth + self.depth_step)
        wider = min(self.most_width, self._width + self.width_step)
        settings = [(self._depth, self._width), (deeper, self._width), (self._depth, wider)]
        return [Trial(depth=depth, width=width) for depth, width in dict.fromkeys(settings)]

    def _round_s(self, cohort: Sequence[BottleneckAssignment], view: ClusterView) -> float | None:
        """Expected seconds of an inner round; None if none of the cohort has been seen."""
        form, known = self.form(view.model), self._capacities.known
        how = view.model, view.training.compression
        return max(
            (
                known[one.device_id].completion_s(
                    one.depth, download_bytes(form, one, *how), upload_bytes(form, one, *how)
                )
                for one in cohort
                if one.device_id in known
            ),
            default=None,
        )


def trial_length_s(trial_s: float, depth: int) -> float:
    """``T_t = T (4 depth + 1)`` (sourced: the authors' code)."""
    return trial_s * (4 * depth + 1)


def rounds_within(length_s: float, round_s: Sequence[float | None], most: int) -> list[int]:
    """``floor(T_t / (comm + comp))`` of each cohort (sourced), at least 1; in proportion where one is above ``most``.

    A cohort of which nothing is known has one round.
    """
    counts = [max(1, int(length_s / each)) if each else 1 for each in round_s]
    longest = max(counts)
    return counts if longest <= most else [max(1, count * most // longest) for count in counts]


def mean_loss(updates: Sequence[Update]) -> float | None:
    """The devices' training losses, weighted by their numbers of examples; None where none is reported."""
    seen = [(one.n_examples, one.metrics["train_loss"]) for one in updates if "train_loss" in one.metrics]
    return sum(n * loss for n, loss in seen) / sum(n for n, _ in seen) if seen else None


def winner(trials: Sequence[Trial], present: Trial) -> int:
    """The place of the trial with the lowest loss; of equal ones the ``present`` setting, then wider, then deeper."""

    def rank(place: int) -> tuple[float, bool, bool]:
        trial = trials[place]
        loss = float("inf") if trial.loss is None else trial.loss
        changed = (trial.depth, trial.width) != (present.depth, present.width)
        return loss, changed, trial.depth > present.depth

    return min(range(len(trials)), key=rank)
