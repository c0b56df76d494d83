"""What devices keep of what they have not sent, from job to job."""

from collections.abc import Sequence

import numpy as np

from emulator.records import Arrays, Assignment, Job, Update
from emulator.world.unsent import Unsent


def job(device_id: int, inner_round: int = 0) -> Job:
    assignment = Assignment(device_id=device_id, n_steps=1, batch_size=1, learning_rate=0.1)
    return Job(device_id=device_id, round_index=0, inner_round=inner_round, assignment=assignment, state={})


def kept(arrays: Arrays) -> float:
    return float(arrays["a"][0]) if arrays else 0.0


class Trains:
    """Keeps one more than the device had."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int, float]]] = []

    def __call__(self, jobs: Sequence[Job]) -> list[Update]:
        self.calls.append([(job.device_id, job.inner_round, kept(job.unsent)) for job in jobs])
        return [
            Update(
                device_id=job.device_id,
                inner_round=job.inner_round,
                assignment=job.assignment,
                payload={},
                n_examples=1,
                metrics={},
                unsent={"a": np.array([kept(job.unsent) + 1], np.float32)},
            )
            for job in jobs
        ]


def test_jobs_of_one_device_go_on_with_what_the_one_before_has_left() -> None:
    unsent, trains = Unsent(is_kept=True), Trains()
    jobs = [job(1), job(2, 0), job(2, 1), job(2, 2), job(4)]
    updates = unsent.train(trains, jobs)

    assert trains.calls == [[(1, 0, 0.0), (2, 0, 0.0), (4, 0, 0.0)], [(2, 1, 1.0)], [(2, 2, 2.0)]]
    assert [update.key for update in updates] == [each.key for each in jobs]
    assert all(update.unsent == {} for update in updates)
    assert {device: kept(arrays) for device, arrays in unsent.memory().items()} == {1: 1.0, 2: 3.0, 4: 1.0}


def test_another_goes_on_with_what_one_remembers() -> None:
    unsent, again, trains = Unsent(is_kept=True), Unsent(is_kept=True), Trains()
    unsent.train(trains, [job(1)])
    again.recall(unsent.memory())
    again.train(trains, [job(1), job(2)])
    assert trains.calls[-1] == [(1, 0, 1.0), (2, 0, 0.0)]


def test_without_feedback_jobs_are_trained_in_one_call_and_nothing_is_kept() -> None:
    unsent, trains = Unsent(is_kept=False), Trains()
    unsent.train(trains, [job(1), job(1, 1)])
    assert trains.calls == [[(1, 0, 0.0), (1, 1, 0.0)]]
    assert unsent.memory() == {}
