"""The command ``jetbed``. What a command needs is imported when it runs, so that help and listings come at once."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from emulator.errors import UserError

app = typer.Typer(
    name="jetbed",
    help="Emulates a testbed of Jetson devices that fine-tune a language model together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the command line; a user's mistake ends with one message and exit status 2."""
    # A policy of the user's own, module:Class, is looked for where the command is given.
    sys.path.insert(0, str(Path.cwd()))
    try:
        app()
    except UserError as error:
        print(f"jetbed: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def run(
    config: Annotated[Path | None, typer.Argument(help="A TOML file; without it, the default testbed.")] = None,
    policy: Annotated[str | None, typer.Option(help="A name that 'jetbed policies' lists, or module:Class.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of rounds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override any setting; repeatable.")
    ] = None,
    backend: Annotated[Literal["ray", "inline"] | None, typer.Option(help="Host processes, or this one.")] = None,
    hosts: Annotated[int | None, typer.Option(help="Number of host processes.")] = None,
    devices_per_actor: Annotated[int | None, typer.Option(help="1 gives every device an actor of its own.")] = None,
    gpus_per_host: Annotated[float | None, typer.Option(help="Share of a GPU for each host.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results, new or empty.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print all settings and do not run.")] = False,
) -> None:
    """Run a testbed and write its Parquet logs."""
    from emulator.config import load_config, parse_setting

    options = {
        "policy.path": policy,
        "rounds": rounds,
        "seed": seed,
        "backend.kind": backend,
        "backend.hosts": hosts,
        "backend.devices_per_actor": devices_per_actor,
        "backend.gpus_per_host": gpus_per_host,
    }
    given: list[tuple[str, Any]] = [(key, value) for key, value in options.items() if value is not None]
    settings = load_config(config, [*(parse_setting(text) for text in set_ or ()), *given])
    if print_config:
        from emulator.cli.settings import as_toml

        print(as_toml(settings), end="")
        return
    from emulator.cli.progress import run_with_display
    from emulator.results.writer import default_out_dir

    folder = out or default_out_dir(settings.policy.path, settings.seed, datetime.now())
    run_with_display(settings, folder)


@app.command()
def summary(run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")]) -> None:
    """Print the summary of a run, finished or not."""
    from emulator.cli.progress import print_summary

    print_summary(run_dir)


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
