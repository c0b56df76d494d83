"""The comparison of tasks: its rows, its plain loop beside jetbed, and what it says where they part."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.tasks import __main__ as command
from benchmarks.tasks import rows
from benchmarks.tasks.cells import TASKS, Cell, made_up_cells
from benchmarks.tasks.families import DECODERS, ENCODER_DECODERS, ENCODERS
from benchmarks.tasks.page import line_of, page
from benchmarks.tasks.runs import carry_out
from emulator.config.task import TaskConfig
from emulator.shapes.families import ENCODER_DECODERS as KNOWN_ENCODER_DECODERS
from emulator.shapes.families import FAMILIES

FEW: Mapping[str, int] = {"rounds": 2}


def cell(name: str) -> Cell:
    return next(each for each in made_up_cells() if each.name == name)


@pytest.mark.parametrize(
    "name", ["regression-distilbert-made-up", "causal-instructions-llama-made-up", "sequence-to-sequence-mt5-made-up"]
)
def test_a_plain_loop_of_peft_comes_to_the_losses_of_one_device(name: str, tmp_path: Path) -> None:
    line = line_of(carry_out(cell(name), tmp_path, FEW))
    assert line.apart < 1e-5
    assert line.learns
    assert len(line.result.central) == 20
    again = line_of(carry_out(cell(name), tmp_path, FEW))  # of what is there
    assert (again.train_losses, again.held_out_losses, again.scores) == (
        line.train_losses,
        line.held_out_losses,
        line.scores,
    )
    text = page([line, replace(line, train_losses=(1.0, 1.1), scores=line.scores[::-1])])
    assert text.count("**no**") == 2
    assert "1 are within 0.0001, and 1 of the federated runs end better than they began." in text


def test_every_kind_of_task_and_every_family_that_can_be_trained_is_there() -> None:
    assert {task.kind for task in TASKS} == set(get_args(TaskConfig.model_fields["kind"].annotation))
    assert {*ENCODERS, *DECODERS} == set(FAMILIES)
    assert set(ENCODER_DECODERS) == set(KNOWN_ENCODER_DECODERS)
    names = [each.name for each in made_up_cells()]
    assert len(set(names)) == len(names)


def test_a_pair_of_sentences_has_one_of_each_label_and_says_which_is_the_more_positive() -> None:
    sentences = [("bad", "0"), ("worse", "0"), ("good", "1"), ("better", "1")]
    made = rows.drawn_pairs(sentences, 200, seed=0)
    for row in made:
        better = row["text"] if row["label"] == "first" else row["other"]
        worse = row["other"] if row["label"] == "first" else row["text"]
        assert better in ("good", "better")
        assert worse in ("bad", "worse")
    assert 60 < sum(row["label"] == "first" for row in made) < 140


def test_rows_that_are_made_up_follow_from_the_seed() -> None:
    for make in (rows.one_text, rows.pair, rows.multi_label, rows.regression, rows.plain_text, rows.instruction):
        assert rows.made_up(make, 5, 1) == rows.made_up(make, 5, 1)
        assert rows.made_up(make, 5, 1) != rows.made_up(make, 5, 2)
    made = rows.pair(np.random.default_rng(0))
    degrees = [rows.DEGREES.index(made[text].split()[-1]) for text in ("text", "other")]
    assert made["label"] == ("first" if degrees[0] > degrees[1] else "second")


def test_cells_that_are_not_there_are_refused_before_a_page_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tasks", "--only", "nowhere", "--page", str(tmp_path / "page.md")])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "no cell has one of nowhere in its name" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
