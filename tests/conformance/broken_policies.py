"""Policies that each break one rule, to prove that the conformance suite notices."""

import datetime as dt
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import ClassVar

import numpy as np

from emulator.forms.base import AdapterForm
from emulator.forms.cut_lora import CutLoraForm
from emulator.forms.lora import LoraAssignment, LoraForm, adapter_name, lora_plan
from emulator.policy import Policy
from emulator.protocols.cut import CutRounds
from emulator.records import Arrays, Assignment, ClusterView, RoundPlan, RoundReport, Update
from emulator.shapes.spec import ModelSpec

RANK = 2


class Plain(Policy):
    """Breaks nothing; the others change one thing of it."""

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=(RANK,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        return lora_plan(view, (RANK,) * view.model.n_layers, dict.fromkeys(view.available, view.model.n_layers))

    def changed(self, view: ClusterView, **changes: object) -> RoundPlan:
        plan = Plain.plan(self, view)
        return RoundPlan(
            assignments={number: replace(found, **changes) for number, found in plan.assignments.items()}  # type: ignore[arg-type]
        )


class CutsInWholeRounds(Plain):
    """Its devices would be priced for the bottom alone, and train the whole model."""

    def form(self, model: ModelSpec) -> LoraForm:
        return CutLoraForm(ranks=(RANK,) * model.n_layers, cut=1)


class DoesNotCut(Plain):
    protocol = CutRounds(merges=False)
    task = protocol.task


class TrainsCopies(CutsInWholeRounds):
    protocol = CutRounds(merges=True)
    task = CutRounds(merges=False).task


class HasNoTask(Plain):
    task = "emulator.learning.tasks.locally:train_adapter"


class PlansForEverybody(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        return super().plan(replace(view, available=tuple(range(view.n_devices))))


class KeepsWhatItLearned(Plain):
    """Plans by what it has seen, and gives nothing of it to a checkpoint."""

    def __init__(self) -> None:
        self._n_seen = 0

    def plan(self, view: ClusterView) -> RoundPlan:
        return self.changed(view, n_steps=1 + self._n_seen)

    def observe(self, report: RoundReport) -> None:
        self._n_seen += 1

    def memory(self) -> Mapping[str, object]:
        return {}


class TooDeep(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        return self.changed(view, depth=view.model.n_layers + 1)


class MutableRanks(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        return self.changed(view, ranks=[RANK] * view.model.n_layers)


class OpenAssignment(LoraAssignment):
    """No dataclass of its own, and therefore not frozen."""


class NotFrozen(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        closed = super().plan(view).assignments
        names = LoraAssignment.__dataclass_fields__
        return RoundPlan(
            assignments={
                number: OpenAssignment(**{name: getattr(found, name) for name in names})
                for number, found in closed.items()
            }
        )


class OnePlanForever(Plain):
    """Hands out the same mapping each round, and edits it."""

    def __init__(self) -> None:
        self._assignments: dict[int, Assignment] = {}

    def plan(self, view: ClusterView) -> RoundPlan:
        self._assignments |= self.changed(view, learning_rate=1.0 / (1 + view.round_index)).assignments
        return RoundPlan(assignments=self._assignments)


class LocalForm(Plain):
    def form(self, model: ModelSpec) -> LoraForm:
        class Hidden(LoraForm):
            """Defined where pickle cannot find it."""

        return Hidden(ranks=(RANK,) * model.n_layers)


class Unseeded(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        return self.changed(view, learning_rate=np.random.default_rng().uniform(0.1, 1.0))


class SharedBetweenRuns(Plain):
    n_plans: ClassVar[int] = 0

    def plan(self, view: ClusterView) -> RoundPlan:
        SharedBetweenRuns.n_plans += 1
        return self.changed(view, learning_rate=1.0 / SharedBetweenRuns.n_plans)


class NeedsEvaluation(Plain):
    def observe(self, report: RoundReport) -> None:
        assert report.evaluation is not None, "no evaluation"


class KeepsItsFirstCohort(Plain):
    def __init__(self) -> None:
        self._cohort: tuple[int, ...] = ()

    def plan(self, view: ClusterView) -> RoundPlan:
        self._cohort = self._cohort or view.available
        return super().plan(replace(view, available=self._cohort))


class NeedsUploads(Plain):
    def observe(self, report: RoundReport) -> None:
        for seen in report.devices.values():
            seen.upload_s / seen.upload_bytes


class NeedsComputation(Plain):
    def observe(self, report: RoundReport) -> None:
        for seen in report.devices.values():
            if seen.download_bytes:
                seen.n_steps / seen.forward_s


class CountsAggregations(Plain):
    n_calls: ClassVar[int] = 0

    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        CountsAggregations.n_calls += 1
        return {name: array + CountsAggregations.n_calls for name, array in state.items()}


class ForgetsArrays(Plain):
    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        return dict(list(state.items())[1:])


class DividesByNothing(Plain):
    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        return {name: array * np.float32("nan") for name, array in state.items()}


class AggregatesInPlace(Plain):
    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        for array in state.values():
            array += 1
        return state


class ScalesUpdatesInPlace(Plain):
    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        for update in updates:
            for array in update.payload.values():
                array *= 0.5
        return super().aggregate(form, state, updates)


class TimesItself(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        time.monotonic()
        return super().plan(view)


class TimesItselfByAnImportedName(Plain):
    def observe(self, report: RoundReport) -> None:
        perf_counter()


class LooksAtTheCalendar(Plain):
    def aggregate(self, form: AdapterForm, state: Arrays, updates: Sequence[Update]) -> Arrays:
        dt.datetime.now()
        return super().aggregate(form, state, updates)


class UsesModuleRandom(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        return self.changed(view, learning_rate=random.uniform(0.1, 1.0))


class SeedsNumpyGlobally(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        np.random.seed(view.round_index)
        return super().plan(view)


class WritesToTheState(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        for array in view.state.values():
            array[:] = 0
        return super().plan(view)


class LastRowsForm(LoraForm):
    """Takes the last rows of ``lora_A``, but puts them back as if they were the first."""

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        taken = dict(super().project(state, assignment))
        name = adapter_name(0, "query", "lora_A")
        return {**taken, name: state[name][-len(taken[name]) :]}


class TakesTheLastRows(Plain):
    def form(self, model: ModelSpec) -> LoraForm:
        return LastRowsForm(ranks=(RANK + 1,) * model.n_layers)


class WeightsForm(LoraForm):
    """Counts numbers where bytes are asked for."""

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return super().upload_bytes(assignment, model) // 4


class CountsNumbersInsteadOfBytes(Plain):
    def form(self, model: ModelSpec) -> LoraForm:
        return WeightsForm(ranks=(RANK,) * model.n_layers)


class MadeByDevicesForm(LoraForm):
    """Says that devices make ``lora_A`` by themselves, and counts its bytes as if it travelled."""

    def is_received(self, name: str) -> bool:
        return not name.endswith(".lora_A")


class CountsWhatDevicesMake(Plain):
    def form(self, model: ModelSpec) -> LoraForm:
        return MadeByDevicesForm(ranks=(RANK,) * model.n_layers)


class LooksUpMemory(Plain):
    def plan(self, view: ClusterView) -> RoundPlan:
        view.declared[view.available[0]]["memory_bytes"]
        return super().plan(view)


@dataclass
class DeclaresTheProfile(Plain):
    declares: ClassVar[frozenset[str]] = frozenset({"profile"})
