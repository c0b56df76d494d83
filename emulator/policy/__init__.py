"""What a policy is made of: the contract, and all that a file of one's own needs, to be imported from here alone."""

from emulator.algorithms.aggregation import Contribution, contributions, weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraAssignment, LoraForm, lora_plan
from emulator.policy.base import Policy
from emulator.policy.parameters import (
    Between,
    Count,
    CountOrZero,
    Fraction,
    FractionAboveZero,
    FractionBelowOne,
    Nonempty,
    NotNegative,
    Positive,
)
from emulator.protocols.buffered import BufferedAsync
from emulator.protocols.grouped import GroupedRounds
from emulator.records import (
    Arrays,
    Assignment,
    ClusterView,
    DeviceReport,
    Group,
    RoundPlan,
    RoundReport,
    Status,
    Update,
)
from emulator.shapes.spec import ModelSpec

__all__ = [
    "AdapterForm",
    "Arrays",
    "Assignment",
    "Between",
    "BufferedAsync",
    "ClusterView",
    "Contribution",
    "Count",
    "CountOrZero",
    "DeviceReport",
    "Fraction",
    "FractionAboveZero",
    "FractionBelowOne",
    "Group",
    "GroupedRounds",
    "LoraAssignment",
    "LoraForm",
    "ModelSpec",
    "Nonempty",
    "NotNegative",
    "Policy",
    "Positive",
    "RoundPlan",
    "RoundReport",
    "Status",
    "Update",
    "contributions",
    "lora_plan",
    "weighted_coordinate_mean",
]
