"""What ``jetbed report`` does: runs or a sweep as one HTML file."""

from collections.abc import Sequence

from emulator.analysis import Question
from emulator.errors import UserError
from emulator.report.page import report_page
from emulator.report.terminal.units import size
from emulator.results.reader import RunFrames, SweepFrames, load
from emulator.running.interruption import all_or_nothing
from emulator.storage.files import check_writable, write_text
from emulator.storage.places import Place


def write_report(paths: Sequence[Place], out: Place, target: float | None, metric: str | None = None) -> None:
    """Write the page and say where it is.

    Raises:
        typer.Exit: with status 130, interrupted.
        UserError: a folder is neither a run nor a sweep, the runs cannot be compared, or the file cannot be written.
    """
    question = Question(score=metric, target=target)
    check_writable(out)
    with all_or_nothing():
        n_bytes = write_text(out, report_page(_given(paths), question))
    print(f"report: {out} ({size(n_bytes)}); open it in any browser")


def _given(paths: Sequence[Place]) -> RunFrames | SweepFrames | list[RunFrames]:
    loaded = [load(path) for path in paths]
    if len(loaded) == 1:
        return loaded[0]
    for path, given in zip(paths, loaded, strict=True):
        if isinstance(given, SweepFrames):
            raise UserError(f"give one sweep by itself, or runs; this is a sweep beside others: {str(path)!r}")
    return [given for given in loaded if isinstance(given, RunFrames)]
