"""Checks what a policy decides: an impossible plan is never half played, a broken server state never handed on."""

import math
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

from emulator.errors import AggregationError, PlanError
from emulator.forms.base import AdapterForm
from emulator.records import Arrays, Assignment, ClusterView, Group, RoundPlan


def validated(plan: RoundPlan, view: ClusterView, form: AdapterForm, policy_name: str) -> RoundPlan:
    """``plan``, with its assignments in the order of device ids.

    Raises:
        PlanError: it names an unavailable device, has impossible settings, or its groups do not divide the cohort.
    """
    where = f"{policy_name}, round {view.round_index}"
    if not isinstance(plan, RoundPlan):
        raise PlanError(f"{where}: plan() must return a RoundPlan, got {plan!r}")
    if not plan.assignments and view.available:
        raise PlanError(f"{where}: the plan has no assignment, although {len(view.available)} devices are available")
    available = set(view.available)
    for device_id, assignment in plan.assignments.items():
        try:
            _check_assignment(device_id, assignment, available, view.n_devices)
            form.check(assignment, view.model)
        except ValueError as error:
            raise PlanError(f"{where}, device {device_id!r}: {error}") from None
    _check_groups(plan, where)
    _check_end(plan, where)
    return replace(plan, assignments=dict(sorted(plan.assignments.items())))


def _check_assignment(device_id: int, assignment: Assignment, available: set[int], n_devices: int) -> None:
    if device_id not in available:
        if not (isinstance(device_id, Integral) and 0 <= device_id < n_devices):
            raise ValueError(f"does not exist; devices are numbered from 0 to {n_devices - 1}")
        raise ValueError(f"is not available; {len(available)} of {n_devices} devices are (view.available lists them)")
    if not isinstance(assignment, Assignment):
        raise ValueError(f"must be given an Assignment, got {assignment!r}")
    if assignment.device_id != device_id:
        raise ValueError(f"its assignment is for another device, got device_id {assignment.device_id!r}")
    for name in ("n_steps", "batch_size"):
        value = getattr(assignment, name)
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    rate = assignment.learning_rate
    if not (isinstance(rate, Real) and math.isfinite(rate) and rate > 0):
        raise ValueError(f"learning_rate must be a positive number, got {rate!r}")


def _check_groups(plan: RoundPlan, where: str) -> None:
    if not plan.groups:
        return
    for number, group in enumerate(plan.groups):
        if not isinstance(group, Group):
            raise PlanError(f"{where}: group {number} must be a Group, got {group!r}")
        if not group.members:
            raise PlanError(f"{where}: group {number} has no members")
        if not isinstance(group.inner_rounds, Integral) or group.inner_rounds < 1:
            raise PlanError(f"{where}: group {number} must have at least 1 inner round, got {group.inner_rounds!r}")
    members = [device_id for group in plan.groups for device_id in group.members]
    twice = sorted({device_id for device_id in members if members.count(device_id) > 1})
    if twice:
        raise PlanError(f"{where}, device {twice[0]}: is in more than one group")
    if strangers := sorted(set(members) ^ set(plan.assignments)):
        problem = (
            "has an assignment but no group" if strangers[0] in plan.assignments else "has a group but no assignment"
        )
        raise PlanError(f"{where}, device {strangers[0]}: {problem}")


def _check_end(plan: RoundPlan, where: str) -> None:
    deadline_s, n_wanted = plan.deadline_s, plan.n_wanted
    if deadline_s is not None and not (isinstance(deadline_s, Real) and math.isfinite(deadline_s) and deadline_s > 0):
        raise PlanError(f"{where}: deadline_s must be a positive number of seconds or None, got {deadline_s!r}")
    if n_wanted is None:
        return
    n_devices = len(plan.assignments)
    if not (isinstance(n_wanted, Integral) and 1 <= n_wanted <= n_devices):
        raise PlanError(
            f"{where}: n_wanted must be a whole number from 1 to the cohort's {n_devices} devices, or None,"
            f" got {n_wanted!r}"
        )
    if plan.groups:
        raise PlanError(f"{where}: n_wanted is for flat rounds, without groups, got {n_wanted!r}")


def aggregated(before: Arrays, after: Arrays, where: str) -> Arrays:
    """``after``, what a policy made of the server state ``before``, if it can be handed on.

    Raises:
        AggregationError: an array is missing, new, of another shape, or holds a number that is not finite.
    """
    if missing := sorted(set(before) - set(after)):
        raise AggregationError(f"{where}: aggregation dropped {missing[0]!r}; it must return all arrays of the state")
    if unknown := sorted(set(after) - set(before)):
        raise AggregationError(f"{where}: aggregation returned {unknown[0]!r}, which the state does not have")
    for name, array in after.items():
        if np.shape(array) != before[name].shape:
            raise AggregationError(
                f"{where}: aggregation gave {name!r} the shape {np.shape(array)}, in the state it is "
                f"{before[name].shape}"
            )
        if not np.isfinite(array).all():
            raise AggregationError(
                f"{where}: {name!r} holds numbers that are not finite after aggregation; if the policy does no such "
                "thing, training diverged: lower training.learning_rate"
            )
    return after
