"""When devices can be reached: against closed forms, the same in every run, and independent of how many there are."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.config import AvailabilityConfig
from emulator.errors import ConfigError
from emulator.running.inputs import availability_of, trace_sha256
from emulator.seeds import Seeds
from emulator.world.availability import Always, Availability, DropOuts, OnOff, Trace
from emulator.world.availability_trace import read_trace


def changes_s(availability: Availability, device_id: int, until_s: float) -> list[float]:
    """When the device changes between on and off, found by asking at each change of any device."""
    found, now_s, was_on = [], 0.0, availability.until_s(0.0)[device_id] > 0
    while now_s < until_s:
        later = [*availability.until_s(now_s), availability.next_s(now_s)]
        now_s = min(moment for moment in later if moment > now_s)
        is_on = availability.until_s(now_s)[device_id] > now_s
        if is_on != was_on:
            found.append(now_s)
        was_on = is_on
    return found


def test_always_is_always() -> None:
    assert (Always(3).until_s(1e9) == math.inf).all()
    assert Always(3).next_s(0.0) == math.inf


def test_on_off_is_on_for_its_share_of_the_time_in_spans_of_its_means() -> None:
    availability = OnOff(400, mean_on_s=30.0, mean_off_s=10.0, seeds=Seeds(0))
    on = [(availability.until_s(now_s) > now_s).mean() for now_s in np.arange(0, 4000, 40.0)]

    # 400 devices at 100 moments are at least 400 * 10 independent looks: 3 deviations are 3 * sqrt(0.19 / 4000) = 0.02.
    assert np.mean(on) == pytest.approx(30 / 40, abs=0.02)
    # In its steady state from the first moment: 3 deviations over 400 devices are 0.065.
    assert on[0] == pytest.approx(30 / 40, abs=0.065)


def test_spans_on_and_off_have_their_means() -> None:
    availability = OnOff(1, mean_on_s=30.0, mean_off_s=10.0, seeds=Seeds(1))
    starts_on = availability.until_s(0.0)[0] > 0
    lengths = np.diff(changes_s(availability, 0, until_s=80_000))
    first_on = 1 if starts_on else 0  # the first full span follows on the first change

    # About 2,000 spans of each kind: 4 deviations are 9 % of the mean.
    assert lengths[first_on::2].mean() == pytest.approx(30, rel=0.09)
    assert lengths[1 - first_on :: 2].mean() == pytest.approx(10, rel=0.09)


def test_a_device_s_times_do_not_depend_on_how_many_others_there_are_nor_on_when_it_is_asked() -> None:
    few, many = (OnOff(n_devices, 20.0, 20.0, Seeds(2)) for n_devices in (2, 5))
    rarely = OnOff(2, 20.0, 20.0, Seeds(2))

    for now_s in np.arange(0, 500, 7.0):
        assert few.until_s(now_s).tolist() == many.until_s(now_s)[:2].tolist()
    assert rarely.until_s(497.0).tolist() == few.until_s(497.0).tolist()


def test_next_is_when_the_first_one_comes_back() -> None:
    availability = OnOff(3, mean_on_s=1.0, mean_off_s=50.0, seeds=Seeds(3))
    now_s = next(now_s for now_s in np.arange(0.0, 100, 0.5) if not (availability.until_s(now_s) > now_s).any())
    next_s = availability.next_s(now_s)

    assert next_s > now_s
    assert (availability.until_s(next_s) > next_s).sum() == 1


def test_a_trace_is_followed_from_start_up_to_end() -> None:
    trace = Trace(3, {0: [(0, 10), (20, 30)], 1: [(5, 25)], 7: [(0, 1)]})

    assert trace.until_s(0.0).tolist() == [10, -math.inf, -math.inf]
    assert trace.until_s(5.0).tolist() == [10, 25, -math.inf]
    assert trace.until_s(10.0).tolist() == [-math.inf, 25, -math.inf]
    assert trace.until_s(20.0).tolist() == [30, 25, -math.inf]
    assert (trace.next_s(0.0), trace.next_s(10.0), trace.next_s(20.0)) == (5, 20, math.inf)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_drop_outs_are_those_of_the_seed_whatever_the_number_of_devices(seed: int, fraction: float) -> None:
    few, many = (DropOuts(n_devices, fraction, Seeds(seed)).shares(3) for n_devices in (4, 9))

    assert few == {device_id: share for device_id, share in many.items() if device_id < 4}
    assert all(0 <= share < 1 for share in many.values())


def test_as_many_drop_out_as_is_asked_for() -> None:
    drop_outs = DropOuts(100, 0.3, Seeds(0))
    n_lost = sum(len(drop_outs.shares(round_index)) for round_index in range(100))

    # 10,000 draws: 4 deviations are 4 * sqrt(0.21 / 10,000) = 0.018.
    assert n_lost / 10_000 == pytest.approx(0.3, abs=0.018)


def test_nobody_drops_out_unless_asked() -> None:
    assert DropOuts(100, 0.0, Seeds(0)).shares(0) == {}


TEXT = "# a comment\ndevice_id, start_s, end_s\n1, 5, 25\n0, 20, 30  # late\n0, 0, 10\n0, 8, 12\n"


def test_a_text_trace_is_sorted_and_its_overlaps_joined(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TEXT)
    (tmp_path / "trace.txt").write_text("end_s start_s device_id\n25 5 1\n30 20 0\n12 0 0\n")

    assert read_trace(tmp_path / "trace.csv").by_device == {0: [(0, 12), (20, 30)], 1: [(5, 25)]}
    assert read_trace(tmp_path / "trace.txt") == read_trace(tmp_path / "trace.csv")


def test_a_parquet_trace_is_read_alike(tmp_path: Path) -> None:
    columns = {"device_id": [1, 0, 0], "start_s": [5.0, 0.0, 20.0], "end_s": [25.0, 12.0, 30.0], "note": ["", "", ""]}
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")

    assert read_trace(tmp_path / "trace.parquet").by_device == {0: [(0, 12), (20, 30)], 1: [(5, 25)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no span"),
        (
            "device start end\n0 1 2\n",
            "line 1: must name the columns device_id, start_s, end_s, got 'device start end'",
        ),
        ("device_id,start_s,end_s\n0,1\n", "line 2: must have 3 numbers, got '0,1'"),
        ("device_id,start_s,end_s\n0,1,x\n", "line 2: device_id, start_s, end_s must be numbers"),
        ("device_id,start_s,end_s\n0,2,2\n", "lists no span"),
        ("device_id,start_s,end_s\n0,2,1\n", "line 2: start_s must be at least 0 and not after end_s"),
        ("device_id,start_s,end_s\n0,-1,1\n", "line 2: start_s must be at least 0 and not after end_s"),
        ("device_id,start_s,end_s\n0,0,inf\n", "which must be at most 1e+15, got 0.0, inf"),
        ("device_id,start_s,end_s\n\n1e400,0,5\n", "line 3: device_id must be a whole number of at least 0, got inf"),
        ("device_id,start_s,end_s\n100,0,5\n", "lists none of the devices 0 to 2, got 100"),
        (
            "device_id,start_s,end_s\n0,2400000,2400600\n2,2400050,2400900\n",
            "can reach nobody before 2,400,000 s, more than a day after the run begins; if its times count from "
            "another moment, set testbed.availability.origin_s = 2400000",
        ),
        ("device_id,start_s,end_s\n0.5,1,2\n", "line 2: device_id must be a whole number of at least 0, got 0.5"),
        ("device_id,start_s,end_s\nnan,1,2\n", "line 2: device_id must be a whole number of at least 0, got nan"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)

    with pytest.raises(ConfigError) as refused:
        availability_of(AvailabilityConfig(kind="trace", trace=str(path)), 3, Seeds(0))
    assert str(refused.value).startswith(f"testbed.availability.trace: {path}")
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet", "broken.parquet"])
def test_a_trace_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_text("no")

    with pytest.raises(ConfigError, match=rf"testbed.availability.trace: .*{name}"):
        availability_of(AvailabilityConfig(kind="trace", trace=str(tmp_path / name)), 3, Seeds(0))


def made(path: Path, origin_s: float | str, n_devices: int = 4) -> Availability:
    config = AvailabilityConfig(kind="trace", trace=str(path), origin_s=origin_s)  # type: ignore[arg-type]
    return availability_of(config, n_devices, Seeds(0))


def test_a_run_begins_at_the_origin_of_its_trace_and_what_was_before_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text("device_id,start_s,end_s\n0,2400000,2400600\n2,2400050,2400900\n9,5,6\n")

    first = made(path, "first")  # the first moment of the run's own devices
    later = made(path, 2400100.0)

    assert first.until_s(0.0).tolist() == [600, -math.inf, -math.inf, -math.inf]
    assert first.next_s(0.0) == 50
    assert later.until_s(0.0).tolist() == [500, -math.inf, 800, -math.inf]
    with pytest.raises(
        ConfigError, match=r"ends before testbed.availability.origin_s = 9,000,000 s; .* at 2,400,900 s"
    ):
        made(path, 9e6)


def test_devices_that_a_trace_does_not_know_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text('"device_id";"start_s";"end_s"\n0;0;500\n1;100;100\n7;0;5\n')

    assert made(path, 0.0).notes == (
        "some.csv never has 3 of 4 devices: 1 to 3",
        "some.csv has 1 more devices than the run's 4, which are left out",
        "some.csv: 1 spans that end as they begin are left out",
    )


def test_a_trace_may_begin_with_a_mark_and_end_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    pq.write_table(pa.table({"device_id": [0], "start_s": [0.0], "end_s": [5.0]}), tmp_path / "trace.PARQUET")

    assert read_trace(tmp_path / "trace.csv").by_device[1] == [(5, 25)]
    assert read_trace(tmp_path / "trace.PARQUET").by_device == {0: [(0, 5)]}


def test_a_parquet_file_of_texts_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"device_id": ["0"], "start_s": [0.0], "end_s": [5.0]}), tmp_path / "trace.parquet")

    with pytest.raises(ValueError, match="device_id must be a column of numbers, got string"):
        read_trace(tmp_path / "trace.parquet")


def test_a_parquet_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"device_id": [0], "start": [0.0]}), tmp_path / "trace.parquet")

    with pytest.raises(ValueError, match="has no column 'start_s'; it has: device_id, start"):
        read_trace(tmp_path / "trace.parquet")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "on_off", "mean_on_s": 1.0}, "mean_off_s must be given where testbed.availability.kind is 'on_off'"),
        (
            {"kind": "on_off", "mean_on_s": 1e-300, "mean_off_s": 1.0},
            "mean_on_s must be at least 0.001 seconds, got 1e-300",
        ),
        ({"kind": "trace"}, "trace must be given where"),
        ({"origin_s": "first"}, "origin_s is for testbed.availability.kind = 'trace'; the kind is 'always'"),
        ({"mean_on_s": 1.0}, "mean_on_s is for testbed.availability.kind = 'on_off'; the kind is 'always', got 1.0"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        availability_of(AvailabilityConfig(**settings), 3, Seeds(0))  # type: ignore[arg-type]


def test_the_kind_decides_what_is_made(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TEXT)
    trace = AvailabilityConfig(kind="trace", trace=str(tmp_path / "trace.csv"))
    on_off = AvailabilityConfig(kind="on_off", mean_on_s=1.0, mean_off_s=2.0)

    made = [availability_of(config, 3, Seeds(0)) for config in (AvailabilityConfig(), on_off, trace)]

    assert [type(availability) for availability in made] == [Always, OnOff, Trace]
    assert trace_sha256(on_off) is None
    assert len(trace_sha256(trace) or "") == 64


def made_by(path: Path, **settings: object) -> Availability:
    config = AvailabilityConfig(kind="trace", trace=str(path), **settings)  # type: ignore[arg-type]
    return availability_of(config, 2, Seeds(0))


def spans_file(folder: Path, *spans: tuple[int, float, float]) -> Path:
    path = folder / "spans.csv"
    path.write_text("device_id,start_s,end_s\n" + "".join(f"{i},{start},{end}\n" for i, start, end in spans))
    return path


def test_a_trace_in_a_loop_begins_anew_at_its_end(tmp_path: Path) -> None:
    looped = made_by(spans_file(tmp_path, (0, 2, 4), (1, 5, 10)), trace_loop=True)  # a period of 10 s

    # Device 0 is there from 10 k + 2 to 10 k + 4, device 1 from 10 k + 5 to 10 k + 10.
    assert looped.until_s(3.0).tolist() == [4, -math.inf]
    assert [looped.next_s(4.0), looped.next_s(10.0), looped.next_s(12.0)] == [5, 12, 15]
    assert looped.until_s(1_000_003.0).tolist() == [1_000_004, -math.inf]
    assert looped.until_s(1_000_009.0).tolist() == [-math.inf, 1_000_010]
    assert looped.next_s(1_000_009.0) == 1_000_012


def test_a_loop_leaves_no_seam_in_a_span_that_reaches_across_it(tmp_path: Path) -> None:
    path = spans_file(tmp_path, (0, 0, 3), (0, 8, 10), (1, 0, 10))
    looped = made_by(path, trace_loop=True)

    assert looped.until_s(0.0).tolist() == [3, math.inf]
    assert looped.next_s(3.0) == 8
    assert looped.until_s(8.0).tolist() == [13, math.inf]
    assert looped.until_s(11.0).tolist() == [13, math.inf]
    assert looped.next_s(13.0) == 18


def test_a_period_longer_than_the_trace_is_a_pause_and_a_shorter_one_cuts_it(tmp_path: Path) -> None:
    path = spans_file(tmp_path, (0, 2, 4), (1, 5, 10))
    day, short = (made_by(path, trace_loop=True, trace_period_s=period_s) for period_s in (100.0, 7.0))

    assert day.next_s(10.0) == 102
    assert short.until_s(6.0).tolist() == [-math.inf, 7]
    assert short.next_s(6.0) == 7 + 2


def test_an_offset_is_how_far_into_the_trace_the_run_begins(tmp_path: Path) -> None:
    path = spans_file(tmp_path, (0, 102, 104), (1, 105, 110))
    once = made_by(path, origin_s=100.0, trace_offset_s=3.0)
    looped = made_by(path, origin_s=100.0, trace_offset_s=23.0, trace_loop=True)  # 23 = 2 periods of 10 and 3

    for availability in (once, looped):
        assert availability.until_s(0.0).tolist() == [1, -math.inf]
        assert availability.next_s(0.0) == 2
        assert availability.until_s(2.0).tolist() == [-math.inf, 7]
    assert (once.next_s(2.0), looped.next_s(2.0)) == (math.inf, 9)


def test_a_time_scale_stretches_spans_offset_and_period(tmp_path: Path) -> None:
    path = spans_file(tmp_path, (0, 2, 4), (1, 5, 10))
    slow = made_by(path, trace_time_scale=60.0, trace_offset_s=1.0, trace_loop=True)

    assert slow.next_s(0.0) == 60  # (2 - 1) * 60
    assert slow.until_s(60.0).tolist() == [180, -math.inf]
    assert slow.next_s(240.0) == 660  # (10 + 2 - 1) * 60


@given(st.integers(1, 50), st.floats(1e-3, 1e3), st.floats(0.0, 1e4))
def test_a_loop_never_comes_back_now_and_moves_on_at_any_scale(n_steps: int, scale: float, offset_s: float) -> None:
    """A wait of nothing would never end: once a device has gone, its next moment is a later one."""
    period_s = 0.7
    looped = Trace(1, {0: [(0.1, 0.3), (0.4, 0.6)]}, offset_s=offset_s, period_s=period_s, time_scale=scale)
    now_s = 0.0
    for _ in range(n_steps):
        until_s = float(looped.until_s(now_s)[0])
        moved_s = until_s if until_s > now_s else looped.next_s(now_s)
        assert now_s < moved_s <= now_s + 0.25 * scale
        now_s = moved_s


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trace_period_s": 5.0}, "trace_period_s is for testbed.availability.trace_loop = true, which is not set"),
        ({"trace_offset_s": 11.0}, "ends before testbed.availability.trace_offset_s = 11 s; its last span ends 10 s"),
        ({"trace_loop": True, "trace_period_s": 1.0}, "can reach nobody in the 1 s after 0 s"),
        ({"trace_loop": True, "trace_time_scale": 1e-5}, "begin anew more often than each 0.001 emulated seconds"),
    ],
)
def test_replays_that_come_to_nothing_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    path = spans_file(tmp_path, (0, 2, 4), (1, 5, 10))

    with pytest.raises(ConfigError, match=r"testbed\.availability\.trace: ") as refused:
        made_by(path, **settings)
    assert message in str(refused.value)


def test_settings_of_a_trace_are_for_traces() -> None:
    for name, value in {
        "trace_offset_s": 1.0,
        "trace_loop": True,
        "trace_period_s": 9.0,
        "trace_time_scale": 2.0,
    }.items():
        with pytest.raises(ConfigError, match=f"{name} is for testbed.availability.kind = 'trace'"):
            availability_of(AvailabilityConfig(**{name: value}), 2, Seeds(0))  # type: ignore[arg-type]
