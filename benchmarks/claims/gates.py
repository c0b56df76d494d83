"""What is expected of each system, fixed before any run was made: the paper's figure, and what a run must show of it.

``must`` is a bound that a faithful implementation should meet on an emulated testbed; ``paper`` is what the abstract
says. The bounds are this project's judgement, not the papers'. A miss is a result, and is shown as one.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """A comparison of two groups of a sweep.

    Attributes:
        key: how the gate is cited.
        system: the sweep file it belongs to.
        what: what is compared, in words.
        group: the group that is looked at, and
        baseline: the one that it is compared with.
        metric: a metric of ``docs/metrics.md``. The target is the best accuracy that all finished runs of the sweep
            reach; the budget of ``accuracy_in_time`` is on each seed the shorter of the times that the two groups take.
        kind: ``ratio`` of group over baseline, ``speed_up`` of baseline over group, or ``difference`` in points (times
            100).
        at_least: the bound from below, or
        at_most: from above.
        paper: the paper's own figure.
    """

    key: str
    system: str
    what: str
    group: str
    baseline: str
    metric: str
    kind: Literal["ratio", "speed_up", "difference"]
    at_least: float | None = None
    at_most: float | None = None
    paper: str


GATES = (
    Gate(
        key="L1",
        system="legend",
        what="time to target",
        group="legend",
        baseline="fedlora",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.1,
        paper="1.5 to 2.8",
    ),
    Gate(
        key="L1, tuned layers only",
        system="legend",
        what="time to target",
        group="legend(downlink=tuned)",
        baseline="fedlora",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.1,
        paper="1.5 to 2.8",
    ),
    Gate(
        key="L2",
        system="legend",
        what="mean waiting",
        group="legend",
        baseline="fedlora",
        metric="mean_waiting_s",
        kind="ratio",
        at_most=0.6,
        paper="–",
    ),
    Gate(
        key="L3",
        system="legend",
        what="bytes to target",
        group="legend",
        baseline="fedlora",
        metric="total_to_target_bytes",
        kind="ratio",
        at_most=1.0,
        paper="0.577",
    ),
    Gate(
        key="Q3",
        system="fedquad",
        what="time to target, over one depth that all can hold",
        group="fedquad",
        baseline="uniform_depth",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.2,
        paper="1.4 to 5.3",
    ),
    Gate(
        key="H2",
        system="hierfedlora",
        what="best accuracy, points",
        group="hierfedlora",
        baseline="fedlora",
        metric="best_accuracy",
        kind="difference",
        at_least=0.5,
        paper="1.6 to 4.2",
    ),
    Gate(
        key="H2, random groups",
        system="hierfedlora",
        what="best accuracy, points",
        group="hierfedlora",
        baseline="hierfedlora(grouping=random)",
        metric="best_accuracy",
        kind="difference",
        at_least=0.0,
        paper="–",
    ),
    Gate(
        key="H3",
        system="hierfedlora",
        what="time to target",
        group="hierfedlora",
        baseline="fedlora",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.3,
        paper="at least 2.1",
    ),
    Gate(
        key="S1",
        system="fedspine",
        what="time to target, over unpruned HetLoRA",
        group="fedspine",
        baseline="hetlora",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.2,
        paper="1.4 to 6.9",
    ),
    Gate(
        key="S2",
        system="fedspine",
        what="final accuracy at equal sparsity, points, over pruning at once",
        group="fedspine",
        baseline="fedspine(schedule=one_shot,importance=magnitude)",
        metric="final_accuracy",
        kind="difference",
        at_least=0.0,
        paper="0.4 to 4.5",
    ),
    Gate(
        key="S4, one shot",
        system="fedspine",
        what="time to target at equal sparsity, over pruning at once by magnitude",
        group="fedspine",
        baseline="oneshot_pruning",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.4,
        paper="1.4 to 6.9",
    ),
    Gate(
        key="S4, magnitude schedule",
        system="fedspine",
        what="time to target at equal sparsity, over pruning by magnitude bit by bit",
        group="fedspine",
        baseline="magnitude_pruning",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.4,
        paper="1.4 to 6.9",
    ),
    Gate(
        key="S4, uniform schedule",
        system="fedspine",
        what="time to target at equal sparsity, over its own importance at one pace for all",
        group="fedspine",
        baseline="uniform_pruning",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.4,
        paper="1.4 to 6.9",
    ),
    Gate(
        key="S4, Taylor",
        system="fedspine",
        what="time to target at equal sparsity, over pruning at once by gradient and weight",
        group="fedspine",
        baseline="taylor_pruning",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.4,
        paper="1.4 to 6.9",
    ),
    Gate(
        key="S5, one shot",
        system="fedspine",
        what="final accuracy at equal sparsity, points, over pruning at once by magnitude",
        group="fedspine",
        baseline="oneshot_pruning",
        metric="final_accuracy",
        kind="difference",
        at_least=0.4,
        paper="0.4 to 4.5",
    ),
    Gate(
        key="S5, magnitude schedule",
        system="fedspine",
        what="final accuracy at equal sparsity, points, over pruning by magnitude bit by bit",
        group="fedspine",
        baseline="magnitude_pruning",
        metric="final_accuracy",
        kind="difference",
        at_least=0.4,
        paper="0.4 to 4.5",
    ),
    Gate(
        key="S5, uniform schedule",
        system="fedspine",
        what="final accuracy at equal sparsity, points, over its own importance at one pace for all",
        group="fedspine",
        baseline="uniform_pruning",
        metric="final_accuracy",
        kind="difference",
        at_least=0.4,
        paper="0.4 to 4.5",
    ),
    Gate(
        key="S5, Taylor",
        system="fedspine",
        what="final accuracy at equal sparsity, points, over pruning at once by gradient and weight",
        group="fedspine",
        baseline="taylor_pruning",
        metric="final_accuracy",
        kind="difference",
        at_least=0.4,
        paper="0.4 to 4.5",
    ),
    Gate(
        key="M1",
        system="mergesfl",
        what="idle fraction",
        group="mergesfl",
        baseline="splitfed",
        metric="idle_fraction",
        kind="ratio",
        at_most=0.8,
        paper="–",
    ),
    Gate(
        key="M2",
        system="mergesfl",
        what="best accuracy, points",
        group="mergesfl",
        baseline="splitfed",
        metric="best_accuracy",
        kind="difference",
        at_least=3.0,
        paper="5.82 to 26.22",
    ),
    Gate(
        key="M3",
        system="mergesfl",
        what="time to target",
        group="mergesfl",
        baseline="splitfed",
        metric="time_to_target_s",
        kind="speed_up",
        at_least=1.2,
        paper="1.39 to 4.14",
    ),
    Gate(
        key="A1",
        system="fedara",
        what="bytes to target, over LoRA of its first rank",
        group="fedara",
        baseline="fedlora(rank=12)",
        metric="total_to_target_bytes",
        kind="ratio",
        at_most=0.6,
        paper="0.417",
    ),
    Gate(
        key="A1, energy",
        system="fedara",
        what="energy to target, over LoRA of its first rank",
        group="fedara",
        baseline="fedlora(rank=12)",
        metric="energy_to_target_j",
        kind="ratio",
        at_most=1.0,
        paper="down to 0.531",
    ),
    Gate(
        key="A2",
        system="fedara",
        what="accuracy in equal time, points",
        group="fedara",
        baseline="fedlora",
        metric="accuracy_in_time",
        kind="difference",
        at_least=0.0,
        paper="6.95 to 8.49",
    ),
    Gate(
        key="A3",
        system="fedara",
        what="energy of equal rounds, over LoRA of its first rank",
        group="fedara",
        baseline="fedlora(rank=12)",
        metric="energy_j",
        kind="ratio",
        at_most=0.8,
        paper="down to 0.531",
    ),
    Gate(
        key="H4, alpha 0.1",
        system="hierfedlora",
        what="final accuracy, points",
        group="hierfedlora",
        baseline="fedlora",
        metric="final_accuracy",
        kind="difference",
        at_least=1.6,
        paper="1.6 to 4.2",
    ),
    Gate(
        key="H4, alpha 0.5",
        system="hierfedlora-mild",
        what="final accuracy, points",
        group="hierfedlora",
        baseline="fedlora",
        metric="final_accuracy",
        kind="difference",
        at_least=1.6,
        paper="1.6 to 4.2",
    ),
)
