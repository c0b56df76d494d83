"""A live device: no step ends before its time, it can be held and stopped, and jobs and updates come whole."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from emulator.records import Assignment, Job, Update
from emulator.running.live.board import LiveBoard, OnStep
from emulator.running.live.devices import Piece, Steps, TrainingOrder
from emulator.running.live.pace import Pace
from emulator.running.live.payloads import packed, part_of, unpacked
from tests.unit.protocols.test_grouped import FlatForm

N_STEPS = 4


def order(n_steps: int = N_STEPS) -> TrainingOrder:
    assignment = Assignment(device_id=0, n_steps=n_steps, batch_size=1, learning_rate=0.1)
    job = Job(device_id=0, round_index=3, inner_round=0, assignment=assignment, state={"w": np.full(1000, 2.0)})
    return TrainingOrder(task="none:none", form=FlatForm(), job=job)


class Training:
    """Adds a one in each step, and notes when on the wall each was over."""

    def __init__(self) -> None:
        self.ended_s: list[float] = []

    def __call__(self, order: TrainingOrder, on_step: OnStep) -> Update:
        job = order.job
        for step in range(job.assignment.n_steps):
            on_step(step)
            self.ended_s.append(time.monotonic())
        return Update(
            device_id=0,
            round_index=job.round_index,
            assignment=job.assignment,
            payload={"w": job.state["w"] + job.assignment.n_steps},
            n_examples=1,
            metrics={},
        )


def brought(board: LiveBoard, sent: TrainingOrder, n_pieces: int = 3, payload: int = 1) -> None:
    """Bring an order to a board, its last piece first."""
    content = packed(sent)
    for index in reversed(range(n_pieces)):
        own = part_of(content, index, n_pieces)
        board.receive(
            Piece(payload=payload, index=index, n_pieces=n_pieces, content_bytes=len(own), data=own + bytes(10))
        )


def steps(duration_s: float, *, n_steps: int = N_STEPS, is_whole: bool = True, speed: float = 10.0) -> Steps:
    """To be begun now, at 100 s of emulated time."""
    pace = Pace(time.monotonic(), 100.0, speed)
    return Steps(n_steps=n_steps, start_s=100.0, duration_s=duration_s, is_whole=is_whole, pace=pace)


def test_no_step_ends_before_its_share_of_the_emulated_time_over_the_speed() -> None:
    training = Training()
    board = LiveBoard(training)
    brought(board, order())
    wanted = steps(2.0)

    done = board.compute(wanted)

    # 2 s of emulated time in 4 steps at 10 emulated seconds per second: one every 0.05 s of the wall.
    passed_s = np.array(training.ended_s) - wanted.pace.wall_s
    assert (passed_s >= 0.05 * np.arange(1, N_STEPS + 1)).all()
    assert done.wall_s >= wanted.pace.wall_s + 0.2
    assert done.value is not None
    assert done.value.real_s < 0.2  # it slept for nearly all of it


def test_the_update_comes_back_whole_in_pieces_that_are_filled_up() -> None:
    board = LiveBoard(Training())
    brought(board, order())
    board.compute(steps(0.0))

    pieces = [board.send(index, 5, 10_000).value for index in range(5)]
    update = unpacked(piece.content for piece in pieces)

    assert {len(piece.content) + len(piece.rest) for piece in pieces} == {10_000}
    assert update.key == (0, 3, 0)
    assert (update.payload["w"] == 2 + N_STEPS).all()


def test_a_part_of_a_job_leaves_no_update() -> None:
    training = Training()
    board = LiveBoard(training)
    brought(board, order())

    done = board.compute(steps(0.0, n_steps=1, is_whole=False))

    assert len(training.ended_s) == 1
    assert done.value is not None
    assert not done.value.has_update
    assert board.send(0, 1, 7).value.content == b""


def test_pieces_of_a_payload_that_was_broken_off_are_forgotten() -> None:
    training = Training()
    board = LiveBoard(training)
    board.receive(Piece(payload=1, index=0, n_pieces=2, content_bytes=3, data=b"abc"))
    brought(board, order(2), n_pieces=2, payload=2)
    board.receive(Piece(payload=1, index=1, n_pieces=2, content_bytes=3, data=b"def"))

    board.compute(steps(0.0, n_steps=2))

    assert len(training.ended_s) == 2


def test_a_device_that_is_stopped_gives_up_its_steps() -> None:
    training = Training()
    board = LiveBoard(training)
    brought(board, order())
    threading.Timer(0.05, board.stop).start()

    done = board.compute(steps(10_000.0))

    assert done.value is None
    assert training.ended_s == []


def test_a_device_that_is_held_waits_and_counts_no_time() -> None:
    board = LiveBoard(Training())
    brought(board, order())
    wanted = steps(1.0)

    def hold() -> None:
        time.sleep(0.03)
        board.hold()
        time.sleep(0.2)
        # At the same emulated time as before: the wall has gone on, and the device's time has not.
        board.go_on(Pace(time.monotonic(), 100.0, 10.0))

    holding = threading.Thread(target=hold)
    holding.start()
    done = board.compute(wanted)
    holding.join()

    assert done.wall_s >= wanted.pace.wall_s + 0.2 + 0.1


@pytest.mark.parametrize("n_parts", [1, 3, 7])
def test_parts_are_the_whole(n_parts: int) -> None:
    content = Path(__file__).read_bytes()[:100]

    assert b"".join(part_of(content, index, n_parts) for index in range(n_parts)) == content
