"""``python -m benchmarks.tasks [--model NAME=PLACE ...] [--data NAME=FOLDER ...] [--instructions FILE]``, and more

With ``--only WORD ...`` it makes some of the cells alone; ``--out FOLDER`` is where all runs lie.

Writes the page ``benchmarks/tasks.md`` (minutes on one core), or goes on where it was. Each ``--model`` is a directory
of transformers or a GGUF file, each ``--data`` a directory with ``train.tsv`` and ``test.tsv``: a sentence and a label
of 0 or 1 to a line, without a header; ``--instructions`` is a jsonl file with ``prompt`` and ``response`` on each line,
such as ``python -m benchmarks.tasks.instructions FILE`` writes. Every encoder learns every data set: single sentences,
and pairs that are made of them (which of two is the more positive?). Every decoder learns the instructions; without,
the sentences as plain texts. Exit status 1 where something is not equal or does not learn.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.tasks.cells import Cell, given_cells, made_up_cells
from benchmarks.tasks.instructions import Instructions, read_instructions
from benchmarks.tasks.page import line_of, page
from benchmarks.tasks.runs import carry_out
from emulator.shapes.gguf_file import ENDING as GGUF

PAGE = Path(__file__).parents[1] / "tasks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=named_model, action="append", default=[], metavar="NAME=PLACE")
    parser.add_argument("--data", type=named, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--instructions", type=instructions, metavar="FILE")
    parser.add_argument("--only", nargs="+", default=[], help="the cells whose name contains one of these")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="the folder of all runs")
    parser.add_argument("--page", type=Path, help="the page to write; with --only, one in --out without it")
    options = parser.parse_args()
    cells = chosen(dict(options.model), dict(options.data), options.instructions, options.only)
    if not cells:
        parser.error(f"no cell has one of {', '.join(options.only)} in its name; one is {next(made_up_cells()).name!r}")
    lines = []
    for cell in cells:
        begun_s = time.process_time()
        lines.append(line_of(carry_out(cell, options.out)))
        apart, scores = lines[-1].apart, " -> ".join(f"{score:.3f}" for score in lines[-1].scores)
        print(f"{cell.name}: {apart:.1e} apart, {scores} ({time.process_time() - begun_s:.1f} s)", flush=True)
    written = options.page or (options.out / PAGE.name if options.only else PAGE)
    written.write_text(page(lines), encoding="utf-8")
    print(f"wrote {written}")
    sys.exit(not all(line.is_equal and line.learns for line in lines))


def named(text: str) -> tuple[str, Path]:
    """``NAME=FOLDER`` of the command line."""
    name, _, folder = text.partition("=")
    if not name or not Path(folder).is_dir() or not folder:
        raise argparse.ArgumentTypeError(f"give NAME=FOLDER with a folder that there is, got {text!r}")
    return name, Path(folder)


def named_model(text: str) -> tuple[str, Path]:
    """``NAME=PLACE`` of the command line."""
    name, _, place = text.partition("=")
    if name and place.endswith(GGUF) and Path(place).is_file():
        return name, Path(place)
    try:
        return named(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"give NAME=PLACE with a folder or a {GGUF} file that there is, got {text!r}"
        ) from None


def instructions(text: str) -> Instructions:
    """The file of the command line."""
    try:
        return read_instructions(Path(text))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def chosen(
    models: dict[str, Path], data: dict[str, Path], instructions: Instructions | None, words: list[str]
) -> list[Cell]:
    """The cells whose name contains one of ``words``; all without."""
    cells = [*made_up_cells(), *given_cells(models, data, instructions)]
    return [cell for cell in cells if not words or any(word in cell.name for word in words)]


if __name__ == "__main__":
    main()
