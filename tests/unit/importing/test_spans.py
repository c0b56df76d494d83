"""Importers of availability: small recordings written by hand, and the spans that follow from them."""

import json
import pickle
from pathlib import Path

import pytest

from device_profiles.text_files import FileError
from emulator.importing.recording import ALL_COLUMNS, Imported
from emulator.importing.spans import import_colext, import_fedscale, import_flhetbench
from emulator.world.availability_trace import read_trace

Spans = dict[int, list[tuple[float, float]]]


def spans_of(imported: Imported, folder: Path) -> Spans:
    """As a run reads the trace."""
    path = folder / "imported.csv"
    path.write_text("".join(imported.lines))
    return {device_id: list(spans) for device_id, spans in read_trace(path).by_device.items()}


def written(folder: Path, content: object) -> Path:
    path = folder / "recording.json"
    path.write_text(json.dumps(content))
    return path


def test_fedscale_clients_are_there_from_active_to_inactive(tmp_path: Path) -> None:
    recording = {
        "10": {"active": [5, 50], "inactive": [20, 60], "finish_time": 100, "model": "a phone"},
        "2": {"active": [0], "inactive": [30.5], "finish_time": 100},
    }
    imported = import_fedscale(written(tmp_path, recording))

    assert spans_of(imported, tmp_path) == {0: [(0, 30.5)], 1: [(5, 20), (50, 60)]}  # by number: 2 before 10
    assert imported.lines[1] == "0, 0, 30.5  # client '2'\n"
    assert any("trace_period_s = 100" in note for note in imported.notes)


def test_each_oddity_of_fedscale_meets_its_rule(tmp_path: Path) -> None:
    recording = {
        "0": {"active": [9, 20, 30, 40], "inactive": [3, 20, 35], "finish_time": 50},  # backward, empty, whole, open
        "1": {"active": [-5], "inactive": [5], "finish_time": 50},
        "2": {"active": [], "inactive": [], "finish_time": 50},
    }
    imported = import_fedscale(written(tmp_path, recording))

    assert spans_of(imported, tmp_path) == {0: [(30, 35), (40, 50)], 1: [(0, 5)]}
    said = [
        note.split(" ")[:2] for note in imported.notes if note.split(":")[0] in ("empty", "open", "early", "useless")
    ]
    assert said == [["empty:", "1"], ["open:", "1"], ["early:", "1"], ["useless:", "1"]]
    assert any(note.startswith("backward times: 1 ") for note in imported.notes)


class _Trap:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("name", ["client_behave_trace.pkl", "client_behave_trace"])
def test_a_pickle_is_refused_without_being_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"1": _Trap(tmp_path / "sprung")}))

    with pytest.raises(FileError, match=r"is a pickle, which is never loaded here, .* python -c 'import json, pickle"):
        import_fedscale(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a JSON object with an entry for each client, got"),
        ({"1": {"active": [1]}}, "client '1' must have a list 'inactive' of times in seconds"),
        ({"1": {"active": [1, 2], "inactive": [3]}}, "client '1' is active 2 times and inactive 1 times"),
        ({"1": {"active": ["x"], "inactive": [3]}}, "client '1': active must be a time in seconds, got 'x'"),
        ({"1": {"active": [float("nan")], "inactive": [3]}}, "client '1': active must be a finite number, got nan"),
        ({"1": {"active": [10**400], "inactive": [3]}}, "client '1': active is too large"),
        ({"1": {"active": [4], "inactive": [3]}}, "has no span of time in which any client can be reached"),
    ],
)
def test_what_is_no_recording_of_fedscale_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(FileError) as refused:
        import_fedscale(written(tmp_path, content))
    assert message in str(refused.value)


def test_flhetbench_timers_count_from_the_first_of_all(tmp_path: Path) -> None:
    recording = {
        "a": {"isSuccess": True, "trace_start": 900, "trace_end": 2000, "ready_time": [[1000, 1060], [1200, 1300]]},
        "b": {"isSuccess": True, "trace_start": 900, "trace_end": 2000, "ready_time": [[1030, 1090]]},
        "c": {"isSuccess": False, "trace_start": None, "trace_end": None, "ready_time": []},
    }
    imported = import_flhetbench(written(tmp_path, recording))

    assert spans_of(imported, tmp_path) == {0: [(0, 60), (200, 300)], 1: [(30, 90)]}
    assert any(note.startswith("useless: 1 clients") for note in imported.notes)


def test_flash_phones_are_there_while_locked_charging_and_on_wifi(tmp_path: Path) -> None:
    messages = [
        "2020-01-02 00:00:00\tWIFI",
        "2020-01-02 00:00:10\tbattery_charged_on",
        "2020-01-02 00:00:20\tscreen_lock",  # there from here
        "2020-01-02 00:00:25\t80.0%",
        "2020-01-02 00:00:50\t4G",  # up to here
        "2020-01-02 00:00:45\tscreen_unlock",  # backward: left out, so that the phone is still locked
        "2020-01-02 00:01:20\twifi",  # there again
        "2020-01-02 00:02:00\tscreen_on",  # the end of the recording
    ]
    recording = {
        "7": {"guid": "x", "model": "m", "messages": "\n".join(messages)},
        "8": {"guid": "y", "model": "m", "messages": "2020-01-02 00:00:00\tno_such_state"},
    }
    imported = import_flhetbench(written(tmp_path, recording))

    assert spans_of(imported, tmp_path) == {0: [(0, 30), (60, 100)]}  # from 20 s of the recording on
    for rule in ("backward times: 1 ", "open: 1 ", "useless: 1 "):
        assert any(note.startswith(rule) for note in imported.notes)


def test_colext_clients_are_there_while_they_report(tmp_path: Path) -> None:
    path = tmp_path / "hw_metrics.csv"
    seconds = {"4": [0, 1, 2, 3, 100, 101, 102], "5": [10, 11, 12, 13]}
    rows = [
        f"2024-05-01 12:{t // 60:02}:{t % 60:02}+00:00,{client},7" for client, each in seconds.items() for t in each
    ]
    path.write_text("time,client_id,cpu_util\n" + "\n".join(rows) + "\n")
    imported = import_colext(path, ALL_COLUMNS)

    assert spans_of(imported, tmp_path) == {0: [(0, 3), (100, 102)], 1: [(10, 13)]}
    assert any(note.startswith("gaps: 1 of more than 10 ") for note in imported.notes)


def test_a_table_without_the_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("when,client_id\n1,2\n")

    with pytest.raises(
        FileError, match=r"has no column of times \(time\); it has: when, client_id; name one by --time"
    ):
        import_colext(tmp_path / "other.csv", ALL_COLUMNS)
