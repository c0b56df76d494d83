"""Heterogeneity as a dial: a wider or narrower spread about the same mean."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_profiles.catalog import load_cluster
from device_profiles.records import PRECISIONS, ClusterSpec
from device_profiles.spreading import spread_about_mean, spread_compute, spread_memory


def rates(cluster: ClusterSpec, precision: str) -> list[float]:
    """The mean rate of each device over its modes."""
    return [float(np.mean([m.effective_flop_per_s[precision] for m in e.modes])) for e in cluster.entry_by_device]


def test_values_are_raised_to_a_power_and_brought_back_to_their_mean() -> None:
    spread = spread_about_mean([1.0, 4.0], 2.0)

    # 1 and 16, whose mean of 8.5 is to be 2.5.
    assert [1.0 * spread.factor(1.0), 4.0 * spread.factor(4.0)] == pytest.approx([5 / 17, 80 / 17], rel=1e-12)


def test_weights_say_how_often_a_value_occurs() -> None:
    weighted, repeated = spread_about_mean([1.0, 4.0], 2.0, [3, 1]), spread_about_mean([1.0, 1.0, 1.0, 4.0], 2.0)

    assert weighted.factor(4.0) == pytest.approx(repeated.factor(4.0), rel=1e-12)


@given(
    values=st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=20),
    heterogeneity=st.floats(0.0, 10.0),
)
def test_the_mean_stays_and_logarithms_are_spread_as_wide_as_asked(values: list[float], heterogeneity: float) -> None:
    spread = spread_about_mean(values, heterogeneity)
    logs, factors = np.log(values), np.log([spread.factor(value) for value in values])

    # Twenty logarithms of up to 35, ten times as wide, each known to 1e-13.
    assert np.average(np.exp(logs + factors)) == pytest.approx(np.average(values), rel=1e-9)
    assert np.ptp(logs + factors) == pytest.approx(heterogeneity * np.ptp(logs), abs=1e-9)


@pytest.mark.parametrize("heterogeneity", [0.0, 0.5, 2.0])
def test_a_cluster_s_speeds_are_spread_about_the_mean_over_its_devices(heterogeneity: float) -> None:
    cluster = load_cluster("jetson80")

    changed = spread_compute(cluster, heterogeneity)

    for precision in PRECISIONS:
        assert np.mean(rates(changed, precision)) == pytest.approx(np.mean(rates(cluster, precision)), rel=1e-12)
        every = [
            (old.effective_flop_per_s[precision], new.effective_flop_per_s[precision])
            for before, after in zip(cluster.entries, changed.entries, strict=True)
            for old, new in zip(before.modes, after.modes, strict=True)
        ]
        old, new = np.log(every).T
        assert np.ptp(new) == pytest.approx(heterogeneity * np.ptp(old), abs=1e-12)


def test_what_a_policy_is_told_of_a_board_follows_its_modes() -> None:
    for entry in spread_compute(load_cluster("jetson80"), 2.0).entries:
        assert [entry.profile.mode(mode.name) for mode in entry.modes] == list(entry.modes)


def test_a_cluster_s_memory_is_spread_about_the_mean_over_its_devices() -> None:
    cluster = load_cluster("jetson80")

    alike, wide = spread_memory(cluster, 0.0), spread_memory(cluster, 2.0)

    before, after = (
        np.array([entry.profile.usable_memory_bytes for entry in each.entry_by_device]) for each in (cluster, wide)
    )
    assert after.mean() == pytest.approx(before.mean(), rel=1e-9)  # whole bytes
    assert np.ptp(np.log(after)) == pytest.approx(2 * np.ptp(np.log(before)), rel=1e-9)
    assert {entry.profile.usable_memory_bytes for entry in alike.entries} == {round(before.mean())}
    for entry in wide.entries:
        assert entry.profile.usable_memory_bytes <= entry.profile.memory_bytes


def test_with_one_all_stays() -> None:
    cluster = load_cluster("jetson80")

    assert replace(spread_memory(cluster, 1.0), provenance={}) == replace(cluster, provenance={})
