"""MergeSFL: batch regulation, the divergence of merged labels, the budget, the estimator, and waiting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from emulator.algorithms.grouping import kl_divergence, label_distributions, mixtures
from emulator.errors import ConfigError
from emulator.forms.cut import CutAssignment
from emulator.policy.catalog import build_policy
from emulator.records import RoundPlan, Status
from emulator.testing import PlayedRound, small_testbed
from policies.mergesfl import MergeSfl, capacity_per_sample, fine_tuned, regulated_batches, retuned, scaled_up
from policies.splitfed import SplitFed


def batches(plan: RoundPlan) -> dict[int, int]:
    return {device: assignment.batch_size for device, assignment in plan.assignments.items()}


def idle_fraction(played: PlayedRound) -> float:
    report = played.report
    waits = [report.devices[device].waiting_s for device in played.plan.assignments]
    return sum(waits) / len(waits) / (report.end_s - report.start_s)


def test_the_fastest_device_has_the_full_batch_and_the_others_what_they_manage_in_its_time() -> None:
    # floor(64 * 1 / s) for s = 1, 2, 3, 100, of which the last would be 0
    assert regulated_batches(np.array([1.0, 2.0, 3.0, 100.0]), 64).tolist() == [64, 32, 21, 1]


def test_with_an_oracle_estimator_idle_time_is_a_tenth_of_that_of_equal_batches() -> None:
    """Ten devices as in the papers: seconds per sample of computation and of 2 x 16 kB at 1 to 30 Mb/s."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        compute_s = 0.01 / rng.choice([0.5, 1.0, 1.6, 3.0], 10)
        sample_s = compute_s + 2 * 16_384 * 8 / rng.uniform(1e6, 30e6, 10)

        def idle(sizes: NDArray[np.int64], sample_s: NDArray[np.float64] = sample_s) -> float:
            times_s = sizes * sample_s
            return float(np.mean(1 - times_s / times_s.max()))

        assert idle(regulated_batches(sample_s, 64)) <= 0.1 * idle(np.full(10, 64))


def test_in_the_engine_regulated_devices_wait_far_less_than_those_with_equal_batches() -> None:
    """Devices differ by a factor of four; the testbed's jitter of 5 % is what the estimator cannot know.

    With batches of four samples, whole samples are too coarse to allow for bottoms that take longer than they do.
    """
    n_devices = 12
    regulated = small_testbed(MergeSfl(n_selected=6, counts_bottom=False), n_devices=n_devices).play(6)[1:]
    equal = small_testbed(SplitFed(n_selected=6), n_devices=n_devices).play(6)[1:]

    assert np.mean([idle_fraction(one) for one in regulated]) < 0.8 * np.mean([idle_fraction(one) for one in equal])


def test_the_first_round_goes_by_the_rates_that_boards_declare() -> None:
    """Rates are 1, 2 and 4 in turn, so floor(4 * rate / 4) samples; the budget of 40 has room for all six."""
    [first] = small_testbed(MergeSfl(divergence_bound=100.0), n_devices=6).play(1)

    assert {assignment.n_steps for assignment in first.plan.assignments.values()} == {2}
    assert batches(first.plan).items() <= {0: 1, 1: 2, 2: 4, 3: 1, 4: 2, 5: 4}.items()
    assert set(first.plan.assignments) == set(range(6))


def test_a_device_that_was_never_measured_counts_by_its_rate_at_what_the_others_make_of_theirs() -> None:
    """Devices 0 and 3 are alike, so what is expected of one that is away follows from the others within the jitter."""
    policy = MergeSfl(counts_bottom=False)
    small = small_testbed(policy, trouble=lambda index: {3: Status.UNAVAILABLE} if index == 0 else {})
    small.play_round()
    view = small.view()
    sample_s, _ = policy._expected_s(view, policy.form(view.model))

    assert view.available == tuple(range(6))
    assert sample_s[3] == pytest.approx(sample_s[0], rel=0.3)


def test_cohorts_have_no_cap_but_the_budget() -> None:
    [first] = small_testbed(MergeSfl(divergence_bound=100.0), n_devices=15).play(1)

    assert len(first.plan.assignments) == 15
    assert len(small_testbed(MergeSfl(n_selected=10), n_devices=15).play(1)[0].plan.assignments) <= 10


def test_batches_allow_for_the_bottom_s_transfer() -> None:
    # A full batch of the fastest takes 2 + 8 * 1 = 10 s: 8, (10 - 2) / 2 = 4, (10 - 9) / 1 = 1, and 0, which becomes 1.
    sizes = regulated_batches(np.array([1.0, 2.0, 1.0, 1.0]), 8, np.array([2.0, 2.0, 9.0, 11.0]))

    assert sizes.tolist() == [8, 4, 1, 1]


