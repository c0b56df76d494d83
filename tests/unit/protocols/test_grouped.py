"""Grouped rounds: their length in closed form, who waits for whom, who is lost, and how groups merge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from emulator.algorithms.aggregation import Contribution
from emulator.forms.base import AdapterForm, Embedded
from emulator.policy import Policy
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.records import Arrays, Assignment, ClusterView, Group, Job, RoundPlan, RoundReport, Status, Update, Work
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.testing import exact_testbed, small_testbed, tiny_model
from emulator.world.availability import DropOuts

N_EXAMPLES = (1, 3, 4)


class FlatForm(AdapterForm):
    """One number, held whole by everybody, that pretends to be 100 bytes down and 50 bytes up."""

    attachment = "none:None"

    def initial(self, model: ModelSpec, seeds: Seeds) -> Arrays:
        return {"w": np.zeros(1, np.float32)}

    def project(self, state: Arrays, assignment: Assignment) -> Arrays:
        return state

    def embed(self, update: Update, state: Arrays) -> Embedded:
        return Embedded(update.payload)

    def work(self, assignment: Assignment, model: ModelSpec) -> Work:
        return Work(
            n_steps=assignment.n_steps,
            batch_size=assignment.batch_size,
            seq_len=model.seq_len,
            forward_layers=model.n_layers,
            backward_layers=model.n_layers,
        )

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return 100

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return 50


@dataclass
class Fixed(Policy):
    """The same plan in every round."""

    groups: tuple[Group, ...] = ()
    n_devices: int = 3
    deadline_s: float | None = None
    n_wanted: int | None = None

    def form(self, model: ModelSpec) -> FlatForm:
        return FlatForm()

    def plan(self, view: ClusterView) -> RoundPlan:
        # Device d takes d + 2 steps.
        return RoundPlan(
            assignments={
                device_id: Assignment(device_id=device_id, n_steps=device_id + 2, batch_size=1, learning_rate=0.1)
                for device_id in range(self.n_devices)
            },
            groups=self.groups,
            deadline_s=self.deadline_s,
            n_wanted=self.n_wanted,
        )


def train(jobs: Sequence[Job]) -> list[Update]:
    """Device ``d`` adds ``d + 1`` to what it started from."""
    return [
        Update(
            device_id=job.device_id,
            assignment=job.assignment,
            payload={"w": job.state["w"] + np.float32(job.device_id + 1)},
            n_examples=N_EXAMPLES[job.device_id],
            metrics={"train_loss": float(job.inner_round)},
        )
        for job in jobs
    ]


def play(
    policy: Fixed, *, memory: Sequence[int] = (), trains: bool = True, lost_at_second_compute: int = -1
) -> tuple[RoundReport, float]:
    """One round, and the server's number after it.

    A step takes a second. Device 0 moves 100 bytes/s down and 50 up, the others half of that. Alone, the devices take
    1 + 2 + 1 = 4 s, 2 + 3 + 2 = 7 s and 2 + 4 + 2 = 8 s.
    """
    n_devices = policy.n_devices
    testbed = exact_testbed(
        FlatForm(),
        tiny_model(),
        step_s=[1.0] * n_devices,
        download_bytes_per_s=[100.0, 50.0, 50.0][:n_devices],
        upload_bytes_per_s=[50.0, 25.0, 25.0][:n_devices],
        usable_memory_bytes=memory,
        drop_outs=FailingWhenItComputesAgain(lost_at_second_compute),
    )
    state = FlatForm().initial(tiny_model(), Seeds(0))
    after = play_round(testbed, CheckedPolicy(policy, FlatForm()), 0, state, train if trains else None).after
    return testbed.close_round(), float(after["w"][0])


class FailingWhenItComputesAgain(DropOuts):
    """One device drops out as its second computation of a round begins; nobody where ``device_id`` is negative."""

    def __init__(self, device_id: int) -> None:
        super().__init__(3, 0.0, Seeds(0))
        self._shares = {device_id: 1.0}

    def shares(self, round_index: int) -> dict[int, float]:
        return self._shares


def waiting_s(report: RoundReport) -> list[float]:
    return [seen.waiting_s for seen in report.devices.values()]


def test_a_flat_round_ends_with_its_slowest_device() -> None:
    report, _ = play(Fixed())

    assert (report.start_s, report.end_s) == (0.0, 8.0)
    assert waiting_s(report) == [8 - 4, 8 - 7, 0]


def test_a_flat_round_is_one_group_with_one_inner_round() -> None:
    assert play(Fixed()) == play(Fixed(groups=(Group(members=(2, 0, 1)),)))


def test_groups_work_side_by_side_with_a_barrier_after_each_inner_round() -> None:
    report, _ = play(Fixed(groups=(Group(members=(0, 1), inner_rounds=2), Group(members=(2,), inner_rounds=1))))

    # Group 0: twice the 7 s of device 1. Device 0 waits 3 s for it each time; device 2 is done after 8 of 14 s.
    assert report.end_s == 2 * 7
    assert waiting_s(report) == [2 * 3, 0, 14 - 8]
    assert [seen.download_bytes for seen in report.devices.values()] == [200, 200, 100]


def test_the_groups_of_a_round_do_not_wait_for_one_another_between_inner_rounds() -> None:
    report, _ = play(Fixed(groups=(Group(members=(0,), inner_rounds=5), Group(members=(1, 2), inner_rounds=2))))

    # 5 * 4 s against 2 * 8 s: a barrier over all would make it 2 * 8 + 3 * 4 s.
    assert report.end_s == 20
    assert waiting_s(report) == [0, (20 - 16) + 2 * 1, 20 - 16]


def test_flat_updates_are_averaged_by_examples() -> None:
    _, after = play(Fixed())

    assert after == (1 * 1 + 3 * 2 + 4 * 3) / (1 + 3 + 4)


def test_an_inner_round_starts_from_what_the_last_one_gave() -> None:
    _, after = play(Fixed(groups=(Group(members=(0, 1), inner_rounds=2), Group(members=(2,)))))

    # Group 0 adds (1 * 1 + 3 * 2) / 4 = 1.75 twice; group 1 adds 3 once; each weighs 4 examples.
    assert after == (4 * (2 * 1.75) + 4 * 3) / 8


def test_a_device_that_runs_out_of_memory_does_not_hold_the_round_up_and_sends_nothing() -> None:
    report, after = play(Fixed(), memory=[2**60, 2**60, 1])

    # Device 2 is lost when its download has ended, at 2 s.
    assert report.devices[2].status is Status.OUT_OF_MEMORY
    assert (report.end_s, report.devices[2].waiting_s, report.devices[2].upload_bytes) == (7.0, 7 - 2, 0)
    assert after == (1 * 1 + 3 * 2) / (1 + 3)


def test_a_lost_device_takes_no_part_in_later_inner_rounds_of_its_group() -> None:
    report, after = play(
        Fixed(groups=(Group(members=(0, 1), inner_rounds=2), Group(members=(2,)))), memory=[1, 2**60, 1]
    )

    assert [seen.download_bytes for seen in report.devices.values()] == [100, 200, 100]
    # Device 1 alone adds 2 twice; group 1 has nobody left and has no say.
    assert after == 2 * 2


def test_a_group_weighs_as_much_as_all_who_took_part_in_any_of_its_inner_rounds() -> None:
    groups = (Group(members=(0, 1), inner_rounds=2), Group(members=(2,)))
    _, after = play(Fixed(groups=groups), lost_at_second_compute=0)

    # Group 0 adds 1.75 with both, then 2 with device 1 alone, and still weighs 1 + 3 examples.
    assert after == (4 * (1.75 + 2) + 4 * 3) / 8


def test_a_group_that_has_lost_everybody_has_no_say_on_the_server() -> None:
    seen: list[int] = []

    class Counting(Fixed):
        def aggregate_groups(self, state: Arrays, groups: Sequence[Contribution]) -> Arrays:
            seen.append(len(groups))
            return super().aggregate_groups(state, groups)

    play(Counting(groups=(Group(members=(0, 1)), Group(members=(2,)))), memory=[2**60, 2**60, 1])

    assert seen == [1]


def test_a_round_in_which_everybody_is_lost_keeps_the_state() -> None:
    for groups in ((), (Group(members=(0, 1)), Group(members=(2,)))):
        report, after = play(Fixed(groups=groups), memory=[1, 1, 1])

        assert (after, report.end_s) == (0.0, 2.0)
        assert {seen.status for seen in report.devices.values()} == {Status.OUT_OF_MEMORY}


def test_training_does_not_move_the_clock() -> None:
    trained, _ = play(Fixed())
    untrained, after = play(Fixed(), trains=False)

    assert (untrained.end_s, after) == (trained.end_s, 0.0)
    assert untrained.devices[0].metrics == {}


def test_metrics_of_a_device_are_those_of_its_last_inner_round() -> None:
    report, _ = play(Fixed(groups=(Group(members=(0, 1), inner_rounds=3), Group(members=(2,)))))

    assert [seen.metrics["train_loss"] for seen in report.devices.values()] == [2.0, 2.0, 0.0]
    assert [seen.n_examples for seen in report.devices.values()] == list(N_EXAMPLES)


@pytest.mark.parametrize("n_devices", [1, 2])
def test_the_length_of_a_round_grows_with_its_cohort(n_devices: int) -> None:
    report, _ = play(Fixed(n_devices=n_devices))

    assert report.end_s == {1: 4.0, 2: 7.0}[n_devices]


def statuses(report: RoundReport) -> list[str]:
    return [str(seen.status) for seen in report.devices.values()]


def test_a_deadline_ends_the_round_for_those_who_have_not_delivered() -> None:
    report, after = play(Fixed(deadline_s=7.5))

    # Device 2 would have been done after 8 s: 2 s of download, 4 s of computation, 1.5 of 2 s of upload.
    assert (report.end_s, statuses(report)) == (7.5, ["ok", "ok", "late"])
    late = report.devices[2]
    assert (late.download_s, late.compute_s, late.upload_s, late.waiting_s) == (2.0, 4.0, 1.5, 0.0)
    assert late.upload_bytes == int(1.5 * 25)
    assert after == (1 * 1 + 3 * 2) / (1 + 3)


def test_who_is_cut_during_its_download_was_asked_for_as_much_as_the_others() -> None:
    report, _ = play(Fixed(deadline_s=0.5))

    assert [seen.compute_s for seen in report.devices.values()] == [0.0] * 3
    whole, _ = play(Fixed())
    for field in ("n_steps", "batch_size"):
        asked = [getattr(seen, field) for seen in report.devices.values()]
        assert asked == [getattr(seen, field) for seen in whole.devices.values()]
        assert min(asked) > 0


def test_who_is_late_is_not_trained() -> None:
    report, _ = play(Fixed(deadline_s=5.0))

    assert statuses(report) == ["ok", "late", "late"]
    assert [seen.n_examples for seen in report.devices.values()] == [1, 0, 0]


def test_what_arrives_at_the_deadline_is_in_time() -> None:
    report, _ = play(Fixed(deadline_s=7.0))

    assert (report.end_s, statuses(report)) == (7.0, ["ok", "ok", "late"])


def test_a_round_in_which_all_are_done_does_not_wait_for_its_deadline() -> None:
    assert play(Fixed(deadline_s=100.0)) == play(Fixed())


def test_a_deadline_that_nobody_meets_keeps_the_state() -> None:
    report, after = play(Fixed(deadline_s=0.5))

    assert (report.end_s, statuses(report), after) == (0.5, ["late"] * 3, 0.0)


@pytest.mark.parametrize(("n_wanted", "end_s"), [(1, 4.0), (2, 7.0), (3, 8.0)])
def test_an_over_selected_round_ends_with_the_last_delivery_that_is_wanted(n_wanted: int, end_s: float) -> None:
    report, after = play(Fixed(n_wanted=n_wanted))

    assert report.end_s == end_s
    assert statuses(report) == ["ok"] * n_wanted + ["late"] * (3 - n_wanted)
    weights = N_EXAMPLES[:n_wanted]
    assert after == sum(w * (d + 1) for d, w in enumerate(weights)) / sum(weights)


def test_whichever_comes_first_ends_the_round() -> None:
    assert play(Fixed(n_wanted=2, deadline_s=5.0))[0].end_s == 5.0
    assert play(Fixed(n_wanted=1, deadline_s=5.0))[0].end_s == 4.0


def test_fewer_deliveries_than_wanted_end_the_round_when_nobody_is_left() -> None:
    report, _ = play(Fixed(n_wanted=3), memory=[2**60, 2**60, 1])

    assert (report.end_s, statuses(report)) == (7.0, ["ok", "ok", "out_of_memory"])


def test_groups_keep_what_they_have_aggregated_before_the_deadline() -> None:
    groups = (Group(members=(0, 1), inner_rounds=3), Group(members=(2,)))
    report, after = play(Fixed(groups=groups, deadline_s=12.0))

    # Group 0 ends its inner rounds at 7 and 14 s; device 0 delivers in the second one at 11 s, device 1 would at 14 s.
    assert (report.end_s, statuses(report)) == (12.0, ["ok", "late", "ok"])
    # Group 0 adds (1 * 1 + 3 * 2) / 4 with both and 1 with device 0 alone, weighing 4; device 2 adds 3, weighing 4.
    assert after == (4 * (1.75 + 1) + 4 * 3) / 8


def test_the_timer_of_a_round_does_not_reach_into_the_next_one() -> None:
    class OneDeadline(Fixed):
        def plan(self, view: ClusterView) -> RoundPlan:
            self.deadline_s = 1e-3 + first_s if view.round_index == 0 else None
            return super().plan(view)

    first_s = small_testbed(Fixed(), n_devices=3, trains=False).play_round().report.end_s
    rounds = small_testbed(OneDeadline(), n_devices=3, trains=False).play(2)

    assert [statuses(played.report) for played in rounds] == [["ok"] * 3] * 2
