"""Links: range, mean, variation and correlation of the rates, and what they may depend on."""

from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.link_kinds.fluctuation import Fluctuation, log_normal
from device_profiles.link_kinds.log_normal import LogNormalLink
from device_profiles.link_kinds.replay import RateTrace
from device_profiles.link_kinds.trace import TraceLink
from device_profiles.link_kinds.wifi_rings import Ring, WifiRings
from emulator.seeds import Seeds
from emulator.world.network.links import Links

NEAR = Ring(name="near", distance_m=2, min_bytes_per_s=8e5, max_bytes_per_s=1e6)
FAR = Ring(name="far", distance_m=20, min_bytes_per_s=1e5, max_bytes_per_s=2e5)
WIFI = WifiRings(
    name="wifi",
    rings=(NEAR, FAR),
    fluctuation=Fluctuation(
        download_variation_fraction=0.4,
        upload_variation_fraction=0.2,
        round_correlation=0.8,
        min_bytes_per_s=1.0,
        max_bytes_per_s=1e12,
    ),
    latency_s=0.01,
    provenance={},
    sha256="",
)
CONSTANT = ConstantLink(
    name="constant", download_bytes_per_s=2e5, upload_bytes_per_s=1e5, latency_s=0.5, provenance={}, sha256=""
)
Spec = TypeVar("Spec", WifiRings, LogNormalLink)
N_DEVICES, N_ROUNDS = 400, 60


def fluctuating(spec: Spec, **changes: float) -> Spec:
    return replace(spec, fluctuation=replace(spec.fluctuation, **changes))


def rates_over_rounds(spec: LinkSpec = WIFI, n_devices: int = N_DEVICES, seed: int = 0) -> NDArray[np.float64]:
    """Rates of shape ``(2, rounds, devices)``: download, upload."""
    links = Links([spec] * n_devices, Seeds(seed))
    drawn = [links.rates(round_index) for round_index in range(N_ROUNDS)]
    return np.array([[rates.down_bytes_per_s for rates in drawn], [rates.up_bytes_per_s for rates in drawn]])


def log_deviates(spec: WifiRings) -> NDArray[np.float64]:
    """The standard normal deviates that the rates were made of, shape ``(2, rounds, devices)``."""
    still = fluctuating(spec, download_variation_fraction=0.0, upload_variation_fraction=0.0)
    factors = rates_over_rounds(spec) / rates_over_rounds(still)
    how = spec.fluctuation
    variance = np.log1p(np.array([how.download_variation_fraction, how.upload_variation_fraction]) ** 2)
    scale = np.sqrt(variance)[:, None, None]
    return np.asarray(np.log(factors) / scale + scale / 2)


def test_a_constant_link_has_its_rates_always() -> None:
    links = Links([CONSTANT] * 3, Seeds(0))

    for round_index in (0, 9):
        rates = links.rates(round_index)
        assert rates.down_bytes_per_s.tolist() == [2e5] * 3
        assert rates.up_bytes_per_s.tolist() == [1e5] * 3
    assert links.latency_s.tolist() == [0.5] * 3


def test_mean_rates_are_spread_over_the_range_of_the_ring_that_a_device_is_in() -> None:
    still = fluctuating(WIFI, download_variation_fraction=0.0, upload_variation_fraction=0.0)

    down, up = rates_over_rounds(still)

    assert np.array_equal(down, up)
    for offset, ring in enumerate((NEAR, FAR)):  # rings take turns over device ids
        means = down[0, offset::2]
        # 200 uniform draws: P(none in the lowest or highest tenth) = 2 * 0.9^200 = 1e-9.
        tenth = (ring.max_bytes_per_s - ring.min_bytes_per_s) / 10
        assert ring.min_bytes_per_s <= means.min() <= ring.min_bytes_per_s + tenth
        assert ring.max_bytes_per_s - tenth <= means.max() <= ring.max_bytes_per_s


