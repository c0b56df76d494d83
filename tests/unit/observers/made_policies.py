"""FedLoRA with groups, and FedLoRA that fails."""

from dataclasses import dataclass, replace

from emulator.policy import ClusterView, Group, RoundPlan
from policies.fedlora import FedLora


class TwoGroups(FedLora):
    """Devices with even and with odd numbers, each among themselves."""

    def plan(self, view: ClusterView) -> RoundPlan:
        plan = super().plan(view)
        halves = [tuple(device for device in plan.assignments if device % 2 == rest) for rest in (0, 1)]
        return replace(plan, groups=tuple(Group(members=members) for members in halves))


@dataclass(kw_only=True)
class FailsAtRound(FedLora):
    """FedLoRA up to the round ``at``, for which it has no plan."""

    at: int = 0

    def plan(self, view: ClusterView) -> RoundPlan:
        if view.round_index == self.at:
            raise RuntimeError("out of ideas")
        return super().plan(view)
