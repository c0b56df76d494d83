"""The token bucket in closed form: when pieces may leave, at a constant rate and at one that changes."""

import pytest

from emulator.running.live.bucket import TokenBucket


def leaves_s(n_pieces: int, piece_bytes: float, carried: list[float], tick_s: float) -> list[float]:
    """When each piece leaves, if ``carried[k]`` bytes would have passed the link by ``k * tick_s``."""
    bucket, times = TokenBucket(burst_bytes=piece_bytes), []
    for tick, carried_bytes in enumerate(carried):
        while len(times) < n_pieces and bucket.take(piece_bytes, carried_bytes):
            times.append(tick * tick_s)
    return times


def test_pieces_follow_each_other_at_the_rate_of_the_link_behind_a_burst_of_one() -> None:
    # 100 bytes/s and pieces of 50 bytes: the first leaves at once, and one every half second behind it.
    assert leaves_s(4, 50, [10.0 * tick for tick in range(20)], 0.1) == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_at_half_the_rate_a_shared_link_takes_twice_as_long() -> None:
    # Shared with another device from 0.5 s on: 50 bytes by then, and 50 bytes/s afterwards.
    carried = [min(10.0 * tick, 50 + 5.0 * (tick - 5)) for tick in range(40)]

    assert leaves_s(4, 50, carried, 0.1) == pytest.approx([0.0, 0.5, 1.5, 2.5])


def test_a_sender_that_was_kept_waiting_makes_up_for_it() -> None:
    bucket = TokenBucket(burst_bytes=50)

    assert [bucket.take(50, 200.0) for _ in range(6)] == [True] * 5 + [False]


def test_it_says_how_many_tokens_are_missing() -> None:
    bucket = TokenBucket(burst_bytes=50)
    bucket.take(50, 0.0)

    assert bucket.lacking_bytes(50, 20.0) == 30
    assert bucket.lacking_bytes(50, 60.0) == 0