@given(st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.0, 50.0)), min_size=1, max_size=8))
def test_nobody_with_more_than_one_sample_is_expected_after_the_fastest(devices: list[tuple[float, float]]) -> None:
    sample_s, fixed_s = np.array(devices).T
    sizes = regulated_batches(sample_s, 16, fixed_s)
    ends_s = fixed_s + sizes * sample_s

    assert sizes.max() == 16
    assert (ends_s[sizes > 1] <= (fixed_s + 16 * sample_s).min() * (1 + 1e-6)).all()


def test_everybody_takes_one_step_before_anybody_is_chosen_where_the_server_probes() -> None:
    first, second = small_testbed(MergeSfl(start="probe", n_selected=3), n_devices=6).play(2)

    assert batches(first.plan) == dict.fromkeys(range(6), 4)
    assert {assignment.n_steps for assignment in first.plan.assignments.values()} == {1}
    assert len(second.plan.assignments) <= 3
    assert {assignment.n_steps for assignment in second.plan.assignments.values()} == {2}


def test_the_budget_holds_in_every_round() -> None:
    for played in small_testbed(MergeSfl(n_selected=6, ingress_batches=1.5), n_devices=6).play(6)[1:]:
        assert sum(batches(played.plan).values()) <= 1.5 * 4


def test_devices_that_took_part_often_make_room_for_others() -> None:
    played = small_testbed(MergeSfl(n_selected=3), n_devices=9).play(13)[1:]
    n_rounds = [sum(device in one.plan.assignments for one in played) for device in range(9)]

    # 12 rounds of 3 are 4 for each of the 9. By labels alone, the same few would be in nearly every round.
    assert min(n_rounds) > 0
    assert max(n_rounds) <= 2 * 4


def test_merged_labels_come_close_to_those_of_all() -> None:
    small = small_testbed(MergeSfl(n_selected=3, divergence_bound=0.0, waiting_fraction=0.0), n_devices=9)
    first, *later = small.play(6)
    histograms = np.stack([first.view.declared[device]["label_histogram"] for device in range(9)])
    shares, chosen, random = label_distributions(histograms), [], []
    for played in later:
        sizes = batches(played.plan)
        weights = np.array([sizes.get(device, 0) for device in range(9)], dtype=float)
        chosen.append(kl_divergence(mixtures(weights, shares), shares.mean(axis=0)))
        # The same batches on other devices.
        shuffled = np.stack([np.random.default_rng(seed).permutation(weights) for seed in range(50)])
        random.append(np.median(kl_divergence(mixtures(shuffled, shares), shares.mean(axis=0))))

    assert np.mean(chosen) < 0.5 * np.mean(random)


@given(st.lists(st.integers(1, 64), min_size=2, max_size=8), st.integers(0, 500))
def test_fine_tuning_lowers_the_divergence_and_keeps_to_its_slack(given_sizes: list[int], seed: int) -> None:
    sizes = np.array(given_sizes)
    shares = np.random.default_rng(seed).dirichlet([0.3] * 4, size=len(sizes)) + 1e-9
    shares /= shares.sum(axis=1, keepdims=True)
    reference = shares.mean(axis=0)
    tuned = fine_tuned(sizes, shares, reference, 0.25, 0.0)

    assert ((tuned <= sizes) & (tuned >= np.maximum(1, 0.75 * sizes))).all()
    before, after = (kl_divergence(mixtures(one.astype(float), shares), reference) for one in (sizes, tuned))
    assert after <= before


def test_batches_rise_and_fall_until_labels_are_balanced_and_no_further() -> None:
    """Two devices with a label each: they are balanced with equal batches."""
    labels, reference, ones = np.eye(2), np.array([0.5, 0.5]), np.ones(2)

    def tuned(sizes: list[int], most: list[int], budget: float, bound: float = 0.0) -> list[int]:
        found = retuned(np.array(sizes), np.array(most), labels, reference, ones, 0 * ones, budget, bound)
        return [int(size) for size in found]

    # A sample more for the first adds no time, as it waits for the second, and brings 3 : 6; one less brings 2 : 5.
    assert tuned([2, 6], [8, 8], 99.0) == [6, 6]
    assert tuned([2, 6], [2, 8], 99.0) == [2, 2]  # the first may not rise
    assert tuned([2, 6], [8, 8], 8.0) == [4, 4]  # by 2 : 5, 3 : 5, 3 : 4, as there is room for 8
    assert tuned([2, 6], [8, 8], 99.0, bound=1.0) == [2, 6]


