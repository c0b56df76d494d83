"""The command ``jetbed``. What a command needs is imported when it runs, so that help and listings come at once."""

import contextlib
import errno
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from emulator.cli import options
from emulator.errors import ConfigError, UserError
from emulator.report.terminal.streams import OutputError, give_up_output, prepare_streams
from emulator.storage.places import place

if TYPE_CHECKING:
    from emulator.config import Config

app = typer.Typer(
    name="jetbed",
    help="Emulates a testbed of Jetson devices that fine-tune a language model together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _about(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=options.show_version, is_eager=True),
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Run the command line; a user's mistake ends with one message and exit status 2."""
    # A policy of the user's own, module:Class, is looked for where the command is given, but shadows nothing.
    sys.path.append(str(Path.cwd()))
    prepare_streams()
    try:
        status = _status()
        if sys.stdout is not None:  # as it is where the process was started with a closed one
            sys.stdout.flush()
    except OutputError as error:
        give_up_output()
        if error.errno == errno.EPIPE:  # its reader has enough, as ``head`` has after some lines
            sys.exit(128 + signal.SIGPIPE)
        _complain(f"standard output cannot be written to ({error})")
        sys.exit(1)
    sys.exit(status)


def _status() -> int:
    """Run the command; its exit status."""
    try:
        app()
    except UserError as error:
        _complain(" ".join(str(error).splitlines()))
        return 2
    except OSError as error:
        if error.filename is None:  # not about a path, so not something that was given
            raise
        _complain(f"{error.strerror}: {str(error.filename)!r}")
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return 0


def _complain(text: str) -> None:
    print(f"jetbed: {text}", file=sys.stderr, flush=True)


@app.command()
def run(
    config: options.ConfigFile = None,
    policy: options.PolicyName = None,
    rounds: options.Rounds = None,
    seed: options.Seed = None,
    set_: options.Overrides = None,
    backend: options.BackendName = None,
    hosts: options.Hosts = None,
    devices_per_actor: options.DevicesPerActor = None,
    gpus_per_host: options.GpusPerHost = None,
    out: options.OutDir = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings and do not run.")] = False,
) -> None:
    """Run a testbed and write its Parquet logs."""
    given = options.by_key(
        policy=policy,
        rounds=rounds,
        seed=seed,
        backend=backend,
        hosts=hosts,
        devices_per_actor=devices_per_actor,
        gpus_per_host=gpus_per_host,
    )
    settings = options.settings_of(config, set_, given)
    if print_config:
        from emulator.cli.print_config import as_toml

        print(as_toml(settings), end="")
        return
    _run(settings, out)


def _run(settings: "Config", out: str | None) -> None:
    """Run ``settings`` into the folder that was given, or a new one by the name of the policy and the time."""
    from emulator.cli.progress import run_with_display
    from emulator.results.writer import claim_default_out_dir

    folder = options.given_place(out) or claim_default_out_dir(settings.policy.path, settings.seed, datetime.now())
    try:
        run_with_display(settings, folder)
    finally:
        if out is None and isinstance(folder, Path):
            with contextlib.suppress(OSError):  # not empty: the run has written into it
                folder.rmdir()


@app.command()
def live(
    config: options.ConfigFile = None,
    speed: Annotated[
        float | None, typer.Option(help="Emulated seconds per second of the wall; as the pace says without.")
    ] = None,
    policy: options.PolicyName = None,
    rounds: options.Rounds = None,
    seed: options.Seed = None,
    set_: options.Overrides = None,
    out: options.OutDir = None,
) -> None:
    """Run with live devices: each is a process that computes and transfers as slowly as its board.

    Shows what each of them does. Where this machine cannot keep the pace, a line says by how much, and which device.
    """
    pace = None if speed is None else f"realtime({speed!r})"
    given = options.by_key(policy=policy, rounds=rounds, seed=seed, backend="live", speed=pace)
    settings = options.settings_of(config, set_, given)
    _run(settings, out)


@app.command()
def resume(
    run_dir: Annotated[str, typer.Argument(help="The folder of a run that was interrupted, failed or died.")],
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Go on up to so many rounds, also with a run that is finished.")
    ] = None,
) -> None:
    """Let a run go on from its last checkpoint; it ends as if nothing had happened."""
    from emulator.cli.progress import run_with_display
    from emulator.launch.execute import config_to_resume

    folder = place(run_dir)
    run_with_display(config_to_resume(folder, rounds), folder, resumes=True)


