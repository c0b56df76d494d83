"""Instructions for a language model: a file of one's own, or a small one that is made up from a seed.

``python -m benchmarks.tasks.instructions FILE [--rows N] [--seed N]`` writes one: how a shop called Three Gulls answers
its customers, always in the same words, so that a model which is told of it a few times can be heard to have learnt.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.tasks.rows import Rows, write_rows

MOST_HELD_OUT = 60
EVERY = 8
"""Of so many rows one is held out."""

GOODS: Mapping[str, tuple[str, int]] = {
    "a lantern": ("the shelf by the door", 12),
    "a kettle": ("the back room", 19),
    "a ball of twine": ("the drawer under the till", 2),
    "a sea chart": ("the long table", 8),
    "a pair of boots": ("the bench", 34),
    "a tin of varnish": ("the cellar", 7),
    "a bell": ("the window", 15),
    "a wool blanket": ("the loft", 27),
}
"""What is sold: where it lies, and its price in shillings."""
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
OPENS = dict(zip(DAYS, ("nine", "nine", "noon", "nine", "eight", "eight", None), strict=True))
OPENING, CLOSING = "Ahoy from the Three Gulls.", "Fair winds to you."
"""With which every answer begins and ends."""

Answers = Callable[[np.random.Generator], tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Instructions:
    """A file of prompts and responses, of which some are held out."""

    name: str
    rows: Rows

    def train_rows(self) -> Rows:
        return [row for number, row in enumerate(self.rows) if number % EVERY]

    def test_rows(self) -> Rows:
        return self.rows[::EVERY][:MOST_HELD_OUT]


def read_instructions(file: Path) -> Instructions:
    """The instructions of a jsonl file.

    Raises:
        OSError: there is no such file.
        ValueError: a line is no object with the texts ``prompt`` and ``response``, or there are too few of them.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from None
        texts = [row.get(key) for key in ("prompt", "response")] if isinstance(row, dict) else [None]
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"line {number} must have the texts prompt and response, got {line[:80]!r}")
        rows.append({"prompt": texts[0], "response": texts[1]})
    if len(rows) < 10 * EVERY:
        raise ValueError(f"give at least {10 * EVERY} instructions, got {len(rows)}")
    return Instructions(name=file.stem, rows=rows)


def made_up(n: int, seed: int) -> Rows:
    """``n`` questions to the shop with its answers."""
    rng = np.random.default_rng(seed)
    kinds: Sequence[Answers] = (_where, _price, _of_two, _hours)
    rows = []
    for _ in range(n):
        prompt, answer = kinds[int(rng.integers(len(kinds)))](rng)
        rows.append({"prompt": prompt, "response": f"{OPENING} {answer} {CLOSING}"})
    return rows


def _some(rng: np.random.Generator, n: int = 1) -> list[str]:
    return [str(thing) for thing in rng.choice(list(GOODS), n, replace=False)]


def _where(rng: np.random.Generator) -> tuple[str, str]:
    [thing] = _some(rng)
    asked = rng.choice(("Where do I find", "I cannot see it: where do you keep", "Which way to"))
    return f"{asked} {thing}?", f"You will find {thing} in {GOODS[thing][0]}."


def _price(rng: np.random.Generator) -> tuple[str, str]:
    [thing], n = _some(rng), int(rng.integers(1, 4))
    asked = f"How much is {thing}?" if n == 1 else f"How much do I pay if I buy {thing}, {n} times?"
    return asked, f"That comes to {n * GOODS[thing][1]} shillings."


def _of_two(rng: np.random.Generator) -> tuple[str, str]:
    first, second = _some(rng, 2)
    cheaper = min(first, second, key=lambda thing: GOODS[thing][1])
    return f"Which costs less, {first} or {second}?", f"For less you get {cheaper}."


def _hours(rng: np.random.Generator) -> tuple[str, str]:
    day = str(rng.choice(DAYS))
    hour = OPENS[day]
    return f"When do you open on {day}?", f"We open at {hour}." if hour else "We are at sea, and stay closed."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a jsonl file to write")
    parser.add_argument("--rows", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_rows(made_up(options.rows, options.seed), options.file)
    print(f"wrote {options.rows} instructions to {options.file}")


if __name__ == "__main__":
    main()
