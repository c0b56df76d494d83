"""How a command that writes one file ends when it is asked to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from emulator.backends.interruption import interruptible


@contextmanager
def all_or_nothing() -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP end the command with one line and exit status 130."""
    try:
        with interruptible():
            yield
    except KeyboardInterrupt:
        print("jetbed: interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