@app.command()
def doctor(
    config: options.ConfigFile = None,
    policy: options.PolicyName = None,
    rounds: options.Rounds = None,
    seed: options.Seed = None,
    set_: options.Overrides = None,
    backend: options.BackendName = None,
    hosts: options.Hosts = None,
    devices_per_actor: options.DevicesPerActor = None,
    gpus_per_host: options.GpusPerHost = None,
    out: options.OutDir = None,
) -> None:
    """Say what of a run will not fit and how long it will take, without running it.

    Exit status: 0 if it will run, 1 if something will not fit, 2 if something given cannot be used.
    """
    given = options.by_key(
        policy=policy,
        rounds=rounds,
        seed=seed,
        backend=backend,
        hosts=hosts,
        devices_per_actor=devices_per_actor,
        gpus_per_host=gpus_per_host,
    )
    from emulator.cli.doctor import show_preflight

    show_preflight(options.settings_of(config, set_, given), options.given_place(out))


@app.command()
def sweep(
    sweep_file: Annotated[Path, options.path_argument(help="A TOML file with a base configuration, axes and cases.")],
    set_: options.Overrides = None,
    backend: options.BackendName = None,
    hosts: options.Hosts = None,
    max_parallel: Annotated[int, typer.Option(min=0, help="Runs at a time; 0 means as many as have room.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs, estimate time and memory, and run nothing.")
    ] = False,
    out: Annotated[
        str | None,
        options.place_option(help="Folder for the results, new or of the same sweep; runs/NAME without."),
    ] = None,
) -> None:
    """Run all combinations of a sweep file; started again, it goes on where it was.

    Exit status: 0 if every run is finished, 1 if a run failed (or, with --dry-run, something will not fit), 2 if
    something given cannot be used, 130 if it was interrupted.
    """
    from emulator.cli.sweep import show_estimate, sweep_with_display
    from emulator.sweeps.expansion import expand
    from emulator.sweeps.spec import read_spec

    given = options.overrides_of(set_, options.by_key(backend=backend, hosts=hosts))
    names = {key: option for key, option in options.OPTIONS.items() if key in ("backend.kind", "backend.hosts")}
    found = expand(read_spec(sweep_file), given, names)
    (show_estimate if dry_run else sweep_with_display)(
        found, options.given_place(out) or Path("runs") / found.name, max_parallel
    )


@app.command()
def summary(run_dir: Annotated[str, typer.Argument(help="The folder of a run.")]) -> None:
    """Print the summary of a run, finished or not."""
    from emulator.cli.progress import print_summary

    print_summary(place(run_dir))


@app.command()
def report(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="RUN...|SWEEP", help="The folders of runs, or one sweep."),
    ],
    out: Annotated[str, options.place_option(help="The page to write, such as report.html.")],
    target: Annotated[
        float | None, typer.Option(help="Accuracy to be reached; without it, the best that all finished runs reach.")
    ] = None,
) -> None:
    """Write runs or a sweep as one HTML file with figures that need nothing but a browser."""
    from emulator.cli.report import write_report

    write_report([place(path) for path in paths], place(out), target)


@app.command()
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


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs, or the folder of one sweep.")],
    target: Annotated[
        float | None, typer.Option(help="Accuracy to be reached; the best that all finished runs reach without.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="A group, or a policy, that the others are set against.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="A setting that makes groups; repeatable. All that differ but the seed without."),
    ] = None,
    budget_s: Annotated[float | None, typer.Option(help="Show the accuracy within so many emulated seconds.")] = None,
    budget_bytes: Annotated[float | None, typer.Option(help="Show the accuracy within so many bytes.")] = None,
    budget_j: Annotated[float | None, typer.Option(help="Show the accuracy within so many joules.")] = None,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Straight lines between evaluated rounds, not the next round's end.")
    ] = False,
    form: Annotated[
        Literal["table", "md", "csv", "json", "parquet"] | None,
        typer.Option("--format", help="A table, or what the ending of --out says, without."),
    ] = None,
    out: Annotated[str | None, options.place_option(help="Write to this file.")] = None,
) -> None:
    """Compare runs over seeds: time, bytes and energy to an accuracy, accuracy under a budget, waiting, memory."""
    from emulator.analysis.metrics import Question
    from emulator.cli.compare import show_comparison

    question = Question(
        target=target, budget_s=budget_s, budget_bytes=budget_bytes, budget_j=budget_j, interpolate=interpolate
    )
    show_comparison([place(run) for run in runs], question, baseline, by, form, options.given_place(out))


