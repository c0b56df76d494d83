"""``jetbed timeline`` writes one trace file, or says in one sentence why not."""

import json
from pathlib import Path

import pytest

from emulator.cli.timeline import export_timeline
from emulator.errors import UserError
from tests.unit.report.conftest import write_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_the_file_is_json_and_the_page_that_opens_it_is_named(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_timeline(run_dir, tmp_path / "trace.json", None)

    assert json.loads((tmp_path / "trace.json").read_text())["otherData"]["policy"] == "calm"
    assert "https://ui.perfetto.dev" in capsys.readouterr().out


@pytest.mark.parametrize(("rounds", "n_rounds"), [("1", 1), ("1-2", 2), ("0-2", 3)])
def test_rounds_restrict_the_file(run_dir: Path, tmp_path: Path, rounds: str, n_rounds: int) -> None:
    export_timeline(run_dir, tmp_path / "trace.json", rounds)

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event["ph"] == "X" and event["cat"] == "round" for event in events) == n_rounds


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ("many", "such as 3 or 3-10: 'many'"),
        ("2-1", "end before it begins: '2-1'"),
        ("1-3", "rounds 0 to 2: '1-3'"),
        ("1" * 5000, "such as 3"),
    ],
)
def test_rounds_that_there_are_not_are_refused(run_dir: Path, tmp_path: Path, rounds: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export_timeline(run_dir, tmp_path / "trace.json", rounds)

    assert not (tmp_path / "trace.json").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a run"):
        export_timeline(tmp_path, tmp_path / "trace.json", None)


def test_a_run_without_a_round_is_refused(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "empty", accuracy=(), status="failed", error="no luck")

    with pytest.raises(UserError, match="no round that is done"):
        export_timeline(run_dir, tmp_path / "trace.json", None)
