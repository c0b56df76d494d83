"""Keeps what Ray's own processes and its C++ library print away from the user's terminal."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_python_speaks() -> Iterator[None]:
    """Within the block, standard error takes what Python prints on ``sys.stderr``, and nothing from below it.

    Ray's library writes its log lines and stack traces to the file descriptor itself, also while the process ends. They
    are in Ray's logs as well, and go nowhere here. A ``sys.stderr`` that is not the process's own stays as it is.
    """
    before = sys.stderr
    # A live display may stand in front of the stream.
    stream = getattr(before, "rich_proxied_file", before)
    if not isinstance(stream, io.TextIOWrapper) or not _is_the_process_own(stream):
        yield
        return
    stream.flush()
    kept = os.dup(2)
    _point_to_nothing(2)
    sys.stderr = type(stream)(
        os.fdopen(kept, "wb"), encoding=stream.encoding, errors=stream.errors, line_buffering=True, write_through=True
    )
    try:
        yield
    finally:
        os.dup2(kept, 2)
        with contextlib.suppress(OSError):
            sys.stderr.close()
        sys.stderr = before


def _is_the_process_own(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return False


def _point_to_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
