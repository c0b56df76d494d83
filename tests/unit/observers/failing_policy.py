"""A policy that has no plan for one of its rounds."""

from dataclasses import dataclass

from emulator.policy import ClusterView, RoundPlan
from policies.fedlora import FedLora


@dataclass(kw_only=True)
class FailsAtRound(FedLora):
    """FedLoRA up to the round ``at``, for which it has no plan."""

    at: int = 0

    def plan(self, view: ClusterView) -> RoundPlan:
        if view.round_index == self.at:
            raise RuntimeError("out of ideas")
        return super().plan(view)
