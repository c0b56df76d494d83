"""SD-LoRA: phase by phase the adapters become frozen directions, of which only the magnitudes are trained on.

System
    SD-LoRA: Wu et al., "SD-LoRA: Scalable Decoupled Low-Rank Adaptation for Class Incremental Learning", ICLR 2025,
    arXiv 2501.13198. Seen in the authors' code; it is for one machine and a sequence of tasks.

Idea
    What is learnt in one task is kept from being overwritten in the next by freezing the direction of its adapter and
    training only how much it counts, beside a new adapter. In a federation a task is a phase of rounds: within it all
    devices train adapters and magnitudes as in FedLoRA, and at its end the server freezes the mean for all.

Mapping
    A_i B_i over their norms -> ``frozen_A``, ``frozen_B`` of :class:`emulator.forms.decoupled_lora.DecoupledLoraForm`;
    the magnitudes alpha_i -> ``frozen_magnitude`` and ``lora_magnitude``; a task -> ``phase_rounds`` rounds; freezing
    -> ``DecoupledLoraForm.frozen``; alpha = 0.8 at the start -> ``first_magnitude``.

Deviations
    1. The federation is our own: A, B and the magnitudes are averaged by numbers of examples. A direction that is
       frozen travels to each device once, A, B and the magnitudes in every round.
    2. A phase ends after ``phase_rounds`` rounds, whatever the data: runs here have no tasks that follow one another.
       With one phase alone it is FedLoRA with a learnt magnitude on each matrix, and evaluation is on all labels.
    3. A direction's magnitude is at first what its adapter's size was, so that the model does not change as a phase
       ends; theirs start each task at 0.8, which ``restarts_magnitudes`` asks for.
    4. After ``n_phases`` phases the last one goes on.
    5. Rank is equal in all phases; SD-LoRA-RR and -KD, which save parameters in later tasks, are left out. The
       optimizer is the run's, theirs SGD. Memory for frozen directions is not priced.
    6. The trained part of the head travels with the adapters.

Defaults
    first_magnitude = 0.8 and adapters on query and value: the authors' code. rank = 8: that of the FedLoRA baseline
    (theirs is 10). phase_rounds = 5, n_phases = 4: not stated in rounds; chosen so that a run of twenty rounds has four
    phases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from emulator.forms.base import AdapterForm
from emulator.forms.decoupled_lora import DecoupledAssignment, DecoupledLoraForm
from emulator.forms.lora import lora_assignment, uniform_ranks
from emulator.policy import Count, Policy, Positive
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Status, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class SdLora(Policy):
    """The same rank on every device; each phase's adapters become a direction whose magnitude alone is trained.

    Args:
        rank: ranks of every adapted matrix, in each phase.
        phase_rounds: rounds of a phase.
        n_phases: how many phases there are, the last without an end.
        first_magnitude: what adapters are scaled by at the start of a phase.
        restarts_magnitudes: whether those of frozen directions start each phase there, too.
    """

    rank: Count = 8
    phase_rounds: Count = 5
    n_phases: Count = 4
    first_magnitude: Positive = 0.8
    restarts_magnitudes: bool = False

    _n_frozen: int = field(default=0, init=False, repr=False)
    _last_round: int = field(default=0, init=False, repr=False)  # of the phase
    _closes: bool = field(default=False, init=False, repr=False)  # whether the round that is planned ends the phase
    _has_frozen: bool = field(default=False, init=False, repr=False)
    _draw_seed: int = field(default=0, init=False, repr=False)
    _held: dict[int, int] = field(default_factory=dict, init=False, repr=False)  # directions, by device

    def __post_init__(self) -> None:
        self._last_round = self.phase_rounds - 1

    def form(self, model: ModelSpec) -> DecoupledLoraForm:
        return DecoupledLoraForm(
            ranks=uniform_ranks(model, self.rank, None),
            scaling=1.0,
            most_frozen=max(1, self.n_phases - 1),
            first_magnitude=self.first_magnitude,
        )

    def plan(self, view: ClusterView) -> RoundPlan:
        self._closes = view.round_index >= self._last_round and self._n_frozen + 1 < self.n_phases
        self._draw_seed = int(view.rng.integers(2**62))
        n_layers, assignments = view.model.n_layers, {}
        for device in view.available:
            plain = lora_assignment(device, view.training, (self.rank,) * n_layers, n_layers)
            assignments[device] = DecoupledAssignment(
                **{each.name: getattr(plain, each.name) for each in fields(plain)},
                n_frozen=self._n_frozen,
                n_lacking=self._n_frozen - self._held.get(device, 0),
            )
        return RoundPlan(assignments=assignments)

    def finish(self, form: AdapterForm, state: Arrays, mean: Arrays, updates: Sequence[Update]) -> Arrays:
        assert isinstance(form, DecoupledLoraForm)
        if not self._closes:
            return mean
        self._has_frozen = True
        return form.frozen(mean, self._n_frozen, self._draw_seed, restarts=self.restarts_magnitudes)

    def observe(self, report: RoundReport) -> None:
        for device, seen in report.devices.items():
            if seen.status is Status.OK:
                self._held[device] = self._n_frozen
        if self._has_frozen:
            self._n_frozen += 1
            self._last_round = report.round_index + self.phase_rounds
            self._has_frozen = False
