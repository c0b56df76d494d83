"""The live display of a run and its closing summary."""

import sys
from contextlib import suppress

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from emulator.backends.kinds import backend_kind
from emulator.cli.display import STARTING, RunDisplay, facts_of
from emulator.cli.live import DevicesAtWork
from emulator.config import Config
from emulator.launch.execute import execute
from emulator.objective.scores import score_named
from emulator.observers.base import Progress as RunProgress
from emulator.report.terminal.console import terminal
from emulator.report.terminal.streams import OutputError, give_up_output
from emulator.results.info import read_info
from emulator.results.writer import INFO_FILE
from emulator.running.interruption import interruptible
from emulator.storage.places import Place


def run_with_display(config: Config, out_dir: Place, *, resumes: bool = False) -> None:
    """Run with a live display on standard error; print the summary and the folder on standard output.

    With ``resumes`` the run in ``out_dir`` goes on. Live devices have a table of what they do. Where standard error is
    not a terminal, each finished round is one line. SIGTERM and SIGHUP end it as Ctrl-C does.
    """
    console = terminal(stderr=True)
    if console.is_terminal:
        display: RunDisplay = DevicesAtWork(console, config) if config.is_live else _Live(console, config)
    else:
        display = _Lines(console, config)
    try:
        with interruptible(), display:
            execute(config, out_dir, [display], resumes=resumes)
    except KeyboardInterrupt:
        written = (
            f"; what was written is whole: {out_dir}"
            if (out_dir / INFO_FILE).exists()
            else " before the first round was over"
        )
        # A terminal that has hung up takes no more lines.
        with suppress(OSError):
            console.print(f"jetbed: interrupted{written}", soft_wrap=True)
        raise typer.Exit(130) from None
    try:
        print_summary(out_dir)
        sys.stdout.flush()
    except OutputError as error:
        # The run is finished and whole, so that its command has not failed.
        give_up_output()
        console.print(f"jetbed: finished, but the summary cannot be shown ({error}): {out_dir}", soft_wrap=True)
    if outside := read_info(out_dir).get("outside_known_range"):
        settings = "; ".join(f"{device}: {setting}" for device, setting in outside.items())
        console.print(
            f"jetbed: prices outside the range in which these profiles are known are extrapolated: {settings}",
            soft_wrap=True,
        )


def print_summary(run_dir: Place, metric: str | None = None) -> None:
    """Print what a run came to, by the score ``metric`` if it is given, and where its files are.

    Raises:
        UserError: the folder is no run, or there is no such score.
    """
    from emulator.report.terminal.summary import render, summarise  # with pandas, which a run need not wait for
    from emulator.results.reader import load_run

    if metric is not None:
        score_named(metric, "--metric")
    console = terminal()
    console.print(render(summarise(load_run(run_dir), score=metric)))
    console.print(f"results: {run_dir}", soft_wrap=True)


class _Lines(RunDisplay):
    """A line that it starts, and one for every finished round."""

    def __init__(self, console: Console, config: Config) -> None:
        super().__init__(console)
        self._starts_hosts = config.training.enabled and backend_kind(config.backend.kind).has_host_processes
        self._rounds_done = 0

    def progressed(self, progress: RunProgress) -> None:
        if self._starts_hosts:  # which takes many seconds
            self._starts_hosts = False
            self._console.print(STARTING)
        if progress.rounds_done > self._rounds_done:
            self._rounds_done = progress.rounds_done
            self._console.print(f"round {progress.rounds_done}/{progress.n_rounds}  {facts_of(progress)}")


class _Live(RunDisplay):
    """A bar for the rounds and one for the devices of the round under way."""

    def __init__(self, console: Console, config: Config) -> None:
        super().__init__(console)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
        )
        self._rounds = self._bars.add_task(f"{config.policy.path} rounds", total=config.rounds, facts=STARTING)
        self._devices = self._bars.add_task("devices trained", total=None, facts="", visible=False)

    def __enter__(self) -> None:
        self._bars.start()

    def __exit__(self, *error: object) -> None:
        # A terminal that has hung up cannot be drawn on, which must not hide why the run ended.
        with suppress(OSError):
            self._bars.stop()

    def progressed(self, progress: RunProgress) -> None:
        facts = facts_of(progress) if progress.rounds_done else "first round"
        self._bars.update(self._rounds, completed=progress.rounds_done, facts=facts)
        is_training = progress.n_jobs > 0 and progress.rounds_done < progress.n_rounds
        self._bars.update(
            self._devices, completed=progress.jobs_done, total=progress.n_jobs or None, visible=is_training
        )
