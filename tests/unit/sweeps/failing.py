"""Policies that cannot plan."""

from dataclasses import dataclass

from emulator.forms.lora import LoraForm
from emulator.policy import Policy
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec


@dataclass(kw_only=True)
class Failing(Policy):
    """Has a form, so that only running it finds out."""

    def form(self, model: ModelSpec) -> LoraForm:
        return LoraForm(ranks=(4,) * model.n_layers)

    def plan(self, view: ClusterView) -> RoundPlan:
        raise ZeroDivisionError("nobody knows why")


@dataclass(kw_only=True)
class Leaving(Failing):
    """Ends the process, as a script would."""

    def plan(self, view: ClusterView) -> RoundPlan:
        raise SystemExit(3)


@dataclass(kw_only=True)
class Formless(Failing):
    """Ends the process before there is a run."""

    def form(self, model: ModelSpec) -> LoraForm:
        raise SystemExit(4)
