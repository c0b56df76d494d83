"""Oort: any policy on a cohort of devices that are worth much to the model and are fast.

System
    Oort: Lai et al., "Oort: Efficient Federated Learning via Guided Participant Selection", OSDI 2021,
    arXiv 2010.06081. Formulas from memory.

Idea
    A device is worth the more, the larger its losses are and the more examples it has; a slow one is worth less. The
    server prefers devices of high worth, tries new ones, fewer of them as time goes on, and minds slowness less once
    the worth of its cohorts falls. What the cohort then trains is another policy's decision.

Mapping
    Util(i), the pacer, epsilon, c, alpha -> :class:`emulator.algorithms.selection.OortSelection`; K -> ``n_selected``;
    what the cohort does -> the policy ``policy`` with its ``parameters``, which is shown the chosen devices as if they
    were all that can be reached.

Deviations
    1. The mean training loss stands for the root of the mean squared loss of all samples, since only the mean is
       reported. It is never the larger of the two.
    2. New devices are drawn evenly; the paper prefers those that are known to be fast, of which a server here knows
       nothing. Devices are not excluded after many rounds (the paper's option).
    3. A device that is lost keeps what is known of it; a new one stays new.
    4. A policy with a protocol in which nobody waits chooses who shall start from now on, not who is at work.

Defaults
    exploration = 0.9, exploration_decay = 0.98, least_exploration = 0.2, slowness_penalty = 2, cutoff = 0.95: the
    paper's. preferred_percentile = 30, pacer_rounds = 20, pacer_step = 5: the authors' code (all from memory).
    n_selected = 20: not stated; a quarter of the default testbed. policy = "fedlora": the common baseline.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from emulator.algorithms.aggregation import Contribution
from emulator.algorithms.selection import OortSelection
from emulator.forms.base import AdapterForm
from emulator.policy import Between, Count, Fraction, NotNegative, Policy, Positive
from emulator.policy.catalog import build_policy
from emulator.records import Arrays, ClusterView, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class Oort(Policy):
    """Another policy, on the devices that Oort chooses.

    Args:
        policy: name or import path of the policy that decides all but the cohort.
        parameters: its own parameters; its defaults where they are not given.
        n_selected: devices of a cohort, K.
        exploration: share of a cohort that is new at first, epsilon.
        exploration_decay: what that share is multiplied by from round to round.
        least_exploration: it never falls below this.
        slowness_penalty: exponent of the penalty on slow devices, alpha.
        preferred_percentile: percentile of the known durations beyond which a device is slow.
        pacer_rounds: rounds of a window of the pacer, W.
        pacer_step: percentiles by which the pacer minds slowness less.
        cutoff: share of the utility at the cohort's border down to which devices are drawn, c.
    """

    policy: str = "fedlora"
    parameters: dict[str, Any] | None = None
    n_selected: Count = 20
    exploration: Fraction = 0.9
    exploration_decay: Fraction = 0.98
    least_exploration: Fraction = 0.2
    slowness_penalty: NotNegative = 2.0
    preferred_percentile: Annotated[float, Between(0, 100)] = 30.0
    pacer_rounds: Count = 20
    pacer_step: Positive = 5.0
    cutoff: Fraction = 0.95

    _inner: Policy = field(init=False, repr=False, compare=False)
    _selection: OortSelection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._inner = build_policy(self.policy, self.parameters or {})
        if isinstance(self._inner, Oort):
            raise ValueError("policy must be another than oort itself")
        self._selection = OortSelection(
            exploration=self.exploration,
            exploration_decay=self.exploration_decay,
            least_exploration=self.least_exploration,
            slowness_penalty=self.slowness_penalty,
            preferred_percentile=self.preferred_percentile,
            pacer_rounds=self.pacer_rounds,
            pacer_step=self.pacer_step,
            cutoff=self.cutoff,
        )
        inner = self._inner
        vars(self).update(declares=inner.declares, families=inner.families, protocol=inner.protocol, task=inner.task)

    def form(self, model: ModelSpec) -> AdapterForm:
        return self._inner.form(model)

    def plan(self, view: ClusterView) -> RoundPlan:
        chosen = self._selection.choose(view.available, self.n_selected, view.round_index, view.rng)
        return self._inner.plan(replace(view, available=tuple(chosen)))

    def observe(self, report: RoundReport) -> None:
        self._selection.observe(report)
        self._inner.observe(report)

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        return self._inner.aggregate(form, state, updates)

    def carried_by(self, device_id: int) -> Arrays:
        return self._inner.carried_by(device_id)

    def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
        return self._inner.aggregate_groups(state, groups)

    def memory(self) -> Mapping[str, object]:
        return {"selection": self._selection, "inner": dict(self._inner.memory())}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._selection = memory["selection"]
        self._inner.recall(memory["inner"])
