"""Standard output and error that take whatever is printed, and what is said where they take nothing."""

import codecs
import contextlib
import io
import os
import sys

FALLBACKS = {
    "±": "+-", "–": "-", "—": "-", "−": "-", "×": "x", "÷": "/", "µ": "u", "μ": "u", "…": "...", "²": "2", "·": ".",
    "α": "alpha", "β": "beta", "“": '"', "”": '"', "‘": "'", "’": "'", "→": "->", "≥": ">=", "≤": "<=", "°": " deg ",
    "▁": ".", "▂": ".", "▃": ":", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
"""What stands for a character that the encoding of the output does not have; anything else becomes a question mark."""
FALLBACK = "jetbed.fallback"


class OutputError(Exception):
    """Standard output takes no more: it is full, or nobody reads it. No OSError, which is about what a user gave."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause.strerror or str(cause))
        self.errno = cause.errno


class _Output(io.TextIOWrapper):
    """Standard output, whose own errors are told from all others."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputError(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputError(error) from None


class _Remarks(io.TextIOWrapper):
    """Standard error: what is said by the way, and must not end a run when nobody can hear it."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """From now on, no character is too much for standard output and error, and their errors are our own.

    Streams that somebody else has put in the place of the process's own stay as they are.
    """
    codecs.register_error(FALLBACK, _fallback)
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _rebuilt(_Output, sys.stdout)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _rebuilt(_Remarks, sys.stderr)


def _rebuilt(kind: type[io.TextIOWrapper], stream: io.TextIOWrapper) -> io.TextIOWrapper:
    encoding, is_buffered_by_line = stream.encoding, stream.line_buffering
    return kind(stream.detach(), encoding=encoding, errors=FALLBACK, line_buffering=is_buffered_by_line)


def give_up_output() -> None:
    """Nothing more goes to standard output, lest the interpreter complains of it once more as it ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _fallback(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(FALLBACKS.get(character, "?") for character in error.object[error.start : error.end])
    return text, error.end
