"""The trace has the fields and types of the Trace Event Format, and tells all that the activities do."""

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from emulator.report.trace_events import DEVICES, NETWORK, SERVER, trace_lines
from emulator.results.reader import RunFrames, load
from tests.unit.report.conftest import PROFILES, MakeRun

Event = dict[str, Any]


@pytest.fixture
def frames(make_run: MakeRun) -> RunFrames:
    return load(make_run("run"))


def events_of(frames: RunFrames, span: tuple[int, int] | None = None) -> list[Event]:
    events: list[Event] = json.loads("".join(trace_lines(frames, span)))["traceEvents"]
    return events


def of_phase(events: list[Event], phase: str, pid: int) -> list[Event]:
    return [event for event in events if event["ph"] == phase and event["pid"] == pid]


def test_every_event_has_the_fields_of_its_phase(frames: RunFrames) -> None:
    needed = {"X": {"dur", "args", "cat"}, "C": {"args"}, "i": {"s"}, "M": {"args"}}
    for event in events_of(frames):
        assert needed[event["ph"]] <= set(event)
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        if event["ph"] == "i":
            assert event["s"] in {"g", "p", "t"}


def test_metadata_comes_first_and_the_rest_is_in_order_of_time(frames: RunFrames) -> None:
    events = events_of(frames)
    n_metadata = sum(event["ph"] == "M" for event in events)

    assert all(event["ph"] == "M" for event in events[:n_metadata])
    times_us = [event["ts"] for event in events[n_metadata:]]
    assert times_us == sorted(times_us)


def test_every_device_has_a_track_with_its_type_in_the_order_of_ids(frames: RunFrames) -> None:
    names = {
        e["tid"]: e["args"]["name"] for e in of_phase(events_of(frames), "M", DEVICES) if e["name"] == "thread_name"
    }

    assert names == {device: f"{device} {profile}" for device, profile in enumerate(PROFILES)}


def test_each_activity_is_one_slice_with_its_bytes_and_joules(frames: RunFrames) -> None:
    slices = of_phase(events_of(frames), "X", DEVICES)
    told = sorted(
        (e["tid"], e["ts"], e["dur"], e["name"], e["args"].get("bytes", 0), e["args"]["joules"]) for e in slices
    )
    rows = frames.activities
    wanted = sorted(
        zip(rows["device_id"], rows["start_s"] * 1e6, (rows["end_s"] - rows["start_s"]) * 1e6, rows["kind"],
            rows["n_bytes"], rows["energy_j"], strict=True)
    )  # fmt: skip

    assert told == wanted
    assert {e["args"]["status"] for e in slices} == {"ok"}
    assert {e["args"]["depth"] for e in slices if e["name"] == "compute"} == {1, 2}


def test_what_boards_without_power_figures_take_is_left_out_and_said(frames: RunFrames) -> None:
    fast = frames.devices["profile"] == "fast"
    ids = set(frames.devices.loc[fast, "device_id"])
    devices = frames.devices.assign(energy_j=frames.devices["energy_j"].mask(fast, 0.0))
    is_fast = frames.activities["device_id"].isin(ids)
    activities = frames.activities.assign(energy_j=frames.activities["energy_j"].mask(is_fast, 0.0))
    run = frames.replaced(devices=devices, activities=activities)

    assert {e["tid"] for e in of_phase(events_of(run), "X", DEVICES) if "joules" not in e["args"]} == ids
    assert json.loads("".join(trace_lines(run)))["otherData"]["without_power_figures"] == ["fast"]


def test_slices_on_a_track_neither_overlap_nor_leave_a_gap_at_awkward_times(make_run: MakeRun) -> None:
    run = load(make_run("run", accuracy=[0.5] * 40, round_s=8.1 + 1 / 3))

    tracks = defaultdict(list)
    for event in events_of(run):
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append(event)

    assert len(tracks) == 5  # four devices and the rounds of the server
    for slices in tracks.values():
        ends_ns = [round((e["ts"] + e["dur"]) * 1e3) for e in slices]
        assert ends_ns[:-1] == [round(e["ts"] * 1e3) for e in slices[1:]]


def test_rounds_are_slices_and_marks_of_the_server(frames: RunFrames) -> None:
    events = events_of(frames)

    assert [(e["name"], e["ts"], e["dur"]) for e in of_phase(events, "X", SERVER)] == [
        ("round 0", 0, 10e6),
        ("round 1", 10e6, 10e6),
        ("round 2", 20e6, 10e6),
    ]
    assert [e["ts"] for e in of_phase(events, "i", SERVER)] == [0, 10e6, 20e6]


def test_accuracy_is_counted_when_the_server_has_it(frames: RunFrames) -> None:
    counters = [e for e in of_phase(events_of(frames), "C", SERVER) if e["name"] == "accuracy"]

    assert [(e["ts"], e["args"]["accuracy"]) for e in counters] == [(10e6, 0.5), (20e6, 0.7), (30e6, 0.8)]


def test_transfers_in_flight_are_those_of_the_activities(frames: RunFrames) -> None:
    counters = [e for e in of_phase(events_of(frames), "C", NETWORK) if e["name"] == "transfers in flight"]

    # All download at first; the two fast devices upload from 3 s to 4 s, the two slow ones from 7 s to 8 s.
    wanted = [(0, 4, 0), (1, 0, 0), (3, 0, 2), (4, 0, 0), (7, 0, 2), (8, 0, 0), (10, 4, 0)]
    assert [(e["ts"] / 1e6, e["args"]["downloads"], e["args"]["uploads"]) for e in counters[:7]] == wanted


def test_payload_rates_add_up_to_the_bytes(frames: RunFrames) -> None:
    counters = [e for e in of_phase(events_of(frames), "C", NETWORK) if e["name"] == "payload MB/s"]
    seconds = np.diff([e["ts"] / 1e6 for e in counters])
    rates = np.array([e["args"]["downloads"] for e in counters[:-1]])

    assert seconds @ rates * 1e6 == pytest.approx(3 * 4 * 1000)


def test_some_rounds_alone_have_only_what_happens_in_them(frames: RunFrames) -> None:
    slices = [e for e in events_of(frames, (1, 1)) if e["ph"] == "X"]

    assert {e["args"]["round"] for e in slices if e["pid"] == DEVICES} == {1}
    assert len(slices) == 4 * 4 + 1
    assert min(e["ts"] for e in slices) == 10e6


def test_a_run_without_training_has_no_counter_of_accuracy(make_run: MakeRun) -> None:
    events = events_of(load(make_run("run", accuracy=[float("nan")] * 2)))

    assert not [e for e in events if e["name"] in {"accuracy", "loss"}]


def test_lines_are_small_enough_for_long_runs(make_run: MakeRun) -> None:
    frames = load(make_run("run", accuracy=[0.5] * 20))
    n_bytes = sum(len(line.encode()) for line in trace_lines(frames))

    assert n_bytes / len(frames.activities) < 300
