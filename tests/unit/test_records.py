"""What records say of themselves: which states of a device count as what, and what tells jobs apart."""

from emulator.records import Assignment, Job, Status, Update

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
