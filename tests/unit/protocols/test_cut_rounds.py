"""Split rounds: their length and bytes in closed form, who waits for whom, who is lost, and what is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from emulator.errors import PlanError
from emulator.forms.cut import LABEL_BYTES
from emulator.forms.cut_lora import CutLoraForm
from emulator.forms.lora import LoraForm
from emulator.policy import Policy
from emulator.policy.checked import CheckedPolicy
from emulator.policy.rounds import play_round
from emulator.protocols.cut import CutRounds
from emulator.records import ClusterView, Group, Job, RoundPlan, RoundReport, Status, Update
from emulator.seeds import Seeds
from emulator.shapes.spec import ModelSpec
from emulator.testing import exact_testbed, tiny_model, tiny_state
from emulator.world.availability import DropOuts
from emulator.world.open_round import OpenRound, Train
from emulator.world.price.step_kinds import step_of
from emulator.world.testbed import Testbed

MODEL = tiny_model(n_layers=4)  # width 16, 8 tokens
FORM = CutLoraForm(ranks=(2,) * 4, cut=1)
N_STEPS, BATCH = 3, 5
BOTTOM_BYTES = 4 * 2 * (2 * 16) * 2  # rank 2 on query and value of one layer, (in + out) each
FEATURE_BYTES = 4 * BATCH * 8 * 16
UP_BYTES = FEATURE_BYTES + LABEL_BYTES * BATCH


@dataclass
class Cut(Policy):
    """The same plan in every round."""

    merges: bool = True
    n_devices: int = 2
    n_steps: Sequence[int] = ()
    assigns_merging: bool | None = None
    groups: tuple[Group, ...] = ()
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        self.protocol = CutRounds(merges=self.merges)

    def form(self, model: ModelSpec) -> CutLoraForm:
        return FORM

    def plan(self, view: ClusterView) -> RoundPlan:
        n_steps = self.n_steps or (N_STEPS,) * self.n_devices
        assignments = {
            device: FORM.assignment(
                device,
                n_steps=n_steps[device],
                batch_size=BATCH,
                learning_rate=0.1,
                top_learning_rate=0.1,
                merges=self.merges if self.assigns_merging is None else self.assigns_merging,
            )
            for device in range(self.n_devices)
        }
        return RoundPlan(assignments=assignments, groups=self.groups, deadline_s=self.deadline_s)


def make_testbed(*speeds: float, **settings: Any) -> Testbed:
    """A step takes ``1 / speed`` seconds, a byte ``1 / (1000 speed)`` in either direction."""
    return exact_testbed(
        FORM,
        MODEL,
        step_s=[1 / speed for speed in speeds],
        download_bytes_per_s=[1e3 * speed for speed in speeds],
        upload_bytes_per_s=[1e3 * speed for speed in speeds],
        **settings,
    )


def play(testbed: Testbed, policy: Cut, train: Train | None = None) -> RoundReport:
    return played_and_closed(testbed, policy, train)[1]


def played_and_closed(testbed: Testbed, policy: Cut, train: Train | None = None) -> tuple[OpenRound, RoundReport]:
    state = tiny_state(FORM, MODEL, Seeds(0))
    opened = play_round(testbed, CheckedPolicy(policy, testbed.form), 0, state, train).opened
    return opened, testbed.close_round()


def alone_s(speed: float) -> float:
    """A round of one device: the bottom down and up, and in each step features up, gradients down and a step."""
    n_bytes = 2 * BOTTOM_BYTES + N_STEPS * (UP_BYTES + FEATURE_BYTES)
    return (n_bytes / 1e3 + N_STEPS) / speed


@pytest.mark.parametrize("merges", [True, False])
def test_a_round_of_one_device_is_the_sum_of_its_parts(merges: bool) -> None:
    report = play(make_testbed(2.0), Cut(merges=merges, n_devices=1))

    assert report.end_s == pytest.approx(alone_s(2.0), rel=1e-12)
    seen = report.devices[0]
    assert (seen.n_steps, seen.batch_size, seen.status) == (N_STEPS, BATCH, Status.OK)
    assert seen.compute_s == pytest.approx(N_STEPS / 2, rel=1e-12)
    assert seen.waiting_s == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("merges", [True, False])
def test_bytes_are_those_of_the_bottom_once_and_of_the_cut_in_each_step(merges: bool) -> None:
    report = play(make_testbed(1.0, 4.0), Cut(merges=merges))

    for seen in report.devices.values():
        assert seen.download_bytes == BOTTOM_BYTES + N_STEPS * FEATURE_BYTES
        assert seen.upload_bytes == BOTTOM_BYTES + N_STEPS * UP_BYTES


def test_with_a_top_of_its_own_a_device_waits_at_the_end_of_the_round_alone() -> None:
    report = play(make_testbed(1.0, 4.0), Cut(merges=False))

    assert report.end_s == pytest.approx(alone_s(1.0), rel=1e-12)
    assert report.devices[1].waiting_s == pytest.approx(alone_s(1.0) - alone_s(4.0), rel=1e-9)


def test_with_merging_every_step_waits_for_its_slowest_device() -> None:
    """Device 0 computes slowly and sends fast, device 1 the other way round: each holds the other up."""
    testbed = exact_testbed(
        FORM, MODEL, step_s=[8.0, 1.0], download_bytes_per_s=[1e3, 500.0], upload_bytes_per_s=[1e3, 1e3]
    )
    report = play(testbed, Cut())

    # Device d needs down_d + up_d + step_d between two barriers; the first one comes after the bottom's download.
    down_s = np.array([FEATURE_BYTES / 1e3, FEATURE_BYTES / 500])
    step_s, up_s = np.array([8.0, 1.0]), UP_BYTES / 1e3
    first_s = max(BOTTOM_BYTES / 1e3 + 8.0, BOTTOM_BYTES / 500 + 1.0) + up_s
    between_s = (down_s + step_s + up_s).max()
    last_s = (down_s + BOTTOM_BYTES / 1e3).max()  # the backward passes take no time here
    assert report.end_s == pytest.approx(first_s + (N_STEPS - 1) * between_s + last_s, rel=1e-12)


def test_the_server_takes_its_time_for_the_top() -> None:
    assignment = FORM.assignment(
        0, n_steps=N_STEPS, batch_size=BATCH, learning_rate=0.1, top_learning_rate=0.1, merges=True
    )
    whole = FORM.whole_work(assignment, MODEL)
    bottom = replace(whole, forward_layers=1, backward_layers=1)
    flop = step_of(MODEL, whole).forward_flop + step_of(MODEL, whole).backward_flop
    flop -= step_of(MODEL, bottom).forward_flop + step_of(MODEL, bottom).backward_flop

    # One after another for two devices in each merged step; side by side where each has its own top.
    slow_s = {
        merges: play(make_testbed(1.0, 1.0, server_flop_per_s=1e6), Cut(merges=merges)).end_s
        for merges in (True, False)
    }
    free_s = play(make_testbed(1.0, 1.0), Cut()).end_s
    assert flop > 0
    assert slow_s[True] - free_s == pytest.approx(N_STEPS * 2 * flop / 1e6, rel=1e-6)
    assert slow_s[False] - free_s == pytest.approx(N_STEPS * flop / 1e6, rel=1e-6)


def test_activities_add_up_to_what_a_device_did() -> None:
    closed, report = played_and_closed(make_testbed(1.0, 4.0), Cut())
    log = closed.activities
    for device, seen in report.devices.items():
        own = [i for i, owner in enumerate(log.device_id) if owner == device]
        by_kind = {
            kind: sum(log.end_s[i] - log.start_s[i] for i in own if log.kind[i] == kind)
            for kind in ("download", "compute", "upload", "wait")
        }
        assert by_kind["compute"] == pytest.approx(seen.compute_s)
        assert by_kind["wait"] == pytest.approx(seen.waiting_s)
        assert sum(log.n_bytes[i] for i in own) == seen.download_bytes + seen.upload_bytes
        assert set(log.inner_round) == {0}


class Recorder:
    """Trains nothing, and remembers who was asked to train."""

    def __init__(self) -> None:
        self.n_steps: dict[int, int] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Update]:
        self.n_steps = {job.device_id: job.assignment.n_steps for job in jobs}
        return [
            Update(device_id=job.device_id, assignment=job.assignment, payload=job.state, n_examples=1, metrics={})
            for job in jobs
        ]


class LateFailure(DropOuts):
    """Device 1 fails when it has computed half of what it was asked for."""

    def __init__(self) -> None:
        super().__init__(2, 0.0, Seeds(0))

    def shares(self, round_index: int) -> dict[int, float]:
        return {1: 0.5}


@pytest.mark.parametrize(("merges", "trained"), [(True, {0: N_STEPS, 1: 1}), (False, {0: N_STEPS})])
def test_a_lost_device_has_been_part_of_the_merged_steps_that_it_saw(merges: bool, trained: dict[int, int]) -> None:
    """Of three steps of a second, half is 1.5 s: in its second step. Whoever is left goes on alone."""
    testbed = make_testbed(1.0, 1.0, drop_outs=LateFailure())
    recorder = Recorder()
    report = play(testbed, Cut(merges=merges), recorder)

    assert recorder.n_steps == trained
    assert (report.devices[1].status, report.devices[1].compute_s) == (Status.DROPPED, pytest.approx(1.5))
    assert report.end_s == pytest.approx(alone_s(1.0))


@pytest.mark.parametrize("merges", [True, False])
def test_a_round_whose_devices_are_all_lost_leaves_the_state_alone(merges: bool) -> None:
    testbed = make_testbed(1.0, 1.0, usable_memory_bytes=[1, 1])
    recorder = Recorder()
    report = play(testbed, Cut(merges=merges), recorder)

    assert recorder.n_steps == {}
    assert {seen.status for seen in report.devices.values()} == {Status.OUT_OF_MEMORY}


def test_devices_that_merge_take_equally_many_steps() -> None:
    with pytest.raises(PlanError, match="devices that merge must take equally many steps"):
        play(make_testbed(1.0, 1.0), Cut(n_steps=(2, 3)))


@pytest.mark.parametrize("policy", [Cut(groups=(Group(members=(0, 1)),)), Cut(deadline_s=3.0)])
def test_groups_and_deadlines_are_refused(policy: Cut) -> None:
    with pytest.raises(PlanError, match="has no groups, deadline_s or n_wanted"):
        play(make_testbed(1.0, 1.0), policy)


@pytest.mark.parametrize("merges", [True, False])
def test_devices_merge_as_their_protocol_does(merges: bool) -> None:
    with pytest.raises(PlanError, match=f"round 0, device 0: merges must be {merges}, .* got {not merges}"):
        play(make_testbed(1.0, 1.0), Cut(merges=merges, assigns_merging=not merges))


def test_a_form_that_cuts_nothing_is_refused() -> None:
    speed = [1.0, 1.0]
    form = LoraForm(ranks=(2,) * 4)
    testbed = exact_testbed(form, MODEL, step_s=speed, download_bytes_per_s=speed, upload_bytes_per_s=speed)
    with pytest.raises(PlanError, match="needs a form that cuts the model, LoraForm does not"):
        play(testbed, Cut())
