"""The power law is fitted to some of the published loads and within 10 % on those that the fit does not know."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.world.power import (
    Comparison,
    LoadPoint,
    comparisons,
    drawn_w,
    fit_awake_share,
    power_law,
    published_share,
    table,
)
from device_profiles.catalog import load_profile

README = Path(__file__).parents[2] / "device_profiles" / "README.md"
MOST_ERROR_FRACTION = 0.1
STATED_SHARE = 0.27  # in the notes of the profiles and in README.md
PUBLISHED = comparisons()


def test_the_share_of_a_closed_form_is_found_again() -> None:
    load = LoadPoint(idle_w=5, full_w=25, arithmetic_share=0, bytes_per_s=1e10, power_w=0)
    # 5 W at rest, 20 W of load of which 0.3 at once, and 0.54 W for 10 GB/s
    measured = [
        replace(load, arithmetic_share=share, power_w=5 + 20 * (0.3 + 0.7 * share) + 0.54) for share in (0.1, 0.6, 1)
    ]
    assert fit_awake_share(measured) == pytest.approx(0.3)
    assert [drawn_w(point, 0.3) for point in measured] == pytest.approx([point.power_w for point in measured])


def test_full_loads_alone_tell_no_share() -> None:
    with pytest.raises(ValueError, match="below the full one"):
        fit_awake_share([LoadPoint(idle_w=5, full_w=25, arithmetic_share=1, bytes_per_s=0, power_w=25)])


def test_the_profiles_have_the_share_that_fits() -> None:
    share = published_share()
    assert share == pytest.approx(STATED_SHARE, abs=0.005)
    for name in ("jetson_agx_orin_64gb", "jetson_agx_orin_32gb"):
        for mode in load_profile(name).power_modes:
            law = mode.power_law
            assert law is not None
            load_w = {precision: law.awake_w + watts - mode.idle_w for precision, watts in law.arithmetic_w.items()}
            expected = power_law(mode.idle_w, load_w, share, mode.memory_bytes_per_s)
            assert law.awake_w == pytest.approx(expected.awake_w, abs=0.15), (name, mode.name)
            assert law.memory_w == pytest.approx(expected.memory_w, abs=0.06), (name, mode.name)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: f"{each.load} in {each.mode}")
def test_published_loads_are_met(published: Comparison) -> None:
    most = {"fit": 0.01, "check": MOST_ERROR_FRACTION}[published.use]
    assert abs(published.error_fraction) <= most


def test_more_loads_are_checked_than_fitted_to() -> None:
    assert [each.use for each in PUBLISHED].count("fit") == 2
    assert [each.use for each in PUBLISHED].count("check") == 5


def test_full_tensor_load_is_what_the_board_was_measured_at() -> None:
    for name in ("jetson_agx_orin_64gb", "jetson_agx_orin_32gb"):
        for mode in load_profile(name).power_modes:
            assert mode.computing_w("amp", 1.0, 0.0) == pytest.approx(mode.compute_w, abs=0.11), (name, mode.name)


def test_readme_shows_the_table_that_comes_out() -> None:
    assert table() in README.read_text(encoding="utf-8")
