"""Checks what a policy decides: an impossible plan is never half played, a broken server state never handed on."""

import math
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from numbers import Real

import numpy as np

from emulator.errors import AggregationError, PlanError
from emulator.forms.base import AdapterForm, is_whole_number
from emulator.protocols.base import RoundProtocol
from emulator.records import Arrays, Assignment, ClusterView, Group, RoundPlan, Work
from emulator.shapes.spec import ModelSpec

MOST_STEPS = 10**6
"""The most steps, examples of a batch, and inner rounds that a plan may ask for: beyond it, a round does not end."""


def check_form(form: object, model: ModelSpec) -> None:
    """Raise ``ValueError`` with a sentence if ``form``, what a policy's ``form()`` returned, cannot serve ``model``."""
    if not isinstance(form, AdapterForm):
        raise ValueError(f"form() must return an AdapterForm, got {_shown(form)}")
    if not (model.has_like_layers or form.fits_encoder_decoders):
        raise ValueError(
            f"{model.name} is an encoder-decoder, whose layers differ, and {type(form).__name__} is for models whose"
            " layers are alike; give a policy of plain LoRA"
        )
    form.check_model(model)


def check_combination(form: AdapterForm, task: str, protocol: RoundProtocol) -> None:
    """Raise ``ValueError`` with a sentence if ``task`` is nowhere to be found, or the three do not go together.

    The module of the task is not imported, since it may need torch.
    """
    module, _, function = task.partition(":")
    try:
        is_there = bool(function) and find_spec(module) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        raise ValueError(f"task must be 'module:function' of a module that can be imported, got {task!r}")
    protocol.check(form, task)


def validated(plan: RoundPlan, view: ClusterView, form: AdapterForm, policy_name: str) -> RoundPlan:
    """``plan``, with its assignments in the order of device ids.

    Raises:
        PlanError: it names an unavailable device, has impossible settings, or its groups do not divide the cohort.
    """
    where = f"{policy_name}, round {view.round_index}"
    if not isinstance(plan, RoundPlan):
        raise PlanError(f"{where}: plan() must return a RoundPlan, got {_shown(plan)}")
    if not isinstance(plan.assignments, Mapping):
        raise PlanError(
            f"{where}: assignments must be a mapping from device id to Assignment, got {_shown(plan.assignments)}"
        )
    if not plan.assignments and view.available:
        raise PlanError(f"{where}: the plan has no assignment, although {len(view.available)} devices are available")
    available = set(view.available)
    for device_id, assignment in plan.assignments.items():
        try:
            _check_assignment(device_id, assignment, available, view.n_devices)
            form.check(assignment, view.model)
            if view.training.savers.checkpointing:
                _check_checkpointed(form.work(assignment, view.model))
        except ValueError as error:
            raise PlanError(f"{where}, device {_shown(device_id)}: {error}") from None
    _check_groups(plan, where)
    _check_end(plan, where)
    return replace(plan, assignments=dict(sorted(plan.assignments.items())))


def _check_assignment(device_id: int, assignment: Assignment, available: set[int], n_devices: int) -> None:
    if not is_whole_number(device_id) or device_id not in available:
        if not (is_whole_number(device_id) and 0 <= device_id < n_devices):
            raise ValueError(f"does not exist; devices are numbered from 0 to {n_devices - 1}")
        raise ValueError(f"is not available; {len(available)} of {n_devices} devices are (view.available lists them)")
    if not isinstance(assignment, Assignment):
        raise ValueError(f"must be given an Assignment, got {_shown(assignment)}")
    if not is_whole_number(assignment.device_id) or assignment.device_id != device_id:
        raise ValueError(f"its assignment is for another device, got device_id {_shown(assignment.device_id)}")
    for name in ("n_steps", "batch_size"):
        value = getattr(assignment, name)
        if not (is_whole_number(value) and 1 <= value <= MOST_STEPS):
            raise ValueError(f"{name} must be a whole number from 1 to {MOST_STEPS}, got {_shown(value)}")
    if not _is_positive(assignment.learning_rate):
        raise ValueError(f"learning_rate must be a positive number, got {_shown(assignment.learning_rate)}")


def _check_checkpointed(work: Work) -> None:
    if work.quantized_layers:
        raise ValueError(
            f"{work.quantized_layers} layers are to keep quantized activations, and with training.checkpointing a "
            "layer keeps none; turn one of the two off"
        )


def _check_groups(plan: RoundPlan, where: str) -> None:
    if not isinstance(plan.groups, tuple | list):
        raise PlanError(f"{where}: groups must be a tuple of Group, got {_shown(plan.groups)}")
    if not plan.groups:
        return
    for number, group in enumerate(plan.groups):
        if not isinstance(group, Group):
            raise PlanError(f"{where}: group {number} must be a Group, got {_shown(group)}")
        if not isinstance(group.members, tuple) or not all(is_whole_number(member) for member in group.members):
            raise PlanError(
                f"{where}: the members of group {number} must be a tuple of device ids, got {_shown(group.members)}"
            )
        if not group.members:
            raise PlanError(f"{where}: group {number} has no members")
        if not (is_whole_number(group.inner_rounds) and 1 <= group.inner_rounds <= MOST_STEPS):
            raise PlanError(
                f"{where}: group {number} must have from 1 to {MOST_STEPS} inner rounds,"
                f" got {_shown(group.inner_rounds)}"
            )
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
    if deadline_s is not None and not _is_positive(deadline_s):
        raise PlanError(f"{where}: deadline_s must be a positive number of seconds or None, got {_shown(deadline_s)}")
    if n_wanted is None:
        return
    n_devices = len(plan.assignments)
    if not (is_whole_number(n_wanted) and 1 <= n_wanted <= n_devices):
        raise PlanError(
            f"{where}: n_wanted must be a whole number from 1 to the cohort's {n_devices} devices, or None,"
            f" got {_shown(n_wanted)}"
        )
    if plan.groups:
        raise PlanError(f"{where}: n_wanted is for flat rounds, without groups, got {n_wanted!r}")


def _is_positive(value: object) -> bool:
    """Whether ``value`` is a number above 0 that is still finite, and still above 0, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return 0 < float(value) < math.inf
    except OverflowError:  # an int beyond the range of floats
        return False


def _shown(value: object) -> str:
    """``value`` for a message: on one line and cut off, whatever it is."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # Python writes out no int of thousands of digits; other objects may fail as they like
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= 200 else f"{text[:200]}…"


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