@pytest.mark.parametrize(("direction", "variation"), [(0, 0.4), (1, 0.2)])
def test_rates_fluctuate_about_their_mean_with_the_given_variation(direction: int, variation: float) -> None:
    still = fluctuating(WIFI, download_variation_fraction=0.0, upload_variation_fraction=0.0)
    factors = rates_over_rounds()[direction] / rates_over_rounds(still)[direction]

    # 24,000 values of correlation 0.8 are worth 24,000 * (1 - 0.8) / (1 + 0.8) = 2,667 independent ones: the mean's
    # standard error is variation / 51.6, the deviation's about variation / 73 times 1.5 for the log-normal's long tail.
    assert factors.mean() == pytest.approx(1.0, abs=5 * variation / 51.6)
    assert factors.std() == pytest.approx(variation, rel=5 * 1.5 / 73)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_the_logarithm_of_a_rate_is_correlated_from_round_to_round(correlation: float) -> None:
    deviates = log_deviates(fluctuating(WIFI, round_correlation=correlation))

    for lag in (1, 2):
        measured = (deviates[:, lag:] * deviates[:, :-lag]).mean() / (deviates**2).mean()
        # Bartlett's bound for AR(1) over 48,000 values: sqrt((1 + 0.8²) / (1 - 0.8²) / 48,000) = 0.0097.
        assert measured == pytest.approx(correlation**lag, abs=5 * 0.0097)


def test_the_first_round_fluctuates_as_much_as_later_ones() -> None:
    deviates = log_deviates(WIFI)

    # The process starts in its stationary state, of deviation 1 by definition; standard error 1 / sqrt(2 * 800).
    assert deviates[:, 0].std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * 800))
    assert deviates[:, 40].std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * 800))


def test_download_and_upload_fluctuate_independently() -> None:
    down, up = log_deviates(fluctuating(WIFI, round_correlation=0.0))

    # 24,000 pairs: standard error 1 / sqrt(24,000) = 0.0065.
    assert abs((down * up).mean()) < 5 * 0.0065


def test_rates_are_clipped_to_the_published_range() -> None:
    rates = rates_over_rounds(fluctuating(WIFI, min_bytes_per_s=1.5e5, max_bytes_per_s=9e5))

    assert (rates.min(), rates.max()) == (1.5e5, 9e5)


def test_rates_do_not_depend_on_the_order_in_which_rounds_are_asked_for() -> None:
    forwards, jumping = Links([WIFI] * 5, Seeds(0)), Links([WIFI] * 5, Seeds(0))
    expected = [forwards.rates(round_index) for round_index in range(6)]

    for round_index in (3, 0, 5, 5, 2):
        rates = jumping.rates(round_index)
        assert np.array_equal(rates.down_bytes_per_s, expected[round_index].down_bytes_per_s)
        assert np.array_equal(rates.up_bytes_per_s, expected[round_index].up_bytes_per_s)


def test_what_is_given_out_does_not_change_when_later_rounds_are_drawn() -> None:
    links = Links([WIFI] * 5, Seeds(0))
    first = links.rates(0)
    copy = first.down_bytes_per_s.copy()
    links.rates(7)

    assert np.array_equal(first.down_bytes_per_s, copy)


@pytest.mark.parametrize("direction", [0, 1], ids=["download", "upload"])
def test_more_devices_leave_the_rates_of_the_others_alone(direction: int) -> None:
    few, many = rates_over_rounds(n_devices=5)[direction], rates_over_rounds(n_devices=9)[direction]

    assert np.array_equal(few, many[:, :5])


def test_devices_with_other_links_do_not_disturb_one_another() -> None:
    mixed = Links([WIFI, CONSTANT, WIFI], Seeds(0)).rates(4).up_bytes_per_s
    alike = Links([WIFI, WIFI, WIFI], Seeds(0)).rates(4).up_bytes_per_s

    assert mixed.tolist() == [alike[0], 1e5, alike[2]]


def test_another_seed_draws_other_rates() -> None:
    assert not np.array_equal(rates_over_rounds(seed=0), rates_over_rounds(seed=1))


LOG_NORMAL = LogNormalLink(
    name="users",
    download_bytes_per_s=4e5,
    upload_bytes_per_s=1e5,
    device_variation_fraction=0.5,
    fluctuation=Fluctuation(
        download_variation_fraction=0.0,
        upload_variation_fraction=0.2,
        round_correlation=0.0,
        min_bytes_per_s=1.0,
        max_bytes_per_s=1e12,
    ),
    latency_s=0.01,
    provenance={},
    sha256="",
)


def test_log_normal_links_differ_from_device_to_device_by_the_same_factor_both_ways() -> None:
    down, up = rates_over_rounds(fluctuating(LOG_NORMAL, upload_variation_fraction=0.0))

    assert np.ptp(down, axis=0).max() == 0.0  # without variation from round to round
    assert down[0] / 4e5 == pytest.approx(up[0] / 1e5, rel=1e-12)
    # 400 devices: the mean's standard error is 0.5 / 20; the deviation's about 0.5 / sqrt(800) times 2 for the tail.
    assert (down[0] / 4e5).mean() == pytest.approx(1.0, abs=5 * 0.5 / 20)
    assert (down[0] / 4e5).std() == pytest.approx(0.5, rel=5 * 2 / np.sqrt(800))


