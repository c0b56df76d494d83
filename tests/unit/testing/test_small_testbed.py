"""The small testbed plays rounds as a run does, and loses devices as it is told."""

from dataclasses import dataclass

import pytest

from emulator.errors import PlanError
from emulator.records import ClusterView, RoundPlan, Status
from emulator.testing import small_testbed, tiny_model
from emulator.testing.compare import same
from emulator.testing.trouble import AWAY_S
from policies.fedlora import FedLora


def test_it_plays_the_same_rounds_every_time_and_others_with_another_seed() -> None:
    first, again, other = (small_testbed(FedLora(), seed=seed).play(2) for seed in (0, 0, 1))

    assert [played.report for played in first] == [played.report for played in again]
    assert same(first[1].after, again[1].after)
    assert not same(first[1].after, other[1].after)
    assert first[1].report.end_s != other[1].report.end_s


def test_rounds_hang_together() -> None:
    first, second = small_testbed(FedLora()).play(2)

    assert same(first.after, second.before)
    assert second.view.state is second.before
    assert (first.view.round_index, second.view.round_index) == (0, 1)


@pytest.mark.parametrize("status", [Status.DROPPED, Status.OUT_OF_MEMORY, Status.UNAVAILABLE])
def test_a_device_in_trouble_is_reported_as_lost_and_sends_nothing(status: Status) -> None:
    [played] = small_testbed(FedLora(), n_devices=4, trouble=lambda round_index: {1: status, 3: status}).play(1)

    assert [seen.status for seen in played.report.devices.values()] == [Status.OK, status, Status.OK, status]
    assert [update.device_id for update in played.updates] == [0, 2]
    assert played.report.devices[1].upload_bytes == 0


def test_a_dropped_device_has_computed_and_one_out_of_memory_has_not() -> None:
    lost = {0: Status.DROPPED, 1: Status.OUT_OF_MEMORY}
    [played] = small_testbed(FedLora(), trouble=lambda round_index: lost).play(1)

    assert played.report.devices[0].compute_s > 0
    assert played.report.devices[1].compute_s == 0
    assert played.report.devices[1].download_bytes > 0


def test_an_unavailable_device_is_not_in_the_view_and_waits_out_the_round() -> None:
    [played] = small_testbed(FedLora(), n_devices=3, trouble=lambda round_index: {1: Status.UNAVAILABLE}).play(1)

    assert played.view.available == (0, 2)
    assert played.report.devices[1].waiting_s == played.report.end_s


def test_a_round_without_anybody_begins_when_they_come_back() -> None:
    away = dict.fromkeys(range(3), Status.UNAVAILABLE)
    first, second = small_testbed(FedLora(), n_devices=3, trouble=lambda number: away if number else {}).play(2)

    assert second.view.available == (0, 1, 2)
    assert (second.report.start_s, second.view.now_s) == (first.report.end_s, first.report.end_s + AWAY_S)
    assert {seen.status for seen in second.report.devices.values()} == {Status.OK}


def test_trouble_that_no_device_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dropped or out_of_memory, got <Status\.IDLE"):
        small_testbed(FedLora(), trouble=lambda round_index: {0: Status.IDLE}).view()


@pytest.mark.parametrize("status", list(Status)[1:3])
def test_times_add_up_for_lost_devices_too(status: Status) -> None:
    for played in small_testbed(FedLora(), trouble=lambda round_index: {round_index: status}).play(3):
        for seen in played.report.devices.values():
            total_s = seen.download_s + seen.compute_s + seen.upload_s + seen.waiting_s
            assert total_s == pytest.approx(played.report.end_s - played.report.start_s, abs=1e-9)


def test_without_training_there_is_neither_state_nor_metric_nor_evaluation() -> None:
    [played] = small_testbed(FedLora(), trains=False).play(1)

    assert (played.after, played.updates, played.report.evaluation) == ({}, (), None)
    assert all(seen.metrics == {} for seen in played.report.devices.values())


def test_time_does_not_depend_on_training() -> None:
    trained, untrained = (small_testbed(FedLora(), trains=trains).play(2) for trains in (True, False))

    assert [played.report.end_s for played in trained] == [played.report.end_s for played in untrained]


@dataclass(kw_only=True)
class Stranger(FedLora):
    def plan(self, view: ClusterView) -> RoundPlan:
        plan = super().plan(view)
        return RoundPlan(assignments={**plan.assignments, 99: plan.assignments[0]})


def test_an_impossible_plan_is_refused_as_in_a_run() -> None:
    with pytest.raises(PlanError, match="Stranger, round 0, device 99: does not exist"):
        small_testbed(Stranger()).play(1)


def test_the_tiny_model_has_the_layers_that_are_asked_for() -> None:
    assert (tiny_model().n_layers, tiny_model(12).n_layers) == (4, 12)
    assert (
        len(small_testbed(FedLora(rank=3), n_layers=7).play_round().before) == 7 * 2 * 2 + 2
    )  # A, B of 2 matrices; head
