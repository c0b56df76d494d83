"""The bars of a round, and the heat maps of settings, unpacked as the page does it."""

import base64
from typing import Any

import numpy as np
import pytest

from emulator.report.packing import packed, thinned
from emulator.report.round_bars import KINDS, MOST_BARS, MOST_DEVICES, round_bars, shown_rounds
from emulator.report.settings_map import settings_map
from emulator.results.reader import RunFrames, load_run
from tests.unit.report.conftest import FAST, SLOW, MakeRun


def unpacked(array: dict[str, Any]) -> np.ndarray:
    kinds = {"u1": "<u1", "u2": "<u2", "i4": "<i4", "f4": "<f4"}
    return np.frombuffer(base64.b64decode(array["base64"]), kinds[array["kind"]]).reshape(array["shape"])


@pytest.fixture
def frames(make_run: MakeRun) -> RunFrames:
    return load_run(make_run("run"))


def test_packed_numbers_come_back() -> None:
    values = np.array([[1.5, np.nan], [0.0, -2.0]])

    assert np.array_equal(unpacked(packed(values, "f4")), values, equal_nan=True)


@pytest.mark.parametrize(("n_items", "most"), [(3, 5), (5, 5), (1000, 7), (1, 4), (0, 3)])
def test_thinning_keeps_the_ends(n_items: int, most: int) -> None:
    kept = thinned(n_items, most)

    assert len(kept) == min(n_items, most)
    assert n_items == 0 or (kept[0], kept[-1]) == (0, n_items - 1)


def test_bars_are_the_activities_of_the_round_from_its_beginning(frames: RunFrames) -> None:
    bars = round_bars(1, frames.rounds, frames.devices, frames.activities)
    found = sorted(
        zip(
            unpacked(bars["device"])[unpacked(bars["row"])],
            [KINDS[kind] for kind in unpacked(bars["kind"])],
            unpacked(bars["start_s"]),
            unpacked(bars["span_s"]),
            strict=True,
        )
    )

    assert len(found) == 4 * 4
    assert [bar[1:] for bar in sorted(found[:4], key=lambda bar: bar[2])] == [
        ("download", 0, 1),
        ("compute", 1, 2),
        ("upload", 3, 1),
        ("wait", 4, 6),
    ]
    assert bars["length_s"] == 10


def test_rows_go_by_type_and_then_by_waiting(frames: RunFrames) -> None:
    bars = round_bars(0, frames.rounds, frames.devices, frames.activities)

    assert bars["profiles"] == [SLOW, FAST]  # from the bottom, so that the page lists types from the top by name
    assert unpacked(bars["profile"]).tolist() == [0, 0, 1, 1]
    assert unpacked(bars["device"]).tolist() == [1, 3, 0, 2]


def test_shown_rounds_span_the_run(make_run: MakeRun) -> None:
    run = load_run(make_run("long", accuracy=[0.5] * 21))

    assert shown_rounds(run.rounds) == [0, 5, 10, 15, 20]


def test_of_many_devices_an_even_choice_is_drawn(frames: RunFrames) -> None:
    n = 4 * MOST_DEVICES
    devices = frames.devices.iloc[[0] * n].assign(device_id=np.arange(n), waiting_s=np.arange(n, dtype=float))
    bars = round_bars(0, frames.rounds, devices, frames.activities)

    assert len(bars["status"]) == MOST_DEVICES
    assert bars["n_devices"] == n


def test_of_devices_with_many_bars_fewer_are_drawn_and_each_is_whole(frames: RunFrames) -> None:
    often = frames.activities.loc[frames.activities["round_index"] == 0].iloc[np.arange(16).repeat(MOST_BARS // 8)]
    bars = round_bars(0, frames.rounds, frames.devices, often)

    # Twice as many bars as can be drawn, a quarter of them for each of four devices.
    assert len(bars["status"]) == 2
    assert bars["kind"]["shape"] == [MOST_BARS]


def test_settings_have_depth_and_mean_rank_of_adapted_layers(frames: RunFrames) -> None:
    found = settings_map(frames.devices)

    assert found["profiles"] == [FAST, SLOW]
    assert unpacked(found["device"]).tolist() == [0, 2, 1, 3]
    assert unpacked(found["round"]).tolist() == [0, 1, 2]
    # Fast devices have ranks 4 and 8, slow ones 0 and 8, of which only the 8 is an adapter.
    assert unpacked(found["depth"]).tolist() == [[2] * 3, [2] * 3, [1] * 3, [1] * 3]
    assert unpacked(found["rank"]).tolist() == [[6] * 3, [6] * 3, [8] * 3, [8] * 3]


def test_a_device_outside_the_cohort_is_blank(frames: RunFrames) -> None:
    devices = frames.devices.copy()
    idle = (devices["device_id"] == 2) & (devices["round_index"] == 1)
    devices["ranks"] = [[] if is_idle else ranks for is_idle, ranks in zip(idle, devices["ranks"], strict=True)]
    found = settings_map(devices)

    assert np.isnan(unpacked(found["depth"])[1]).tolist() == [False, True, False]
    assert np.isnan(unpacked(found["rank"])).sum() == 1
