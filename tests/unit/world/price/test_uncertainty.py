"""The texts in which profiles state how far a figure may be off are read as bounds."""

import tomllib
from pathlib import Path

import pytest

import device_profiles
from device_profiles.catalog import load_profile, profile_names
from emulator.world.price.uncertainty import bounds

PROFILES = Path(device_profiles.__file__).parent


@pytest.mark.parametrize(
    ("uncertainty", "low", "high"),
    [
        ("±15 %", 8.5, 11.5),
        ("±0.5 GiB", 9.5, 10.5),
        ("±1 W", 9, 11),
        ("×/÷ 2", 5, 20),
        ("×/÷ 2.5", 4, 25),
        ("0.02 to 0.15", 0.02, 0.15),
        ("", 10, 10),
        ("nobody knows", 10, 10),
        ("±200 %", 0, 30),
    ],
)
def test_a_text_is_read_as_bounds_about_the_figure(uncertainty: str, low: float, high: float) -> None:
    assert bounds(10, uncertainty) == pytest.approx((low, high))


def test_every_uncertainty_of_a_built_in_profile_is_understood() -> None:
    for name in profile_names():
        figures = tomllib.loads((PROFILES / f"{name}.toml").read_text(encoding="utf-8"))["device"]
        for key, origin in load_profile(name).provenance.items():
            if origin.uncertainty:
                value = figures.get(key, 10)  # whatever a share is one of
                low, high = bounds(value, origin.uncertainty)
                assert low < value < high, (name, key, origin.uncertainty)
