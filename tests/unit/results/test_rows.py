"""Rows come from a closed round alone: one per device, one per activity, and one for the round."""

from dataclasses import replace

import numpy as np

from emulator.records import Group, RoundPlan, Status
from emulator.results.rows import activity_columns, device_columns, round_columns
from emulator.testing.small_testbed import small_testbed
from emulator.testing.small_world import tiny_model
from emulator.world.open_round import OpenRound
from policies.fedlora import FedLora


def closed_round(groups: tuple[Group, ...] = ()) -> OpenRound:
    """A round of four devices that was planned for the first three, of which device 1 then drops out."""
    small = small_testbed(FedLora(rank=2), n_devices=4, trouble=lambda round_index: {1: Status.DROPPED})
    view = small.view()
    plan = small.policy.plan(view)
    cohort = {device: plan.assignments[device] for device in (0, 1, 2)}
    opened = small.testbed.round
    small.testbed.ask(RoundPlan(assignments=cohort, groups=groups))
    protocol = small.checked.protocol
    small.testbed.clock.run(protocol.run_round(small.testbed, small.checked, opened.plan, small.state))
    small.testbed.close_round()
    return opened


def test_there_is_a_row_for_every_device() -> None:
    columns = device_columns(closed_round())

    assert columns["device_id"].tolist() == [0, 1, 2, 3]
    assert columns["status"] == ["ok", "dropped", "ok", "idle"]
    assert columns["profile"] == ["made-up-1", "made-up-2", "made-up-4", "made-up-1"]
    assert columns["depth"] == [tiny_model().n_layers] * 3 + [0]
    assert columns["learning_rate"] == [1e-3] * 3 + [None]
    assert columns["train_loss"] == [1.0, None, 1.0, None]


def test_what_was_asked_of_a_device_does_not_depend_on_what_became_of_it() -> None:
    small = small_testbed(FedLora(rank=2), n_devices=4)
    small.view()
    plan = small.policy.plan(small.testbed.view(small.state, frozenset()))
    opened, protocol = small.testbed.round, small.checked.protocol
    small.testbed.ask(replace(plan, deadline_s=1e-6))
    small.testbed.clock.run(protocol.run_round(small.testbed, small.checked, opened.plan, small.state))
    small.testbed.close_round()

    columns, n_layers = device_columns(opened), tiny_model().n_layers

    assert (columns["status"], columns["compute_s"]) == (["late"] * 4, [0.0] * 4)
    assert columns["depth"] == [n_layers] * 4
    assert columns["ranks"] == [(2,) * n_layers] * 4
    assert (columns["n_steps"], columns["batch_size"]) == ([2] * 4, [4] * 4)


def test_groups_are_numbered_and_who_is_in_none_has_minus_one() -> None:
    grouped = device_columns(closed_round((Group(members=(2,)), Group(members=(0, 1)))))["group"]

    assert grouped.tolist() == [1, 1, 0, -1]
    assert device_columns(closed_round())["group"].tolist() == [0, 0, 0, -1]


def test_activities_come_by_device_and_then_by_time() -> None:
    columns = activity_columns(closed_round())

    order = list(zip(columns["device_id"], columns["start_s"], strict=True))
    assert order == sorted(order)
    assert set(columns["kind"]) == {"download", "compute", "upload", "wait"}


def test_the_cohort_of_a_round_are_those_who_were_asked() -> None:
    small = small_testbed(
        FedLora(rank=2), n_devices=4, trouble=lambda index: {1: Status.DROPPED, 3: Status.UNAVAILABLE}
    )
    report = small.play_round().report

    row = round_columns(report, energy_j=12.5)

    assert (row["n_cohort"], row["n_ok"], row["n_dropped"], row["n_unavailable"]) == ([3], [2], [1], [1])
    waiting_s = [report.devices[device].waiting_s for device in (0, 1, 2)]
    assert row["mean_waiting_s"] == [np.sum(waiting_s) / 3]
    assert row["energy_j"] == [12.5]
