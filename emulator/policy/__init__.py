"""What a policy is made of: the contract, and all that a file of one's own needs, to be imported from here alone."""

from emulator.algorithms.aggregation import weighted_coordinate_mean
from emulator.forms.base import AdapterForm
from emulator.forms.lora import LoraAssignment, LoraForm, lora_plan
from emulator.policy.base import Policy
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
    "ClusterView",
    "DeviceReport",
    "Group",
    "LoraAssignment",
    "LoraForm",
    "ModelSpec",
    "Policy",
    "RoundPlan",
    "RoundReport",
    "Status",
    "Update",
    "lora_plan",
    "weighted_coordinate_mean",
]
