"""Parts, bytes and run.json on disk, and what happens when the disk or the folder is in the way."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from emulator.errors import ConfigError, UserError
from emulator.results.info import read_info
from emulator.results.reader import load_run
from emulator.results.writer import RunWriter, check_out_dir, claim_default_out_dir, default_out_dir

NOW = datetime(2030, 1, 2, 3, 4, 5)


def rounds_in(part: Path) -> list[int]:
    return pq.read_table(part)["round_index"].to_pylist()


def contents(folder: Path) -> dict[str, bytes]:
    parts = folder.rglob("*.parquet")
    return {str(path.relative_to(folder)): path.read_bytes() for path in parts}


def info_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    opened = RunWriter(tmp_path / "run", rounds_per_part=2)
    opened.open({"seed": 7})
    return opened


def test_nothing_is_on_disk_before_open(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.close("failed", "the config was wrong")
    assert list(tmp_path.iterdir()) == []


def test_write_before_open_is_refused(tmp_path: Path, round_tables: Any) -> None:
    with pytest.raises(RuntimeError, match="open"):
        RunWriter(tmp_path / "run").write("rounds", round_tables(0)["rounds"])


def test_open_writes_what_the_run_is(writer: RunWriter) -> None:
    info = info_of(writer.out_dir)
    assert (info["status"], info["seed"]) == ("running", 7)
    assert info["tables"] == ["rounds", "devices", "activities", "host"]


def test_what_becomes_known_later_is_added_and_stays_when_the_run_ends(writer: RunWriter) -> None:
    writer.note("outside_known_range", {"a_board": "3 tokens"})
    assert json.loads((writer.out_dir / "run.json").read_text())["outside_known_range"] == {"a_board": "3 tokens"}
    writer.close("finished")
    assert json.loads((writer.out_dir / "run.json").read_text())["outside_known_range"] == {"a_board": "3 tokens"}


def test_a_note_before_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="open"):
        RunWriter(tmp_path / "run").note("a", 1)


def test_open_leaves_nothing_behind_when_the_run_info_is_not_plain_data(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object"):
        RunWriter(tmp_path / "run").open({"policy": object()})
    with pytest.raises(ValueError, match="status"):
        RunWriter(tmp_path / "run").open({"status": "finished"})
    assert list(tmp_path.iterdir()) == []


def test_close_writes_how_the_run_ended(writer: RunWriter, round_tables: Any) -> None:
    writer.write("rounds", round_tables(0)["rounds"])
    writer.close("failed", "a host died")
    info = info_of(writer.out_dir)
    assert (info["status"], info["error"], info["n_rounds"], info["seed"]) == ("failed", "a host died", 1, 7)
    assert info["wall_s"] >= 0


def test_a_part_is_written_once_it_holds_its_last_round(writer: RunWriter, round_tables: Any) -> None:
    folder = writer.out_dir / "rounds"
    writer.write("rounds", round_tables(0)["rounds"])
    assert not folder.exists()
    writer.write("rounds", round_tables(1)["rounds"])
    assert rounds_in(folder / "part-00000.parquet") == [0, 1]
    writer.write("rounds", round_tables(2)["rounds"])
    assert sorted(os.listdir(folder)) == ["part-00000.parquet"]
    writer.close("finished")
    assert rounds_in(folder / "part-00001.parquet") == [2]
    assert sorted(os.listdir(folder)) == ["part-00000.parquet", "part-00001.parquet"]


def test_flush_and_the_size_of_calls_leave_no_trace(tmp_path: Path, write_run: Any, round_tables: Any) -> None:
    expected = contents(write_run(tmp_path / "round by round", rounds_per_part=2))
    writer = RunWriter(tmp_path / "at once", rounds_per_part=2)
    writer.open({})
    by_round = [round_tables(0), round_tables(1), round_tables(2)]
    for table in by_round[0]:
        # Rounds 0 and 1 in one call, flushed, then the last.
        first = {name: by_round[0][table][name] + by_round[1][table][name] for name in by_round[0][table]}
        writer.write(table, first)
        writer.flush()
        writer.write(table, by_round[2][table])
    writer.flush()
    writer.close("finished")
    assert contents(tmp_path / "at once") == expected
    assert len(expected) == 4 * 2


def test_a_flushed_part_grows_until_it_is_full(writer: RunWriter, round_tables: Any) -> None:
    part = writer.out_dir / "rounds" / "part-00000.parquet"
    writer.write("rounds", round_tables(0)["rounds"])
    writer.flush()
    assert rounds_in(part) == [0]
    writer.write("rounds", round_tables(1)["rounds"])
    assert rounds_in(part) == [0, 1]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    first = contents(write_run(tmp_path / "first"))
    assert first == contents(write_run(tmp_path / "second"))
    assert len(first) == 4 * 3


def test_one_call_may_span_parts(tmp_path: Path, round_tables: Any) -> None:
    tables = [round_tables(index)["devices"] for index in range(3)]
    writer = RunWriter(tmp_path / "run", rounds_per_part=2)
    writer.open({})
    writer.write("devices", {name: [value for table in tables for value in table[name]] for name in tables[0]})
    writer.close("finished")
    assert rounds_in(tmp_path / "run/devices/part-00000.parquet") == [0] * 4 + [1] * 4
    assert rounds_in(tmp_path / "run/devices/part-00001.parquet") == [2] * 4


def test_what_precedes_the_first_round_goes_into_the_first_part(writer: RunWriter, round_tables: Any) -> None:
    start = {"round_index": [-1], "host": ["coordinator"], "phase": ["start"]}
    writer.write(
        "host",
        start | {"wall_s": [1.5], "n_jobs": [0], "memory_bytes": [0], "prefix_layers": [0], "prefix_cache_bytes": [0]},
    )
    writer.write("host", round_tables(0)["host"])
    writer.flush()
    assert rounds_in(writer.out_dir / "host/part-00000.parquet") == [-1, 0, 0, 0, 0]


def test_rows_out_of_order_are_refused(writer: RunWriter, round_tables: Any) -> None:
    writer.write("rounds", round_tables(2)["rounds"])
    with pytest.raises(ValueError, match="round 0 comes after its part was finished"):
        writer.write("rounds", round_tables(0)["rounds"])
    mixed = round_tables(0)["devices"]
    with pytest.raises(ValueError, match="ascending"):
        writer.write("devices", mixed | {"round_index": [1, 0, 0, 0]})


def test_parts_hold_at_least_one_round(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0"):
        RunWriter(tmp_path, rounds_per_part=0)


def test_a_full_disk_is_one_error_and_leaves_no_temporary_file(tmp_path: Path, round_tables: Any) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.open({})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # No file may grow beyond 100 bytes, as if the disk were full by then.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(UserError, match="free the disk") as caught:
            writer.write("devices", round_tables(0)["devices"])
        writer.close("failed", str(caught.value))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "run/devices").iterdir()) == []
    assert info_of(tmp_path / "run")["status"] == "running"


def test_close_reports_a_failure_of_its_own(writer: RunWriter, round_tables: Any) -> None:
    writer.write("rounds", round_tables(0)["rounds"])
    (writer.out_dir / "rounds").write_text("in the way")
    with pytest.raises(UserError, match="cannot write results"):
        writer.close("finished")


def test_a_new_or_empty_folder_is_accepted_and_not_made(tmp_path: Path) -> None:
    check_out_dir(tmp_path)
    check_out_dir(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match=r"holds 'mine\.txt'"):
        check_out_dir(tmp_path)
    with pytest.raises(ConfigError, match=r"holds 'mine\.txt'"):
        RunWriter(tmp_path).open({})
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_a_file_is_refused_as_folder_and_as_parent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match="output folder"):
            check_out_dir(path)


def test_a_parent_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permission bits do not stop root, who runs tests in containers.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ConfigError, match="cannot be made"):
        check_out_dir(tmp_path / "run")


def test_default_folders_are_named_after_the_run_and_never_taken(tmp_path: Path) -> None:
    first = default_out_dir("legend", 3, NOW, tmp_path)
    assert first == tmp_path / "20300102-030405-legend-s3"
    first.mkdir()
    assert default_out_dir("legend", 3, NOW, tmp_path).name == "20300102-030405-legend-s3-2"
    assert default_out_dir("my.module:Policy", 3, NOW).as_posix() == "runs/20300102-030405-my.module-Policy-s3"


def test_a_folder_that_vanishes_is_an_error_and_not_made_again(writer: RunWriter, round_tables: Any) -> None:
    shutil.rmtree(writer.out_dir)
    writer.write("rounds", round_tables(0)["rounds"])
    with pytest.raises(UserError, match="cannot write results"):
        writer.flush()
    assert not writer.out_dir.exists()


def test_two_runs_of_the_same_second_claim_two_folders(tmp_path: Path) -> None:
    now = datetime(2030, 1, 2, 3, 4, 5)
    claimed = [claim_default_out_dir("legend", 3, now, tmp_path) for _ in range(3)]
    assert [path.name for path in claimed] == [f"20300102-030405-legend-s3{suffix}" for suffix in ("", "-2", "-3")]
    assert all(path.is_dir() for path in claimed)


def test_a_run_that_goes_on_ends_with_the_bytes_of_one_that_was_not_disturbed(
    tmp_path: Path, round_tables: Callable[[int], Any]
) -> None:
    def write(writer: RunWriter, rounds: range) -> None:
        for round_index in rounds:
            for table, columns in round_tables(round_index).items():
                writer.write(table, columns)

    whole, cut = RunWriter(tmp_path / "whole"), RunWriter(tmp_path / "cut")
    for writer in (whole, cut):
        writer.open({"seed": 1})
    write(whole, range(3))
    write(cut, range(2))  # and dies, with a checkpoint behind round 0
    again = RunWriter(tmp_path / "cut")
    again.go_on(read_info(tmp_path / "cut"), 1)
    assert not (tmp_path / "cut" / "rounds" / "part-00001.parquet").exists()
    write(again, range(1, 3))
    for writer in (whole, again):
        writer.close("finished")

    parts = [path.relative_to(tmp_path / "whole") for path in sorted((tmp_path / "whole").rglob("*.parquet"))]
    assert [path.relative_to(tmp_path / "cut") for path in sorted((tmp_path / "cut").rglob("*.parquet"))] == parts
    assert all((tmp_path / "whole" / part).read_bytes() == (tmp_path / "cut" / part).read_bytes() for part in parts)
    info = read_info(tmp_path / "cut")
    assert (info["status"], info["n_rounds"], info["n_resumed"], info["seed"]) == ("finished", 3, 1, 1)


@pytest.mark.parametrize("n_written", [1, 2])
def test_a_run_goes_on_within_a_part(n_written: int, tmp_path: Path, round_tables: Callable[[int], Any]) -> None:
    def write(writer: RunWriter, rounds: range) -> None:
        for round_index in rounds:
            for table, columns in round_tables(round_index).items():
                writer.write(table, columns)

    whole, short = (RunWriter(tmp_path / name, rounds_per_part=2) for name in ("whole", "short"))
    for writer in (whole, short):
        writer.open({})
    write(whole, range(3))
    whole.close("finished")
    write(short, range(n_written))
    short.close("interrupted")
    again = RunWriter(tmp_path / "short", rounds_per_part=2)
    again.go_on(read_info(tmp_path / "short"), 1)
    assert load_run(tmp_path / "short").rounds["round_index"].tolist() == [0]
    write(again, range(1, 3))
    again.close("finished")

    parts = [path.relative_to(tmp_path / "whole") for path in sorted((tmp_path / "whole").rglob("*.parquet"))]
    assert len(parts) == 8
    assert all((tmp_path / "whole" / part).read_bytes() == (tmp_path / "short" / part).read_bytes() for part in parts)


def test_a_run_that_lacks_a_round_does_not_go_on(tmp_path: Path, round_tables: Callable[[int], Any]) -> None:
    writer = RunWriter(tmp_path / "run")
    writer.open({})
    for table, columns in round_tables(0).items():
        writer.write(table, columns)
    with pytest.raises(UserError, match=r"part-00001\.parquet"):
        RunWriter(tmp_path / "run").go_on(read_info(tmp_path / "run"), 2)
    with pytest.raises(UserError, match="lacks rounds that its checkpoint has"):
        RunWriter(tmp_path / "run", rounds_per_part=50).go_on(read_info(tmp_path / "run"), 20)
