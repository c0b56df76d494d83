"""The partition bandit follows its formulas, and finds the best region of a reward that stays the same."""

import math

import numpy as np
import pytest

from emulator.algorithms.bandits import Box, PartitionBandit


def bandit(discount: float = 1.0, exploration: float = 0.5, smallest: float = 0.3, n: int = 1) -> PartitionBandit:
    return PartitionBandit(n_dimensions=n, discount=discount, exploration=exploration, smallest=smallest)


def test_a_leaf_is_split_at_the_point_that_was_played() -> None:
    played = bandit()
    played.record((0.4,), 1.0)

    assert played.leaves == [Box((0.0,), (0.4,)), Box((0.4,), (1.0,))]


def test_a_box_is_split_across_its_longest_side() -> None:
    box = Box((0.0, 0.0), (0.5, 1.0))

    assert box.split((0.2, 0.3)) == (Box((0.0, 0.0), (0.5, 0.3)), Box((0.0, 0.3), (0.5, 1.0)))


def test_a_point_next_to_the_border_splits_in_the_middle() -> None:
    assert Box((0.0,), (1.0,)).split((0.01,)) == (Box((0.0,), (0.5,)), Box((0.5,), (1.0,)))


def test_leaves_as_small_as_the_least_are_not_split() -> None:
    played = bandit(smallest=0.5)
    for at in (0.5, 0.3, 0.8):
        played.record((at,), 0.0)

    assert played.leaves == [Box((0.0,), (0.5,)), Box((0.5,), (1.0,))]


def test_leaves_cover_the_box_without_overlap() -> None:
    played, rng = bandit(smallest=0.2, n=2), np.random.default_rng(0)
    for _ in range(40):
        played.record(played.choose(rng), float(rng.random()))
    points = np.vstack([rng.random((200, 2)), [[0, 0], [1, 1], [0, 1], [1, 0.5]]])

    assert (sum(leaf.holds(points).astype(int) for leaf in played.leaves) == 1).all()
    assert len(played.leaves) > 4


def test_discounted_weights_means_and_bounds_by_hand() -> None:
    played = bandit(discount=0.5, exploration=2.0, smallest=0.6)
    for at, reward in [(0.5, 4.0), (0.2, 1.0), (0.9, 3.0)]:
        played.record((at,), reward)

    # split at 0.5 into leaves of size 0.5; weights of the plays are 1/4, 1/2, 1, the first and last in the upper leaf
    assert played.statistics() == [(0.5, 1.0), (1.25, pytest.approx((4 / 4 + 3) / 1.25))]
    log_total = math.log(1.75)
    assert played.bounds() == pytest.approx(
        [1.0 + 2 * math.sqrt(2 * log_total / 0.5), 3.2 + 2 * math.sqrt(2 * log_total / 1.25)]
    )


def test_plays_side_by_side_are_of_one_age() -> None:
    played = bandit(discount=0.5, smallest=0.6)
    played.record_several([((0.5,), 4.0), ((0.2,), 1.0)])
    played.record_several([((0.9,), 3.0)])

    # weights 1/2, 1/2, 1: at 0.2 below the cut at 0.5; at 0.5 and 0.9 above
    assert played.statistics() == [(0.5, 1.0), (1.5, pytest.approx((4 / 2 + 3) / 1.5))]


def test_one_play_at_a_time_is_the_same_as_batches_of_one() -> None:
    one, batches = bandit(discount=0.9), bandit(discount=0.9)
    one_rng, batches_rng = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(12):
        point = one.choose(one_rng)
        assert batches.choose_several(1, batches_rng) == [point]
        one.record(point, point[0])
        batches.record_several([(point, point[0])])

    assert (one.leaves, one.bounds()) == (batches.leaves, batches.bounds())


def test_who_plays_beside_others_turns_to_other_leaves() -> None:
    played = bandit(exploration=1.0, smallest=0.6)
    for at in (0.5, 0.2, 0.9, 0.8, 0.7):
        played.record((at,), 1.0)

    # below the cut at 0.5 one play, above it four, all worth 1: by N alone, 3 go below until it is level, then in turn
    points = played.choose_several(5, np.random.default_rng(0))
    assert [at < 0.5 for (at,) in points][:3] == [True] * 3
    assert sum(at < 0.5 for (at,) in points) == 4
    assert played.statistics() == [(1.0, 1.0), (4.0, 1.0)]  # choosing is no play


def test_a_leaf_without_a_play_comes_first() -> None:
    played = bandit()
    played.record((0.6,), 100.0)  # falls into the upper part

    assert played.bounds()[0] == math.inf
    assert played.choose(np.random.default_rng(0))[0] < 0.6


def test_it_concentrates_on_the_best_region_of_a_stationary_reward() -> None:
    rng, played = np.random.default_rng(3), bandit(discount=0.99, exploration=0.1, smallest=0.25, n=2)
    points = []
    for _ in range(300):
        x, y = points_now = played.choose(rng)
        points.append(points_now)
        played.record(points_now, 1 - abs(x - 0.8) - abs(y - 0.2) + 0.05 * rng.standard_normal())
    late = np.array(points[150:])

    near = (np.abs(late - [0.8, 0.2]) < 0.3).all(axis=1).mean()  # by chance at most 0.6 * 0.5 = 0.3
    assert near > 0.6


def test_a_discounted_bandit_follows_a_reward_that_changes() -> None:
    rng, played = np.random.default_rng(1), bandit(discount=0.9, exploration=0.1, smallest=0.5)
    late = []
    for step in range(200):
        (x,) = played.choose(rng)
        played.record((x,), x if step < 100 else 1 - x)
        late += [x] if step >= 150 else []

    assert np.mean(late) < 0.4
