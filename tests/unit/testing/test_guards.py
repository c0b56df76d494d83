"""The guards of the conformance suite: what they catch, whom they leave alone, and that they go away."""

import datetime as dt
import random
import threading
import time
from time import perf_counter

import numpy as np
import pytest

from emulator.testing import ConformanceError
from emulator.testing.compare import mutable_parts, same
from emulator.testing.guards import no_global_random_state, no_wall_clock
from emulator.testing.small_world import tiny_model


class Here:
    """A class of this module, whose imported names are guarded with it."""


@pytest.mark.parametrize(
    "read",
    [
        lambda: time.time(),
        lambda: time.monotonic_ns(),
        lambda: time.sleep(0),
        lambda: perf_counter(),
        lambda: dt.datetime.now(),
        lambda: dt.datetime.now(dt.UTC),
        lambda: dt.datetime.utcnow(),
        lambda: dt.date.today(),
    ],
)
def test_a_clock_cannot_be_read_within_the_guard_and_can_behind_it(read: object) -> None:
    assert callable(read)
    with no_wall_clock([Here]), pytest.raises(ConformanceError, match="reads the wall clock"):
        read()

    read()


def test_the_guard_goes_away_after_an_error_too() -> None:
    original = time.time

    with pytest.raises(KeyError), no_wall_clock([Here]):
        raise KeyError

    assert time.time is original


def test_other_threads_keep_their_clock() -> None:
    read: list[float] = []

    with no_wall_clock([Here]):
        thread = threading.Thread(target=lambda: read.append(time.time()))
        thread.start()
        thread.join()

    assert len(read) == 1


@pytest.mark.parametrize("draw", [random.random, lambda: random.seed(1), np.random.rand, lambda: np.random.seed(1)])
def test_drawing_from_or_seeding_a_global_stream_is_caught(draw: object) -> None:
    assert callable(draw)
    with pytest.raises(ConformanceError, match="global state"), no_global_random_state():
        draw()


def test_streams_of_one_s_own_are_free() -> None:
    with no_global_random_state():
        assert 0 <= np.random.default_rng(0).random() < 1
        assert 0 <= random.Random(0).random() < 1


def test_arrays_are_the_same_only_to_the_last_bit() -> None:
    zero = np.zeros(2, np.float32)

    assert same({"a": (zero, 1)}, {"a": (zero.copy(), 1)})
    assert not same(zero, zero.astype(np.float64))
    assert not same(zero, -zero)  # 0.0 == -0.0, but not in bytes
    assert not same(zero, zero.reshape(2, 1))
    assert not same((1, 2), [1, 2])
    assert not same({"a": 1}, {"a": 1, "b": 2})


def test_what_can_be_changed_in_a_record_is_named_with_its_field() -> None:
    frozen = np.zeros(2)
    frozen.setflags(write=False)

    assert mutable_parts(tiny_model()) == ["head: a dict"]
    assert mutable_parts((1, frozen, ("a", [2]))) == ["a list"]
    assert mutable_parts(np.zeros(2)) == ["a writeable array"]
