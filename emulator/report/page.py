"""One HTML file that needs nothing but a browser: text and tables made here, figures drawn by the page itself."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from emulator.analysis import Comparison, Question, compare
from emulator.errors import UserError
from emulator.report.markup import counted, paragraph
from emulator.report.page_content import FramesOf, page_data, read_groups
from emulator.report.sections import Page
from emulator.results.info import read_info
from emulator.results.reader import RunFrames, SweepFrames, load_run
from emulator.results.version import VERSION

SCRIPTS = ("drawing.js", "curves.js", "devices.js", "types.js", "page.js")
"""In this order; together they are one script."""


def report_page(given: RunFrames | SweepFrames | Sequence[RunFrames], question: Question) -> Iterator[str]:
    """The page of a run, of runs, or of a sweep, in parts. The same results give the same bytes.

    Raises:
        UserError: the runs cannot be compared, are damaged, or none of them has anything to show.
    """
    comparison = compare(given, question)
    frames_of, infos = _reader(given, comparison)
    groups = read_groups(comparison, frames_of)
    if not infos:
        raise UserError("none of the runs has begun, so there is nothing to report")
    sections = Page(comparison, groups, infos).sections()
    first = next(iter(infos.values()))
    title, introduction = _heading(given, comparison, first)
    data = page_data(comparison, groups, first.get("majority_accuracy"))
    values = {
        "title": escape(title),
        "introduction": introduction,
        "navigation": "\n".join(f"<li><a href='#{name}'>{escape(text)}</a></li>" for name, text, _ in sections),
        "sections": "".join(html for _, _, html in sections),
        "footer": escape(f"Made by jetbed {VERSION}. All times are emulated unless they say otherwise."),
        "style": _asset("style.css"),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
        "plotly": get_plotlyjs(),
        # Within a script element, "</" would end it.
        "data": json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    yield Template(_asset("page.html")).substitute(values)


def _reader(
    given: RunFrames | SweepFrames | Sequence[RunFrames], comparison: Comparison
) -> tuple[FramesOf, Mapping[str, Mapping[str, Any]]]:
    """How to read a run of the comparison, and the run.json of all that have one.

    Every call reads anew, so that the tables of one run at a time are held.
    """
    names = comparison.runs["run"].astype(str).tolist()
    if isinstance(given, SweepFrames):
        begun = {name: given.run(name) for name in names if given.has_begun(name)}
    else:
        begun = {str(run.path): run for run in ([given] if isinstance(given, RunFrames) else given)}
    paths = {name: run.path for name, run in begun.items()}
    infos = {name: read_info(path) for name, path in paths.items()}
    return (lambda name: load_run(paths[name]) if name in paths else None), infos


def _heading(
    given: RunFrames | SweepFrames | Sequence[RunFrames], comparison: Comparison, info: Mapping[str, Any]
) -> tuple[str, str]:
    runs, seeds = comparison.runs, comparison.runs["seed"].nunique()
    groups = list(dict.fromkeys(comparison.runs["group"].astype(str)))
    about = f"{info.get('n_devices')} devices of {info.get('cluster')}, paying for {info.get('priced_model')}"
    trained = info.get("trained_model")
    about += f" while {trained} is trained." if trained else "; nothing was trained."
    if len(runs) == 1:
        return f"{info.get('policy')}, seed {info.get('seed')}", paragraph(f"A run on {about}")
    name = given.info.get("name") if isinstance(given, SweepFrames) else None
    title = str(name) if name else f"{', '.join(groups[:3])}{' and others' if len(groups) > 3 else ''}"
    counts = f"{len(runs)} runs: {counted(len(groups), 'group')}, {counted(seeds, 'seed')}"
    return title, paragraph(f"{counts}, on {about}")


def _asset(name: str) -> str:
    return files("emulator.report").joinpath("assets", name).read_text(encoding="utf-8")
