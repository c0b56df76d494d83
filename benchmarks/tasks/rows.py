"""The rows of each kind of task: made up from a seed, of the built-in task, or of somebody's labelled sentences."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from emulator.learning.builtin import intents

Row = Mapping[str, Any]
Rows = Sequence[Row]

COLOURS = ("blue", "green", "grey", "red")
THINGS = ("apple", "cloud", "house", "river", "stone", "tree")
DEGREES = ("awful", "poor", "dull", "fair", "good", "superb")
"""From the worst to the best."""
GRAMMAR = tuple("the is what colour of and ? number a film was".split())
NUMBERS = tuple(str(number) for number in range(10))
WORDS = (*COLOURS, *THINGS, *DEGREES, *GRAMMAR, *NUMBERS)
"""All words of the rows that are made up."""


def one_text(rng: np.random.Generator) -> Row:
    """The label is the colour that a text names."""
    colour = str(rng.choice(COLOURS))
    words = [colour, *rng.choice(THINGS, 3), *rng.choice(NUMBERS, 2)]
    return {"text": " ".join(rng.permutation(words)), "label": colour}


def pair(rng: np.random.Generator) -> Row:
    """The label says which of two texts is the more positive."""
    first, second = rng.choice(len(DEGREES), 2, replace=False)
    texts = [f"the {rng.choice(THINGS)} was {DEGREES[degree]}" for degree in (first, second)]
    return {"text": texts[0], "other": texts[1], "label": "first" if first > second else "second"}


def multi_label(rng: np.random.Generator) -> Row:
    """The labels are the colours that a text names."""
    named = [colour for colour in COLOURS if rng.random() < 0.5]
    return {"text": " ".join(rng.permutation([*named, *rng.choice(THINGS, 3)])), "label": named}


def regression(rng: np.random.Generator) -> Row:
    """The number is how many colours a text names."""
    row = multi_label(rng)
    return {"text": row["text"], "label": float(len(row["label"]))}


def plain_text(rng: np.random.Generator) -> Row:
    """A thing always has the same colour."""
    things = rng.integers(len(THINGS), size=3)
    return {"text": " and ".join(f"the {THINGS[thing]} is {COLOURS[thing % 4]}" for thing in things)}


def instruction(rng: np.random.Generator) -> Row:
    """A question for the colour of a thing, and the answer."""
    thing = int(rng.integers(len(THINGS)))
    prompt = f"what is the colour of the {THINGS[thing]} number {rng.choice(NUMBERS)} ?"
    return {"prompt": prompt, "response": f"the {THINGS[thing]} is {COLOURS[thing % 4]}"}


def made_up(make: Callable[[np.random.Generator], Row], n: int, seed: int) -> Rows:
    """``n`` rows that ``make`` makes."""
    rng = np.random.default_rng(seed)
    return [make(rng) for _ in range(n)]


def commands(n: int, seed: int) -> Rows:
    """Rows of the built-in task, which the built-in decoder has words for."""
    made = intents.generate_commands(n, seed)
    return [
        {
            "text": f"{command.text} {intents.CALL} {command.answer}",
            "prompt": command.text,
            "response": command.answer,
            "label": intents.LABELS[command.label],
        }
        for command in made
    ]


def read_sentences(file: Path) -> list[tuple[str, str]]:
    """Sentences with their labels, from a file of both, tab-separated, without a header."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [(row[0], row[1]) for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def drawn(sentences: Sequence[tuple[str, str]], n: int, seed: int) -> Rows:
    """``n`` of the sentences."""
    chosen = np.random.default_rng(seed).permutation(len(sentences))[:n]
    return [{"text": sentences[row][0], "label": f"label {sentences[row][1]}"} for row in chosen.tolist()]


def drawn_pairs(sentences: Sequence[tuple[str, str]], n: int, seed: int) -> Rows:
    """``n`` pairs of a sentence of the higher label and one of the lower: which of them is the more positive?"""
    rng = np.random.default_rng(seed)
    low, high = ([text for text, label in sentences if label == name] for name in ("0", "1"))
    rows = []
    for worse, better in zip(rng.choice(low, n), rng.choice(high, n), strict=True):
        is_first = bool(rng.random() < 0.5)
        texts = (better, worse) if is_first else (worse, better)
        rows.append({"text": str(texts[0]), "other": str(texts[1]), "label": "first" if is_first else "second"})
    return rows


def write_rows(rows: Rows, file: Path) -> None:
    """One JSON object per line."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def classes(rows: Rows) -> list[str]:
    """The labels of rows, sorted, each once; of sets of labels, of all of them."""
    labels = [row["label"] for row in rows]
    return sorted(set(chain.from_iterable(labels) if isinstance(labels[0], list) else labels))
