"""The summary's figures against the closed form of the run by hand, and how they are shown."""

from typing import Any

import pytest
from rich.console import Console

from emulator.report.terminal.summary import render, summarise
from emulator.results.reader import RunFrames


def rendered(frames: RunFrames, width: int = 100, score: str | None = None) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(render(summarise(frames, score=score)))
    return capture.get()


def without_rows(frames: RunFrames) -> RunFrames:
    tables = ("rounds", "devices", "activities", "host")
    empty: dict[str, Any] = {table: getattr(frames, table).iloc[:0] for table in tables}
    return frames.replaced(**empty)


def test_figures_of_the_whole_run(frames: RunFrames) -> None:
    summary = summarise(frames)
    assert (summary.n_rounds, summary.n_devices, summary.emulated_s) == (3, 4, 60.0)
    assert (summary.final_score, summary.best_score, summary.majority_accuracy) == (0.75, 0.75, 0.25)
    assert summary.mean_waiting_s == pytest.approx((6 + 9.25 + 9.5) / 3)
    assert (summary.download_bytes, summary.upload_bytes) == (10_000, 9_000)
    assert summary.energy_j == 3 * 411 + 40 + 43 + 40
    assert (summary.n_out_of_memory, summary.n_dropped, summary.n_late, summary.n_unavailable) == (1, 1, 0, 0)
    assert summary.n_device_rounds == 3 + 4 + 4


def test_the_best_accuracy_may_be_before_the_last(frames: RunFrames) -> None:
    rounds = frames.rounds.assign(accuracy=[0.5, 0.9, 0.75])
    summary = summarise(frames.replaced(rounds=rounds))
    assert (summary.final_score, summary.best_score) == (0.75, 0.9)


def test_time_to_accuracy_is_that_of_the_first_evaluated_round_that_reaches_it(frames: RunFrames) -> None:
    # 0.5 after round 0 at 20 s, nothing measured after round 1, 0.75 after round 2 at 60 s.
    summary = summarise(frames, wanted=[0.3, 0.5, 0.55, 0.75, 0.8])
    assert summary.time_to_score_s == ((0.3, 20.0), (0.5, 20.0), (0.55, 60.0), (0.75, 60.0), (0.8, None))


def test_default_accuracies_are_multiples_of_a_twentieth_between_majority_and_best(frames: RunFrames) -> None:
    assert [wanted for wanted, _ in summarise(frames).time_to_score_s] == [0.6, 0.65, 0.7, 0.75]
    good_majority = frames.replaced(info=frames.info | {"majority_accuracy": 0.65})
    assert [wanted for wanted, _ in summarise(good_majority).time_to_score_s] == [0.7, 0.75]


def test_boards_without_power_figures_are_named_in_the_place_of_0_joules(frames: RunFrames) -> None:
    nobody = frames.devices.assign(energy_j=0.0)
    some = frames.devices.copy()
    first = str(some["profile"].iloc[0])
    some.loc[some["profile"] == first, "energy_j"] = 0.0

    assert "not known:" in rendered(frames.replaced(devices=nobody))
    assert "no power figures (0 W)" in rendered(frames.replaced(devices=nobody))
    assert "no power figures" not in rendered(frames)
    assert f"{first} ha" in rendered(frames.replaced(devices=some))


def test_times_count_from_the_start_of_the_run(frames: RunFrames) -> None:
    rounds = frames.rounds.assign(start_s=frames.rounds["start_s"] + 100, end_s=frames.rounds["end_s"] + 100)
    summary = summarise(frames.replaced(rounds=rounds))
    assert summary.emulated_s == 60.0
    assert summary.score_curve == ((20.0, 0.5), (60.0, 0.75))


def test_figures_by_device_type(frames: RunFrames) -> None:
    fast, slow = summarise(frames).profiles
    assert (fast.profile, slow.profile) == ("fast", "slow")
    # Device 2 in three rounds; device 3 in the two in which it is in the cohort, and in neither does it compute.
    assert (fast.n_devices, fast.n_device_rounds, fast.n_failed) == (2, 5, 2)
    assert fast.mean_compute_s == pytest.approx(3 * 4 / 5)
    assert fast.mean_waiting_s == pytest.approx((3 * 13 + 19 + 20) / 5)
    assert (fast.mean_depth, fast.min_depth, fast.max_depth) == (pytest.approx((3 * 3 + 2 * 4) / 5), 3, 4)
    assert fast.energy_j == 3 * 81 + 40 + 43 + 40
    assert (slow.n_device_rounds, slow.mean_compute_s, slow.mean_upload_s) == (6, (17 + 12) / 2, 2.0)


