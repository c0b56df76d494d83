"""What ``jetbed compare`` prints or writes."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from emulator.analysis.comparison import Comparison, compare
from emulator.analysis.metrics import Question
from emulator.errors import ConfigError, UserError
from emulator.report.terminal.comparison import markdown, render
from emulator.report.terminal.console import terminal
from emulator.results.reader import RunFrames, SweepFrames, load
from emulator.storage.files import check_writable, replaced, write_text
from emulator.storage.places import Place

FORMATS = ("table", "md", "csv", "json", "parquet")
PLAIN_WIDTH = 100


def show_comparison(
    paths: Sequence[Place],
    question: Question,
    baseline: str | None,
    by: Sequence[str] | None,
    form: str | None,
    out: Place | None,
) -> None:
    """Print or write a comparison. Without ``form`` it follows from the ending of ``out``, and is a table otherwise.

    Raises:
        UserError: a folder is no run, the runs cannot be compared, or the file cannot be written.
    """
    form = form or _form_of(out)
    if form == "parquet" and out is None:
        raise ConfigError("--format parquet writes a file; give it with --out FILE")
    if out is not None:
        check_writable(out)
    compared = compare(_loaded(paths), question, baseline=baseline, by=by)
    if out is None and form == "table":
        terminal().print(render(compared), soft_wrap=False)
    elif out is None:
        print(_text(compared, form), end="")
    else:
        _write(compared, form, out)


def _loaded(paths: Sequence[Place]) -> SweepFrames | list[RunFrames]:
    loaded = [load(path) for path in paths]
    if len(loaded) == 1 and isinstance(loaded[0], SweepFrames):
        return loaded[0]
    runs = [frames for frames in loaded if isinstance(frames, RunFrames)]
    if len(runs) < len(loaded):
        sweep = next(path for path, frames in zip(paths, loaded, strict=True) if isinstance(frames, SweepFrames))
        raise UserError(f"give runs, or one sweep; a sweep among others: {str(sweep)!r}")
    return runs


def _form_of(out: Place | None) -> str:
    suffix = "" if out is None else out.suffix.removeprefix(".")
    return suffix if suffix in FORMATS else "table"


def _text(compared: Comparison, form: str) -> str:
    if form == "md":
        return markdown(compared)
    if form == "csv":
        return compared.groups.to_csv(index=False)
    if form == "json":
        return json.dumps(_as_plain(compared), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    console = terminal(width=PLAIN_WIDTH, plain=True)
    with console.capture() as capture:
        console.print(render(compared))
    return capture.get()


def _write(compared: Comparison, form: str, out: Place) -> None:
    if form == "parquet":
        with replaced(out) as file:
            compared.groups.to_parquet(file, index=False)
    else:
        write_text(out, [_text(compared, form)])


def _as_plain(compared: Comparison) -> dict[str, Any]:
    """The comparison for scripts, in the units of docs/metrics.md; what is not known is null."""
    question = compared.question
    return {
        "score": question.measured_by,
        "target": question.target,
        "is_target_given": compared.is_target_given,
        "interpolate": question.interpolate,
        "budget_s": question.budget_s,
        "budget_bytes": question.budget_bytes,
        "budget_j": question.budget_j,
        "by": list(compared.by),
        "baselines": dict(compared.baselines),
        "without_power": {group: list(types) for group, types in compared.without_power.items()},
        "groups": _records(compared.groups),
        "runs": _records(compared.runs),
    }


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [
        {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
        for row in plain.to_dict("records")
    ]