def test_log_normal_links_fluctuate_about_each_device_s_mean() -> None:
    still, moving = (
        rates_over_rounds(fluctuating(LOG_NORMAL, upload_variation_fraction=0.0))[1],
        rates_over_rounds(LOG_NORMAL)[1],
    )

    # 24,000 independent factors.
    assert (moving / still).std() == pytest.approx(0.2, rel=5 * 1.5 / np.sqrt(48_000))


def steps(*rates: float) -> RateTrace:
    n = len(rates)
    return RateTrace(start_s=np.arange(n, dtype=float), bytes_per_s=np.array(rates, float), period_s=float(n))


TRACE = TraceLink(
    name="trace",
    download=steps(*range(1, 101)),
    upload=steps(*range(10, 60, 10)),
    latency_s=0.0,
    provenance={},
    sha256="",
)


def test_traces_begin_at_steps_drawn_from_the_seed_the_same_share_of_the_way_both_ways() -> None:
    rates = Links([TRACE] * 200, Seeds(0)).rates(0)

    first_step = rates.down_bytes_per_s.astype(int) - 1
    # 200 of 100 steps: P(fewer than 70 different ones) is far below 1e-9.
    assert len(set(first_step)) > 70
    assert (rates.up_bytes_per_s / 10 - 1).tolist() == (first_step // 20).tolist()
    other = Links([TRACE] * 200, Seeds(1)).rates(0)
    assert not np.array_equal(rates.down_bytes_per_s, other.down_bytes_per_s)


def test_the_rates_of_a_round_on_traces_are_those_at_its_beginning() -> None:
    links = Links([CONSTANT, TRACE, WIFI], Seeds(0))
    now, later = links.rates(0, 0.0), links.rates(1, 7.0)

    assert (later.down_bytes_per_s[1] - now.down_bytes_per_s[1]) % 100 == 7
    assert now.down_bytes_per_s[2] == Links([CONSTANT, CONSTANT, WIFI], Seeds(0)).rates(0).down_bytes_per_s[2]


def test_a_log_normal_factor_without_variation_is_exactly_one() -> None:
    assert log_normal(0.0, np.array([-3.0, 0.0, 3.0])).tolist() == [1.0, 1.0, 1.0]


def test_heterogeneity_spreads_mean_rates_about_the_mean_of_all_devices() -> None:
    slow, fast = CONSTANT, replace(CONSTANT, name="fast", download_bytes_per_s=8e5, upload_bytes_per_s=1e5)

    rates = Links([slow, fast], Seeds(0), heterogeneity=2.0).rates(0)

    # 2 and 8 become 4 and 64 by their squares, and 34 is to be 5 in the mean; uploads are alike.
    assert rates.down_bytes_per_s == pytest.approx([1e5 * 4 * 5 / 34, 1e5 * 64 * 5 / 34], rel=1e-12)
    assert rates.up_bytes_per_s == pytest.approx([1e5, 1e5], rel=1e-12)


def test_without_heterogeneity_devices_differ_by_what_fluctuates_alone() -> None:
    still = fluctuating(WIFI, download_variation_fraction=0.0, upload_variation_fraction=0.0)
    means = Links([still] * 8, Seeds(0)).rates(0).down_bytes_per_s

    rates = Links([still] * 8, Seeds(0), heterogeneity=0.0).rates(0).down_bytes_per_s

    assert rates == pytest.approx(np.full(8, means.mean()), rel=1e-12)


def test_rates_that_change_within_a_round_are_spread_as_well() -> None:
    links, wide = Links([TRACE, CONSTANT], Seeds(0)), Links([TRACE, CONSTANT], Seeds(0), heterogeneity=0.0)
    plain, scaled = links.replays[0][0], wide.replays[0][0]
    # Means of 50.5 and 2e5 bytes/s become the same.
    factor = (50.5 + 2e5) / 2 / 50.5

    assert wide.rates(0).down_bytes_per_s[0] == pytest.approx(factor * links.rates(0).down_bytes_per_s[0], rel=1e-12)
    assert next(scaled.steps(3.5)) == pytest.approx((factor * next(plain.steps(3.5))[0], 4.0), rel=1e-12)
    assert scaled.carried_bytes(3.5, 9.0) == pytest.approx(factor * plain.carried_bytes(3.5, 9.0), rel=1e-12)
    assert scaled.duration_s(3.5, factor * 500) == pytest.approx(plain.duration_s(3.5, 500), rel=1e-12)
