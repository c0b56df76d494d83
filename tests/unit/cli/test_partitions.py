"""Partitions that the data bring: runs on them, and what is said where the data do not bring them."""

import re
from pathlib import Path

import pytest

from emulator.results.reader import load_run
from tests.command_line import Finished, in_process

USUAL = {
    "data.source": "a.csv",
    "testbed.n_devices": "3",
    "rounds": "1",
    "training.local_steps": "1",
    "training.batch_size": "2",
    "policy.path": "fedlora",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [f"film {number},{number % 2},u{number % 5}" for number in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label,user", *rows]) + "\n")
    (tmp_path / "given.csv").write_text("row,device\n" + "".join(f"{row},{row % 3}\n" for row in range(40)))
    return tmp_path


def run(folder: Path, **settings: str) -> Finished:
    chosen = USUAL | {key.replace("__", "."): value for key, value in settings.items()}
    overrides = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    return in_process("run", "--out", "o", "--backend", "inline", *overrides, cwd=folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheme": "natural", "column": "who"}, "'a.csv' has no column 'who'"),
        ({"scheme": "natural", "column": "label"}, "2 owners cannot be shared out among 3 devices"),
        ({"scheme": "natural", "column": "user", "min_examples": "15"}, "owners cannot be shared out so that"),
        ({"scheme": "given", "file": "nope.csv"}, "there is no file"),
        ({"scheme": "given", "file": "a.csv"}, "it needs the columns row and device"),
        ({"scheme": "shards", "shards_per_device": "20"}, "cannot be cut into 60 shards"),
        ({"scheme": "quantity", "min_examples": "13"}, "each needs at least 13 (data.partition.min_examples)"),
    ],
)
def test_one_message_says_what_is_wrong_and_nothing_is_left(
    folder: Path, settings: dict[str, str], message: str
) -> None:
    done = run(folder, **{f"data__partition__{key}": value for key, value in settings.items()})
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (folder / "o").exists()


def test_owners_stay_whole_in_a_run_and_the_run_says_who_holds_what(folder: Path) -> None:
    done = run(folder, data__partition__scheme="natural", data__partition__column="user")
    assert done.returncode == 0, done.stderr
    frames = load_run(folder / "o")
    held = frames.partition.groupby("device_id")["n_examples"].sum()
    assert held.sum() == frames.info["n_train_examples"] == 36
    assert frames.info["partition"]["devices"]["all"]["n_examples"]["most"] == held.max()
    report = in_process("report", "o", "--out", "o.html", cwd=folder)
    assert report.returncode == 0, report.stderr
    page = (folder / "o.html").read_text()
    assert "Who holds what" in page
    assert ">natural<" in page
    # Scripts and links find parts of the page by their ids.
    ids = re.findall(r"""<[^>]* id=["']([\w-]+)""", page)
    assert len(ids) == len(set(ids)) > 3


def test_a_file_gives_each_row_to_its_device(folder: Path) -> None:
    done = run(folder, data__partition__scheme="given", data__partition__file="given.csv")
    assert done.returncode == 0, done.stderr
    frames = load_run(folder / "o")
    held = frames.partition.groupby("device_id")["n_examples"].sum()
    assert held.sum() == 36
    assert held.max() <= 14  # of 40 rows, every third; some are held out
