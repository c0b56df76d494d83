"""What is compared: a kind of task with a model, the rows that it learns, and the settings of its runs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tasks import rows as made
from benchmarks.tasks.families import DECODERS, ENCODER_DECODERS, ENCODERS, write_model
from benchmarks.tasks.instructions import Instructions
from benchmarks.tasks.rows import Rows
from emulator.learning.model.places import locate
from emulator.shapes.catalog import BUILTIN_MODELS
from emulator.shapes.families import DECODERS as KNOWN_DECODERS

RowsOf = Callable[[int, int], Rows]
"""So many rows of a seed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """A kind of task.

    Attributes:
        name: how the page calls it.
        kind: the setting ``task.kind``.
        columns: the settings that name the columns of its rows.
        score: what tells how well it is learnt: a column of the table ``rounds``.
    """

    name: str
    kind: str
    score: str
    columns: Mapping[str, str] = field(default_factory=dict)


ONE_TEXT = Task(name="classification of one text", kind="classification", score="accuracy")
PAIR = Task(
    name="classification of a pair",
    kind="classification",
    score="accuracy",
    columns={"data.text_pair_column": "other"},
)
MULTI_LABEL = Task(name="any number of labels", kind="multi_label", score="micro_f1")
REGRESSION = Task(name="regression", kind="regression", score="pearson")
PLAIN_TEXT = Task(name="causal, plain text", kind="causal", score="perplexity")
INSTRUCTIONS = Task(
    name="causal, instructions",
    kind="causal",
    score="perplexity",
    columns={"data.prompt_column": "prompt", "data.response_column": "response"},
)
SEQ2SEQ = Task(name="sequence-to-sequence", kind="seq2seq", score="perplexity", columns=INSTRUCTIONS.columns)
TASKS = (ONE_TEXT, PAIR, MULTI_LABEL, REGRESSION, PLAIN_TEXT, INSTRUCTIONS, SEQ2SEQ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A task with a model.

    Attributes:
        model: how the page calls it.
        train: the setting ``model.train``; None for a family whose model is made up.
        data: how the page calls the rows.
        train_rows, test_rows: make them.
        settings: of the federated run, beside those that all have.
    """

    task: Task
    model: str
    train: str | None
    data: str
    train_rows: Callable[[], Rows]
    test_rows: Callable[[], Rows]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its folder."""
        words = f"{self.task.name} {self.model} {self.data}"
        return "-".join("".join(sign if sign.isalnum() else " " for sign in words).split())

    def model_source(self, folder: Path) -> str:
        """The setting ``model.train``; a model that is made up is written into ``folder`` first."""
        if self.train is not None:
            return self.train
        if not (folder / "config.json").exists():
            write_model(self.model, made.WORDS, folder)
        return str(folder)

    def model_place(self, folder: Path) -> Path:
        """Where transformers finds the model: a directory or a GGUF file."""
        source = self.model_source(folder)
        return BUILTIN_MODELS / source.removeprefix("builtin:") if source.startswith("builtin:") else Path(source)


N_TRAIN, N_TEST = 640, 160
N_REAL_TRAIN, N_REAL_TEST = 1600, 200
GIVEN = {
    "rounds": 6,
    "data.seq_len": 64,
    "data.partition.scheme": "iid",
    "training.learning_rate": 5e-3,
    "training.local_steps": 6,
}
"""Few rounds, since models that somebody gives may be large."""
INSTRUCTED = {
    **GIVEN,
    "rounds": 3,
    "training.learning_rate": 1e-3,
    "training.local_steps": 2,
}
"""Fewer still, for decoders that were pre-trained on so much that they need no more."""
_MAKE = {
    ONE_TEXT: made.one_text,
    PAIR: made.pair,
    MULTI_LABEL: made.multi_label,
    REGRESSION: made.regression,
    PLAIN_TEXT: made.plain_text,
    INSTRUCTIONS: made.instruction,
    SEQ2SEQ: made.instruction,
}


def made_up_cells() -> Iterator[Cell]:
    """Every family with every task that it can learn, and the built-in models."""
    for task in TASKS:
        for family in _families(task):
            yield _cell(task, family, None, "made up", partial(made.made_up, _MAKE[task]))
        if task is SEQ2SEQ:
            continue
        if task.kind == "causal":
            yield _cell(task, "builtin:tiny-llama-12", "builtin:tiny-llama-12", "commands", made.commands)
        else:
            rows = made.commands if task is ONE_TEXT else partial(made.made_up, _MAKE[task])
            data = "commands" if task is ONE_TEXT else "made up"
            yield _cell(task, "builtin:tiny-12", "builtin:tiny-12", data, rows)


def _families(task: Task) -> list[str]:
    """Those that can learn it."""
    if task.kind == "causal":
        return [*DECODERS]
    return [*ENCODER_DECODERS] if task is SEQ2SEQ else [*ENCODERS, *(DECODERS if task is ONE_TEXT else ())]


def _cell(task: Task, model: str, train: str | None, data: str, rows: RowsOf) -> Cell:
    return Cell(
        task=task,
        model=model,
        train=train,
        data=data,
        train_rows=partial(rows, N_TRAIN, 1),
        test_rows=partial(rows, N_TEST, 2),
        settings={"data.seq_len": 32} if model == "builtin:tiny-12" else {},
    )


def given_cells(
    models: Mapping[str, Path], data: Mapping[str, Path], instructions: Instructions | None = None
) -> Iterator[Cell]:
    """The user's own models: on folders of labelled sentences, ``train.tsv`` and ``test.tsv``, or on instructions."""
    for model, folder in models.items():
        is_decoder = locate(str(folder)).config["model_type"] in KNOWN_DECODERS
        if is_decoder and instructions is not None:
            yield Cell(
                task=INSTRUCTIONS,
                model=model,
                train=str(folder.absolute()),
                data=instructions.name,
                train_rows=instructions.train_rows,
                test_rows=instructions.test_rows,
                settings=INSTRUCTED,
            )
            continue
        for name, files in data.items():
            sentences = [made.read_sentences(files / file) for file in ("train.tsv", "test.tsv")]
            for task in (PLAIN_TEXT,) if is_decoder else (ONE_TEXT, PAIR):
                draw = made.drawn_pairs if task is PAIR else made.drawn
                yield Cell(
                    task=task,
                    model=model,
                    train=str(folder.absolute()),
                    data=name,
                    train_rows=partial(draw, sentences[0], N_REAL_TRAIN, 1),
                    test_rows=partial(draw, sentences[1], N_REAL_TEST, 2),
                    settings=GIVEN,
                )