def test_wall_time_is_that_of_the_run_once_it_has_ended(frames: RunFrames) -> None:
    assert summarise(frames).wall_s == frames.info["wall_s"]
    running = frames.replaced(info={"status": "running"})
    # Each of the three rounds took the coordinator 1.25 s.
    assert summarise(running).wall_s == pytest.approx(3 * 1.25)


def test_a_run_without_rounds_has_a_summary(frames: RunFrames) -> None:
    empty = without_rows(frames).replaced(info={"status": "running"})
    summary = summarise(empty)
    assert (summary.n_rounds, summary.best_score, summary.mean_waiting_s, summary.wall_s) == (0, None, None, None)
    assert summary.profiles == summary.time_to_score_s == ()
    assert "not evaluated" in rendered(empty)


def test_the_summary_shows_the_figures_in_human_units(frames: RunFrames) -> None:
    text = rendered(frames)
    for expected in (
        "by-hand, seed 7, trained builtin:tiny-12, priced roberta-base: finished",
        "0.750 (best 0.750); majority class 0.250",
        "0.6 in 60.0 s",
        "10.0 kB down, 9.0 kB up",
        "1.4 kJ (0.4 Wh)",
        "1 out of memory, 1 dropped, 0 late, 0 unavailable",
    ):
        assert expected in text


def test_the_summary_says_why_a_run_failed(frames: RunFrames) -> None:
    failed = frames.replaced(info=frames.info | {"status": "failed", "error": "a host died"})
    assert "failed (a host died)" in rendered(failed)


def test_a_long_run_with_long_names_fits_into_80_columns(frames: RunFrames) -> None:
    devices = frames.devices.assign(
        profile=["jetson_xavier_nx", "jetson_agx_xavier", "jetson_tx2", "jetson_orin_nano"] * 3,
        waiting_s=123_456.0,
        compute_s=123_456.0,
        energy_j=1.5e8,
        depth=[10, 11, 12, 9] * 3,
    )
    lines = rendered(frames.replaced(devices=devices)).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    row = next(line.rstrip() for line in lines if line.startswith("jetson_xavier_nx"))
    assert "…" not in row
    assert row.endswith("450.0 MJ")


def test_a_device_type_that_was_never_in_the_cohort_has_no_means(frames: RunFrames) -> None:
    devices = frames.devices.assign(profile=["slow", "slow", "fast", "spare"] * 3)
    devices.loc[devices["profile"] == "spare", "status"] = "idle"
    row = next(line for line in rendered(frames.replaced(devices=devices)).splitlines() if line.startswith("spare"))
    assert row.split()[1:7] == ["1", "0", "–", "–", "–", "–"]


def test_a_run_that_is_not_evaluated_lacks_the_score_of_its_kind_of_task(frames: RunFrames) -> None:
    rounds = frames.rounds.assign(accuracy=float("nan"), loss=float("nan"))
    causal = frames.replaced(rounds=rounds, info=frames.info | {"config": {"task": {"kind": "causal"}}})

    lines = [line.split() for line in rendered(causal).splitlines()]
    assert ["token", "accuracy", "not", "evaluated"] in lines
    assert not any(line[:1] == ["accuracy"] for line in lines)


def test_the_other_scores_of_the_last_evaluated_round_are_shown(frames: RunFrames) -> None:
    # After round 1 nothing was evaluated.
    rounds = frames.rounds.assign(loss=[2.0, float("nan"), 1.25], mcc=[0.1, float("nan"), 0.5], own_score_mean=0.4)
    run = frames.replaced(rounds=rounds)

    assert summarise(run).other_scores == (("loss", 1.25), ("mcc", 0.5))
    assert "loss 1.250, Matthews correlation 0.500" in rendered(run)
    assert ("accuracy", 0.75) in summarise(run, score="mcc").other_scores


def test_a_run_without_accuracy_is_summed_up_by_what_people_quote_of_it(frames: RunFrames) -> None:
    rounds = frames.rounds.assign(accuracy=float("nan"), spearman=[0.1, 0.4, 0.31], mse=[3.0, 1.0, 2.0])
    run = frames.replaced(rounds=rounds)

    summary = summarise(run)
    assert (summary.score, summary.final_score, summary.best_score) == ("spearman", 0.31, 0.4)
    assert [value for value, _ in summary.time_to_score_s] == [0.25, 0.3, 0.35, 0.4]

    by_error = summarise(run, score="mse")
    assert (by_error.final_score, by_error.best_score, by_error.time_to_score_s) == (2.0, 1.0, ())
    shown = rendered(run, score="mse")
    assert "squared error" in shown
    assert "2.000 (best 1.000)" in shown
    assert "reached" not in shown
