"""The command ``jetbed``. What a command needs is imported when it runs, so that help and listings come at once."""

import errno
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from emulator.cli import options, result_commands, running_commands, testbed_commands
from emulator.errors import UserError
from emulator.report.terminal.streams import OutputError, give_up_output, prepare_streams

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


for _command in (
    running_commands.run,
    running_commands.live,
    running_commands.resume,
    running_commands.doctor,
    running_commands.sweep,
    result_commands.summary,
    result_commands.report,
    result_commands.timeline,
    result_commands.compare,
    result_commands.merge,
    testbed_commands.policies,
    testbed_commands.devices,
    testbed_commands.price,
    testbed_commands.calibrate,
    testbed_commands.validate,
    testbed_commands.import_,
):  # in the order in which the help lists them
    app.command(_command.__name__.rstrip("_"))(_command)


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
