"""What ``jetbed timeline`` does: a run's emulated time as a trace file."""

import re

from emulator.analysis.devices import power_remark, without_power
from emulator.errors import ConfigError, UserError
from emulator.report.markup import counted
from emulator.report.terminal.units import size
from emulator.report.trace_events import trace_lines
from emulator.results.reader import RunFrames, load_run
from emulator.running.interruption import all_or_nothing
from emulator.storage.files import check_writable, write_text
from emulator.storage.places import Place


def export_timeline(run_dir: Place, out: Place, rounds: str | None) -> None:
    """Write the trace of a run, or of some of its rounds, and say where it is.

    Raises:
        typer.Exit: with status 130, interrupted.
        UserError: the folder is no run, has no such rounds, or the file cannot be written.
    """
    check_writable(out)
    span = None if rounds is None else _span(rounds)
    with all_or_nothing():
        frames = load_run(run_dir)
        _check_rounds(frames, run_dir, span, rounds)
        n_bytes = write_text(out, trace_lines(frames, span))
    if without := without_power(frames.devices):
        print(f"timeline: joules are left out where they are not known: {power_remark(without)}")
    n_rounds = len(frames.rounds) if span is None else span[1] - span[0] + 1
    print(
        f"timeline: {out} ({size(n_bytes)}, {counted(n_rounds, 'round')})\n"
        "open it in https://ui.perfetto.dev (Open trace file; it stays on this machine) or chrome://tracing"
    )


def _span(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,10})(-(\d{1,10}))?", text.strip())
    if found is None:
        raise ConfigError(f"--rounds must be a round or a range of them, such as 3 or 3-10: {text!r}")
    first = int(found[1])
    last = first if found[3] is None else int(found[3])
    if last < first:
        raise ConfigError(f"--rounds must not end before it begins: {text!r}")
    return first, last


def _check_rounds(frames: RunFrames, run_dir: Place, span: tuple[int, int] | None, given: str | None) -> None:
    if frames.rounds.empty:
        raise UserError(f"the run has no round that is done, so there is no timeline: {str(run_dir)!r}")
    if span is None:
        return
    first, last = int(frames.rounds["round_index"].min()), int(frames.rounds["round_index"].max())
    if span[0] < first or span[1] > last:
        raise ConfigError(f"--rounds: the run in {str(run_dir)!r} has rounds {first} to {last}: {given!r}")
