"""What records say of themselves: which states of a device count as what, and what tells jobs apart."""

from typing import Literal

import pytest
import torch

from emulator.records import Assignment, Job, Schedule, Status, TrainingDefaults, Update

ASSIGNMENT = Assignment(device_id=3, n_steps=1, batch_size=1, learning_rate=0.1)


def test_a_device_is_in_the_cohort_if_it_was_asked_and_lost_if_it_did_not_finish() -> None:
    cohort = {status for status in Status if status.is_in_cohort}
    lost = {status for status in Status if status.is_lost}

    assert cohort == {Status.OK, Status.DROPPED, Status.OUT_OF_MEMORY, Status.LATE}
    assert lost == {Status.DROPPED, Status.OUT_OF_MEMORY, Status.LATE, Status.UNAVAILABLE}


def test_an_update_has_the_key_of_the_job_that_it_answers() -> None:
    job = Job(device_id=3, round_index=2, inner_round=1, assignment=ASSIGNMENT, state={})
    update = Update(
        device_id=3, round_index=2, inner_round=1, assignment=ASSIGNMENT, payload={}, n_examples=1, metrics={}
    )

    assert job.key == update.key == (3, 2, 1)


def rates(schedule: Schedule, n_rounds: int) -> list[float]:
    return [schedule.factor(round_index) for round_index in range(n_rounds)]


def test_a_constant_schedule_changes_nothing() -> None:
    training = TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.1)
    assert training.in_round(7) is training


def test_warm_up_rises_in_equal_steps_to_all_of_it() -> None:
    assert rates(Schedule(warmup_rounds=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_decay_is_that_of_torch_and_stays_behind_its_end(decay: Literal["linear", "cosine"]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    if decay == "linear":
        scheduler: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 8)
    else:
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8, eta_min=0.1)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = rates(Schedule(warmup_rounds=3, decay=decay, decay_rounds=8, floor=0.1), 20)
    assert found[3:11] == pytest.approx(expected)
    assert found[11:] == [found[10]] * 9


def test_no_factor_is_ever_zero() -> None:
    for decay in ("linear", "cosine"):
        assert min(rates(Schedule(decay=decay, decay_rounds=5), 50)) > 0
    assert TrainingDefaults(n_steps=1, batch_size=1, learning_rate=0.2, schedule=Schedule(warmup_rounds=2)).in_round(
        0
    ).learning_rate == pytest.approx(0.1)
