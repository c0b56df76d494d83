"""Oort's utilities, its draw and its pacer, in closed form."""

import math

import numpy as np
import pytest

from emulator.algorithms.selection import OortSelection, SeenDevice, admitted
from emulator.records import DeviceReport, RoundReport, Status


def report(round_index: int, devices: dict[int, tuple[float, int, float]], status: Status = Status.OK) -> RoundReport:
    """By device: loss, examples, seconds of computation."""
    return RoundReport(
        round_index=round_index,
        start_s=0.0,
        end_s=1.0,
        evaluation=None,
        devices={
            device: DeviceReport(
                device_id=device,
                status=status,
                n_steps=1,
                download_s=1.0,
                forward_s=seconds,
                upload_s=2.0,
                n_examples=n,
                metrics={"train_loss": loss},
            )
            for device, (loss, n, seconds) in devices.items()
        },
    )


def test_a_device_is_worth_its_loss_times_its_examples_and_takes_all_its_seconds() -> None:
    selection = OortSelection()
    selection.observe(report(3, {4: (0.5, 20, 7.0)}))

    assert selection.known == {4: SeenDevice(utility=10.0, duration_s=10.0, round_index=3)}


def test_who_is_lost_stays_what_it_was() -> None:
    selection = OortSelection()
    selection.observe(report(0, {4: (0.5, 20, 7.0)}, Status.DROPPED))

    assert selection.known == {}


def test_scores_by_hand() -> None:
    """Utilities 0, 5, 10 are 0, 1/2, 1; the preferred time is the median, 4 s; in round 9, R is 10."""
    selection = OortSelection(preferred_percentile=50, clip_percentile=100, slowness_penalty=2)
    selection.known = {
        0: SeenDevice(utility=0.0, duration_s=2.0, round_index=0),
        1: SeenDevice(utility=5.0, duration_s=4.0, round_index=4),
        2: SeenDevice(utility=10.0, duration_s=8.0, round_index=9),
    }
    scores = selection.scores(selection.known, 9)

    uncertain = 0.1 * math.log(10)
    assert scores[0] == pytest.approx(0 + math.sqrt(uncertain / 1))
    assert scores[1] == pytest.approx(0.5 + math.sqrt(uncertain / 5))
    assert scores[2] == pytest.approx((1 + math.sqrt(uncertain / 10)) * (4 / 8) ** 2)


def test_utilities_are_clipped_so_that_one_outlier_does_not_make_all_others_alike() -> None:
    selection = OortSelection(clip_percentile=50, preferred_percentile=100)
    selection.known = {
        device: SeenDevice(utility=utility, duration_s=1.0, round_index=0)
        for device, utility in enumerate((1.0, 2.0, 3.0, 4.0, 1000.0))
    }
    assert selection.scores(selection.known, 0) == pytest.approx({0: 0.0, 1: 0.5, 2: 1.0, 3: 1.0, 4: 1.0})


def test_devices_are_drawn_down_to_a_share_of_the_score_at_the_border() -> None:
    pool, weights = admitted({1: 1.0, 2: 0.8, 3: 0.77, 4: 0.75}, 2, cutoff=0.95)

    assert pool == [1, 2, 3]  # 0.95 x 0.8 = 0.76
    assert weights.tolist() == [1.0, 0.8, 0.77]


def test_the_share_of_new_devices_falls_from_round_to_round_down_to_its_least() -> None:
    selection = OortSelection(exploration=0.8, exploration_decay=0.5, least_exploration=0.1)
    selection.known = {d: SeenDevice(utility=1.0, duration_s=1.0, round_index=0) for d in range(50)}
    n_new = [
        sum(device >= 50 for device in selection.choose(range(100), 20, r, np.random.default_rng(r))) for r in range(5)
    ]
    assert n_new == [16, 8, 4, 2, 2]


def test_new_devices_fill_up_where_too_few_are_known_and_known_ones_where_too_few_are_new() -> None:
    selection = OortSelection(exploration=0.5)
    rng = np.random.default_rng(0)
    assert len(selection.choose(range(8), 4, 0, rng)) == 4
    selection.known = {d: SeenDevice(utility=1.0, duration_s=1.0, round_index=0) for d in range(8)}
    assert len(set(selection.choose(range(8), 6, 0, rng))) == 6
    assert selection.choose((3, 5), 6, 0, rng) == [3, 5]


def test_the_pacer_minds_slowness_less_where_a_window_was_worth_less_than_the_one_before() -> None:
    selection = OortSelection(pacer_rounds=2, pacer_step=5, preferred_percentile=30)
    seen = []
    for round_index, loss in enumerate((4.0, 4.0, 2.0, 2.0, 3.0, 3.0, 1.0, 1.0)):
        selection.observe(report(round_index, {0: (loss, 1, 1.0)}))
        seen.append(selection.preferred_percentile)

    assert seen == [30, 30, 30, 35, 35, 35, 35, 40]
