"""What crosses a border between policy, time plane and numeric plane: frozen records, no behaviour beyond checks."""

from emulator.records.arrays import Arrays, RemoteArrays
from emulator.records.compression import NO_COMPRESSION, PLAIN_ENCODING, Compression, Encoding, EncodingKind
from emulator.records.evaluations import Evaluation, EvaluationShard, OptionScore, Predictions
from emulator.records.jobs import Job, JobKey, Update
from emulator.records.plans import ANY_DEVICE, Assignment, Group, RoundPlan
from emulator.records.reports import ActivityKind, DeviceReport, RoundReport, Status
from emulator.records.savers import (
    MOMENT_BLOCK,
    NF4_BLOCK,
    NO_SAVERS,
    SCALE_BLOCK,
    BasePrecision,
    MemorySavers,
)
from emulator.records.training import ADAMW, LocalOptimizer, Schedule, TrainingDefaults
from emulator.records.views import ClusterView, Prepared
from emulator.records.work import (
    ACTIVATION_BITS,
    NO_ADAPTERS,
    NO_EXTRA,
    QUANTIZATION_GROUP,
    Adapter,
    Adapters,
    Extra,
    LayerAdapters,
    Work,
    WorkKind,
)

__all__ = [
    "ACTIVATION_BITS",
    "ADAMW",
    "ANY_DEVICE",
    "MOMENT_BLOCK",
    "NF4_BLOCK",
    "NO_ADAPTERS",
    "NO_COMPRESSION",
    "NO_EXTRA",
    "NO_SAVERS",
    "PLAIN_ENCODING",
    "QUANTIZATION_GROUP",
    "SCALE_BLOCK",
    "ActivityKind",
    "Adapter",
    "Adapters",
    "Arrays",
    "Assignment",
    "BasePrecision",
    "ClusterView",
    "Compression",
    "DeviceReport",
    "Encoding",
    "EncodingKind",
    "Evaluation",
    "EvaluationShard",
    "Extra",
    "Group",
    "Job",
    "JobKey",
    "LayerAdapters",
    "LocalOptimizer",
    "MemorySavers",
    "OptionScore",
    "Predictions",
    "Prepared",
    "RemoteArrays",
    "RoundPlan",
    "RoundReport",
    "Schedule",
    "Status",
    "TrainingDefaults",
    "Update",
    "Work",
    "WorkKind",
]
