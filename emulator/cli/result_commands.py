"""The commands that show what runs have written."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from emulator.cli import options
from emulator.storage.places import place


def summary(
    run_dir: Annotated[str, typer.Argument(help="The folder of a run.")], metric: options.MetricName = None
) -> None:
    """Print the summary of a run, finished or not."""
    from emulator.cli.progress import print_summary

    print_summary(place(run_dir), metric)


def report(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="RUN...|SWEEP", help="The folders of runs, or one sweep."),
    ],
    out: Annotated[str, options.place_option(help="The page to write, such as report.html.")],
    target: Annotated[
        float | None, typer.Option(help="Score to be reached; without it, the best that all finished runs reach.")
    ] = None,
    metric: options.MetricName = None,
) -> None:
    """Write runs or a sweep as one HTML file with figures that need nothing but a browser."""
    from emulator.cli.report import write_report

    write_report([place(path) for path in paths], place(out), target, metric)


def timeline(
    run_dir: Annotated[str, typer.Argument(help="The folder of a run.")],
    out: Annotated[str, options.place_option(help="The trace file to write, such as trace.json.")],
    rounds: Annotated[
        str | None, typer.Option(metavar="A-B", help="Only these rounds, counted from 0, both included; all without.")
    ] = None,
) -> None:
    """Write a run's emulated time as a trace for ui.perfetto.dev or chrome://tracing."""
    from emulator.cli.timeline import export_timeline

    export_timeline(place(run_dir), place(out), rounds)


def merge(
    run_dir: Annotated[Path, options.path_argument(help="The folder of a finished run, on this machine.")],
    out: Annotated[Path, options.path_option(help="The folder to write, new or empty.")],
    base: Annotated[
        str | None,
        typer.Option(help="Directory, GGUF file or hub id of the base model, where it is not found."),
    ] = None,
) -> None:
    """Write a run's adapter merged into its base model: a model that needs neither PEFT nor jetbed."""
    from emulator.merging import write_merged  # with torch

    found = write_merged(run_dir, out, base)
    typer.echo(f"merged into {found}: {out}")


def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs, or the folder of one sweep.")],
    target: Annotated[
        float | None, typer.Option(help="Score to be reached; the best that all finished runs reach without.")
    ] = None,
    metric: options.MetricName = None,
    baseline: Annotated[str | None, typer.Option(help="A group, or a policy, that the others are set against.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="A setting that makes groups; repeatable. All that differ but the seed without."),
    ] = None,
    budget_s: Annotated[float | None, typer.Option(help="Show the score within so many emulated seconds.")] = None,
    budget_bytes: Annotated[float | None, typer.Option(help="Show the score within so many bytes.")] = None,
    budget_j: Annotated[float | None, typer.Option(help="Show the score within so many joules.")] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Straight lines between evaluated rounds, not the next round's end.")
    ] = False,
    form: Annotated[
        Literal["table", "md", "csv", "json", "parquet"] | None,
        typer.Option("--format", help="A table, or what the ending of --out says, without."),
    ] = None,
    out: Annotated[str | None, options.place_option(help="Write to this file.")] = None,
) -> None:
    """Compare runs over seeds: time, bytes and energy to a score, the score under a budget, waiting, memory."""
    from emulator.analysis.metrics import Question
    from emulator.cli.compare import show_comparison

    question = Question(
        score=metric,
        target=target,
        budget_s=budget_s,
        budget_bytes=budget_bytes,
        budget_j=budget_j,
        interpolate=interpolate,
    )
    show_comparison([place(run) for run in runs], question, baseline, by, form, options.given_place(out))
