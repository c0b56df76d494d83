"""The commands that carry runs out, or look at them before."""

import contextlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emulator.cli import options
from emulator.storage.places import place

if TYPE_CHECKING:
    from emulator.config import Config


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
    _carry_out(settings, out)


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
    _carry_out(options.settings_of(config, set_, given), out)


def _carry_out(settings: "Config", out: str | None) -> None:
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
