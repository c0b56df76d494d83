"""``jetbed report`` writes one page, or says in one sentence why not, and leaves nothing half-made."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emulator.cli import report
from emulator.cli.report import write_report
from emulator.errors import UserError
from tests.unit.report.conftest import write_run


def test_a_page_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    write_report([write_run(tmp_path / "run")], page, None)

    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "message"),
    [(".", "this is a folder"), ("missing/page.html", "does not exist"), ("run/run.json/page.html", "does not exist")],
)
def test_an_output_that_cannot_be_is_refused(tmp_path: Path, out: str, message: str) -> None:
    run = write_run(tmp_path / "run")

    with pytest.raises(UserError, match=message):
        write_report([run], tmp_path / out, None)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not the folder of a run"):
        write_report([tmp_path], tmp_path / "page.html", None)

    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_no_accuracy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accuracy from 0 to 1"):
        write_report([write_run(tmp_path / "run")], tmp_path / "page.html", 80.0)


def test_an_interrupt_leaves_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        yield "<!DOCTYPE html>"
        raise KeyboardInterrupt

    run = write_run(tmp_path / "run")
    monkeypatch.setattr(report, "report_page", interrupted)
    with pytest.raises(SystemExit) as ended:
        write_report([run], tmp_path / "page.html", None)

    assert ended.value.code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_sweep_is_reported_with_the_runs_that_have_not_begun(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "study")
    write_report([sweep], tmp_path / "page.html", None)

    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>study</h1>" in page
    assert "1 of 2 runs are not finished." in page
    assert "brisk-1 was not started" in page


def test_a_sweep_beside_other_folders_is_refused(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "study")

    with pytest.raises(UserError, match="one sweep by itself"):
        write_report([sweep, sweep / "run=calm-0"], tmp_path / "page.html", None)


def test_a_sweep_of_which_nothing_has_begun_is_refused(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "study")
    shutil.rmtree(sweep / "run=calm-0")

    with pytest.raises(UserError, match="none of the runs has begun"):
        write_report([sweep], tmp_path / "page.html", None)


def write_sweep(folder: Path) -> Path:
    """A sweep of two runs, of which the first is finished and the second was not started."""
    write_run(folder / "run=calm-0")
    index = {
        "run": ["calm-0", "brisk-1"],
        "status": ["finished", "planned"],
        "error": pa.array([None, None], pa.string()),
        "policy": ["calm", "brisk"],
        "seed": [0, 1],
    }
    pq.write_table(pa.table(index), folder / "index.parquet")
    (folder / "sweep.json").write_text(json.dumps({"schema_version": 1, "name": "study"}))
    return folder