@given(st.lists(st.integers(1, 16), min_size=2, max_size=6), st.integers(0, 200))
def test_retuning_keeps_to_its_limits_and_ends_below_the_bound_or_where_no_sample_helps(
    given_sizes: list[int], seed: int
) -> None:
    sizes, rng, bound = np.array(given_sizes), np.random.default_rng(seed), 0.01
    shares = rng.dirichlet([0.3] * 4, size=len(sizes)) + 1e-9
    shares /= shares.sum(axis=1, keepdims=True)
    reference, most, budget = shares.mean(axis=0), np.full(len(sizes), 16), float(sizes.sum() + 3)
    sample_s, fixed_s = rng.uniform(0.5, 2.0, len(sizes)), rng.uniform(0.0, 2.0, len(sizes))
    tuned = retuned(sizes, most, shares, reference, sample_s, fixed_s, budget, bound)

    def divergence(batch_sizes: NDArray[np.int64]) -> float:
        return float(kl_divergence(mixtures(batch_sizes.astype(float), shares), reference))

    assert ((tuned >= 1) & (tuned <= most)).all()
    assert tuned.sum() <= budget
    assert divergence(tuned) <= divergence(sizes)
    if divergence(tuned) > bound:
        for device in range(len(sizes)):
            for change in (1, -1):
                trial = tuned + change * np.eye(len(sizes), dtype=np.int64)[device]
                if 1 <= trial[device] <= 16 and trial.sum() <= budget:
                    assert divergence(trial) >= divergence(tuned) - 1e-9


def test_what_is_left_of_the_budget_makes_all_batches_larger() -> None:
    assert scaled_up(np.array([16, 8, 4]), full=64, budget=56.0).tolist() == [32, 16, 8]  # twice, by the budget
    assert scaled_up(np.array([16, 8, 4]), full=20, budget=56.0).tolist() == [20, 10, 5]  # 1.25, by the full batch
    assert scaled_up(np.array([64, 8]), full=64, budget=999.0).tolist() == [64, 8]


def test_a_device_is_measured_by_what_a_sample_took() -> None:
    _, played = small_testbed(MergeSfl(n_selected=6), n_devices=6).play(2)

    for device, assignment in played.plan.assignments.items():
        seen, n_samples = played.report.devices[device], assignment.n_steps * assignment.batch_size
        measured = capacity_per_sample(seen)
        assert measured is not None
        assert measured.forward_s == pytest.approx(seen.forward_s / n_samples)
        assert measured.backward_s_per_layer == pytest.approx(seen.backward_s / n_samples)
        assert measured.upload_s_per_byte == pytest.approx(seen.upload_s / seen.upload_bytes)


def test_a_device_that_ran_out_of_memory_gets_half_the_batch_at_most() -> None:
    policy = MergeSfl(n_selected=6)
    small = small_testbed(policy, n_devices=3, trouble=lambda index: {0: Status.OUT_OF_MEMORY} if index == 0 else {})
    small.play_round()

    assert all(batches(played.plan).get(0, 0) <= 2 for played in small.play(4))


def test_bottoms_are_weighted_by_their_batches() -> None:
    small = small_testbed(MergeSfl(n_selected=6), n_devices=6)
    played = small.play(3)[-1]
    name = "layers.0.query.lora_A"
    sizes = batches(played.plan)
    expected = sum(sizes[update.device_id] * update.payload[name].astype(float) for update in played.updates)

    assert len(set(sizes.values())) > 1
    assert played.after[name] == pytest.approx(expected / sum(sizes.values()), rel=1e-6)


def test_learning_rates_decay_to_a_floor_and_may_follow_the_batch() -> None:
    small = small_testbed(MergeSfl(rate_decay=0.1, rate_floor=0.05, scale_bottom_rate=True), n_devices=6)
    for index, played in enumerate(small.play(4)):
        rate = 1e-3 * max(0.05, 0.1**index)
        for assignment in played.plan.assignments.values():
            assert isinstance(assignment, CutAssignment)
            assert assignment.top_learning_rate == pytest.approx(rate)
            assert assignment.learning_rate == pytest.approx(rate * assignment.batch_size / 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smoothing": 1.5}, r"smoothing .* less than or equal to 1, got 1\.5"),
        ({"n_selected": 0}, "n_selected .* greater than or equal to 1, got 0"),
        ({"divergence_bound": -0.1}, r"divergence_bound .* greater than or equal to 0, got -0\.1"),
        ({"rank": 0}, "rank .* greater than or equal to 1, got 0"),
    ],
)
def test_impossible_parameters_are_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_policy("mergesfl", given)
