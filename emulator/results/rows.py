"""The rows that a closed round adds to the tables ``rounds``, ``devices`` and ``activities``, as columns.

Only what must be computed is named here. Every other column of a schema is the attribute of the same name of what the
table has a row of, so that a column that a ledger or report has needs no mention.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from emulator.records import Evaluation, RoundPlan, RoundReport, Status
from emulator.results.arrow_tables import Columns
from emulator.results.schemas import SCHEMAS
from emulator.world.open_round import OpenRound

_EVALUATED = frozenset(field.name for field in fields(Evaluation))


def device_columns(closed: OpenRound) -> Columns:
    """One row per device, reachable or not, in the order of device ids."""
    devices, conditions, ledgers, plan = closed.devices, closed.conditions, closed.ledgers, closed.plan
    n_devices = len(devices)
    works = [ledger.work for ledger in ledgers]
    assignments = [plan.assignments.get(device_id) for device_id in range(n_devices)]
    computed: dict[str, Any] = {
        "round_index": np.full(n_devices, closed.round_index, np.int32),
        "device_id": np.arange(n_devices, dtype=np.int32),
        "profile": [device.profile.name for device in devices],
        "power_mode": [mode.name for mode in conditions.modes],
        "status": [ledger.status.value for ledger in ledgers],
        "group": _group_numbers(plan, n_devices),
        "depth": [work.backward_layers if work else 0 for work in works],
        "quantized_layers": [work.quantized_layers if work else 0 for work in works],
        "ranks": [work.adapters.ranks if work else () for work in works],
        "n_steps": [work.n_steps if work else 0 for work in works],
        "batch_size": [work.batch_size if work else 0 for work in works],
        "learning_rate": [assignment.learning_rate if assignment else None for assignment in assignments],
        "start_s": np.full(n_devices, closed.start_s),
        "compute_s": [ledger.forward_s + ledger.backward_s for ledger in ledgers],
        "downlink_bytes_per_s": conditions.rates.down_bytes_per_s,
        "uplink_bytes_per_s": conditions.rates.up_bytes_per_s,
        "memory_limit_bytes": [device.profile.memory_limit_bytes for device in devices],
        "train_loss": [ledger.metrics.get("train_loss") for ledger in ledgers],
        "metrics": [_other_metrics(ledger.metrics) for ledger in ledgers],
        **dict.fromkeys(("own_score", "own_loss"), [None] * n_devices),
    }
    return _completed("devices", computed, lambda name: [getattr(ledger, name) for ledger in ledgers])


def with_own_rows(devices: Columns, evaluation: Evaluation | None) -> Columns:
    """The columns of a round's ``devices`` with what each has on the rows that it holds out of its own."""
    if evaluation is None:
        return devices
    ids = range(len(devices["device_id"]))
    own = {"own_score": evaluation.own_scores, "own_loss": evaluation.own_losses}
    return {**devices, **{name: [values.get(device) for device in ids] for name, values in own.items()}}


def activity_columns(closed: OpenRound) -> Columns:
    """One row per activity, by device and then by time."""
    log = closed.activities
    order = np.lexsort((log.start_s, log.device_id))
    computed: dict[str, Any] = {
        "round_index": np.full(len(order), closed.round_index, np.int32),
        "kind": [log.kind[i] for i in order],
    }
    return _completed("activities", computed, lambda name: np.asarray(getattr(log, name))[order])


def _completed(table: str, computed: Mapping[str, Any], copied: Callable[[str], Any]) -> Columns:
    """All columns of ``table``: those that are ``computed``, and the others as ``copied`` finds them by name."""
    return {**computed} | {name: copied(name) for name in SCHEMAS[table].names if name not in computed}


def _group_numbers(plan: RoundPlan, n_devices: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    numbers = np.full(n_devices, -1, np.int32)
    if not plan.groups:
        numbers[list(plan.assignments)] = 0
    for number, group in enumerate(plan.groups):
        numbers[list(group.members)] = number
    return numbers


def _other_metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    return {name: value for name, value in metrics.items() if name != "train_loss"}


def round_columns(report: RoundReport, energy_j: float) -> dict[str, list[Any]]:
    """The row that a closed round adds to the table ``rounds``.

    ``n_<status>`` counts devices. What neither the report nor its evaluation has is the sum over its devices.
    """
    devices = report.devices.values()
    # Not the keys of the plan: a device may still be busy with what an earlier round asked it for.
    cohort = [device for device in devices if device.status.is_in_cohort]
    losses = [device.metrics["train_loss"] for device in devices if "train_loss" in device.metrics]
    counts = {f"n_{status.value}": sum(device.status is status for device in devices) for status in Status}
    computed: dict[str, Any] = {
        "n_cohort": len(cohort),
        "mean_waiting_s": sum(device.waiting_s for device in cohort) / len(cohort) if cohort else None,
        "energy_j": energy_j,
        "train_loss": sum(losses) / len(losses) if losses else None,
    }

    def copied(name: str) -> Any:
        if name in counts:
            return counts[name]
        if name in _EVALUATED:
            return getattr(report.evaluation, name, None)
        return getattr(report, name) if hasattr(report, name) else sum(getattr(device, name) for device in devices)

    return {name: [value] for name, value in _completed("rounds", computed, copied).items()}