@app.command()
def policies(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the policies and their parameters."""
    from emulator.cli.listings import list_policies

    list_policies(as_json)


@app.command()
def devices(
    name: Annotated[str | None, typer.Argument(help="A device, cluster or link; without it, all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List the devices, clusters and links, or show all figures of one with units and provenance."""
    from emulator.cli.listings import list_devices

    list_devices(name, as_json)


@app.command()
def price(
    device: Annotated[str, typer.Argument(help="A device that 'jetbed devices' lists, or a profile's TOML file.")],
    mode: Annotated[
        str | None, typer.Option(help="A power mode's name or number; the board's default without.")
    ] = None,
    model: Annotated[str, typer.Option(help="A built-in name, a directory with a config.json, or a hub id.")] = (
        "roberta-base"
    ),
    depth: Annotated[int | None, typer.Option(help="Tuned layers, from the output; all of them without.")] = None,
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 8,
    targets: Annotated[str, typer.Option(help="Adapted matrices: qv, all, or names separated by commas.")] = "qv",
    batch: Annotated[int, typer.Option(help="Examples in a step.")] = 8,
    seq: Annotated[int, typer.Option(help="Tokens in an example.")] = 128,
    precision: Annotated[Literal["fp32", "amp"], typer.Option(help="Arithmetic on the device.")] = "fp32",
    quantized_layers: Annotated[int, typer.Option(help="Tuned layers that keep quantized activations.")] = 0,
    activation_bits: Annotated[int, typer.Option(help="Bits of a quantized activation, 4 or 8.")] = 8,
    width: Annotated[float, typer.Option(help="Share of heads and feed-forward channels that pruning left.")] = 1.0,
    cut: Annotated[int | None, typer.Option(help="Layers on the device of a model that is split.")] = None,
    dropout: Annotated[bool, typer.Option("--dropout", help="Keep masks of what is dropped out.")] = False,
    full_finetune: Annotated[bool, typer.Option("--full-finetune", help="Train the layers whole.")] = False,
    inference: Annotated[bool, typer.Option("--inference", help="A forward pass alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Say what one local step would cost on a device: time, bytes, memory, energy, and how sure that is."""
    from emulator.cli.price import PriceRequest, show_price

    request = PriceRequest(
        device=device,
        mode=mode,
        model=model,
        depth=depth,
        rank=rank,
        targets=targets,
        batch=batch,
        seq=seq,
        precision=precision,
        quantized_layers=quantized_layers,
        activation_bits=activation_bits,
        width=width,
        cut=cut,
        dropout=dropout,
        full_finetune=full_finetune,
        inference=inference,
    )
    show_price(request, as_json)


@app.command()
def calibrate(
    out: Annotated[Path | None, options.path_option(help="The profile's file, ending in .toml; new.")] = None,
    name: Annotated[str | None, typer.Option(help="The profile's title; the machine's own name without.")] = None,
    mode: Annotated[str, typer.Option(help="Name of the power mode that the machine is in.")] = "default",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; as many as PyTorch takes without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small grid: less sure, for smaller models.")] = False,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu: with one thread, on a machine that has other work.")
    ] = "wall",
    watts: Annotated[str | None, typer.Option(metavar="IDLE,COMPUTE,TRANSFER", help="As read off a meter.")] = None,
    sensor: Annotated[
        str | None,
        typer.Option(metavar="RAIL,...", help="Power rails to add up, or rapl; without it, those of the whole board."),
    ] = None,
    peer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Measure the link to there, too.")] = None,
    serve: Annotated[
        int | None, typer.Option(metavar="PORT", help="Be the peer of another machine; measures nothing here.")
    ] = None,
) -> None:
    """Measure this machine, and write a profile of it that can be used like any other."""
    from emulator.cli import calibrate as command
    from emulator.running.interruption import all_or_nothing

    if (serve is None) == (out is None):
        raise ConfigError("give --out FILE.toml to measure this machine, or --serve PORT to be another machine's peer")
    with all_or_nothing():
        if serve is not None:
            command.serve_link(serve)
        elif out is not None:
            command.calibrate(
                command.CalibrationRequest(
                    out=out,
                    name=name,
                    mode=mode,
                    device=device,
                    threads=threads,
                    quick=quick,
                    clock=clock,
                    watts=watts,
                    sensor=sensor,
                    peer=peer,
                )
            )


@app.command()
def validate(
    profile: Annotated[str, typer.Argument(help="A profile's TOML file, or a device that 'jetbed devices' lists.")],
    mode: Annotated[str | None, typer.Option(help="A power mode's name or number; the profile's default without.")] = (
        None
    ),
    device: Annotated[str | None, typer.Option(help="cpu or cuda; as the profile says without.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; as the profile says without.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer and smaller settings.")] = False,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu: with one thread, on a machine that has other work.")
    ] = "wall",
    csv: Annotated[str | None, options.place_option(help="Write the settings with both times to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Time steps on this machine that no profile was fitted to, beside what a profile says of them."""
    from emulator.cli import validate as command
    from emulator.running.interruption import all_or_nothing

    with all_or_nothing():
        command.validate(
            command.ValidationRequest(
                profile=profile,
                mode=mode,
                device=device,
                threads=threads,
                quick=quick,
                clock=clock,
                csv=options.given_place(csv),
            ),
            as_json,
        )
