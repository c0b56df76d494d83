"""How heterogeneous devices are, on tables by hand."""

import math
from collections.abc import Sequence

import pandas as pd
import pytest

from emulator.analysis import heterogeneity


def table(*rows: tuple[int, str, float]) -> pd.DataFrame:
    """Device, status, and a time that is split over download, computation and upload."""
    return pd.DataFrame(
        [
            {"device_id": device, "status": status, "download_s": t / 4, "compute_s": t / 2, "upload_s": t / 4}
            for device, status, t in rows
        ]
    )


def test_devices_that_are_alike_and_in_time_have_a_score_of_one() -> None:
    found = heterogeneity(table(*((device, "ok", 40.0) for device in range(7))))

    assert found == {"device_time_variation": 0.0, "devmc_r": 1.0, "devmc_t": 1 + 40 / 20, "intermc_r": 1.0}


def test_a_device_that_is_never_in_time_has_no_successes() -> None:
    found = heterogeneity(table((0, "ok", 120.0), (1, "late", 240.0)))

    assert found["device_time_variation"] == pytest.approx(60 / 180)
    assert found["devmc_r"] == found["intermc_r"] == pytest.approx(math.log(601) / math.log(1201))
    assert found["devmc_t"] == pytest.approx(1 + (120 + 0.8 * 120) / 20)


@pytest.mark.parametrize("status", ["unavailable", "dropped", "out_of_memory"])
def test_who_is_away_or_lost_counts_where_devices_and_states_meet_alone(status: str) -> None:
    found = heterogeneity(table((0, "ok", 10.0), (0, status, 3.0), (0, "idle", 0.0), (1, "ok", 10.0)))

    assert (found["device_time_variation"], found["devmc_r"], found["devmc_t"]) == (0.0, 1.0, 1.5)
    assert found["intermc_r"] == pytest.approx(math.log(1 + 600 * 1.5) / math.log(1 + 600 * 2))


@pytest.mark.parametrize("is_asked", [False, True])
def test_without_an_update_there_is_no_time_and_whoever_was_asked_has_failed(is_asked: bool) -> None:
    rows = [(0, "out_of_memory", 0.0), (1, "unavailable", 0.0)] if is_asked else [(0, "idle", 0.0)]

    found = heterogeneity(table(*rows))

    assert found.pop("intermc_r") == (0.0 if is_asked else None)
    assert set(found.values()) == {None}


def test_times_of_nothing_do_not_vary() -> None:
    assert heterogeneity(table((0, "ok", 0.0)))["device_time_variation"] is None


def played(times_s: Sequence[float], n_rounds: int) -> tuple[float, float]:
    """Rounds of all devices as FLHetBench plays them where 20 or fewer are there: successes, and when it is over."""
    successes, now_s = 0, 0.0
    for _ in range(n_rounds):
        now_s += 20.0
        successes += sum(t <= 120.0 for t in times_s)
        now_s += float(pd.Series(times_s).quantile(0.8))
    return successes, now_s


def test_scores_are_those_of_the_process_that_they_stand_for() -> None:
    times_s = [10.0, 30.0, 119.0, 121.0, 400.0]
    found = heterogeneity(table(*((device, "ok", t) for device, t in enumerate(times_s))))

    successes, end_s = played(times_s, 600)

    assert found["devmc_r"] == pytest.approx(math.log(successes + 1) / math.log(600 * 5 + 1))
    assert found["devmc_t"] == pytest.approx(end_s / (600 * 20.0))
