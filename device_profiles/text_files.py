"""The files that users name: where they lie, and their text. Nothing larger than allowed is read."""

import io
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

MOST_TEXT_BYTES = 2**20
"""Of a file that people write: a configuration, a profile, a cluster, a link."""
MOST_RECORDED_BYTES = 2**26
"""Of a text file that something recorded."""
MOST_KEY_PARTS = 64

_MARKS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"),
          (b"\xfe\xff", "UTF-16"))  # fmt: skip


class FileError(ValueError):
    """A user's file cannot be read. The message says why and what to do, and does not begin with the file's name."""


def user_path(given: str | Path, folder: Path | None = None) -> Path:
    """The path that a user means: ``~`` is a home and ``file://`` a local file; a relative one lies in ``folder``.

    Without ``folder`` a relative path stays relative to the working directory. A path need not exist.
    """
    text = str(given)
    if text.startswith("file:/"):
        # A path object has made one slash of two.
        url = urlsplit(text if text.startswith("file://") else text.replace("file:/", "file:///", 1))
        text = unquote(url.path if url.netloc in ("", "localhost") else f"{url.netloc}{url.path}")
    if text.startswith("~"):
        text = os.path.expanduser(text)
    return Path(text) if folder is None else folder / text


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        FileError: it cannot be read, is a folder, or is larger than ``most_bytes``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise FileError("there is no such file") from None
    except IsADirectoryError:
        raise FileError("is a folder, not a file") from None
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        raise FileError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > most_bytes:
        raise FileError(f"is larger than the {most_bytes / 2**20:g} MiB that such a file may have")
    return content


def size_of(path: Path) -> int:
    """The size of a regular file in bytes.

    Raises:
        FileError: it is none, or cannot be looked at.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not stat.S_ISREG(status.st_mode):
        raise FileError("is a folder, not a file" if stat.S_ISDIR(status.st_mode) else "is no regular file")
    return status.st_size


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        FileError: it cannot be read, is larger than ``most_bytes``, or is not UTF-8.
    """
    return decoded(read_bytes(path, most_bytes))


def decoded(content: bytes) -> str:
    """The text that ``content`` encodes in UTF-8, with or without a byte order mark.

    Raises:
        FileError: it does not; the message says what does, and how to convert it.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise FileError(_advice(encoding, "it begins with its byte order mark"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"line {line} has the byte 0x{content[error.start]:02x}"
        if b"\0" in content[:1024]:
            raise FileError(f"is not text: {byte}") from None
        # Latin-1 has nothing but control characters from 0x80 to 0x9f, where Windows has quotes and the euro.
        is_windows = any(0x80 <= each <= 0x9F for each in content[: 2**16])
        raise FileError(_advice("Windows-1252" if is_windows else "Latin-1", byte)) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        halves = content[:1024:2].count(0), content[1:1024:2].count(0)
        if 2 * max(halves) > len(content[:1024]) // 2:
            raise FileError(_advice("UTF-16", f"line {line} has null bytes"))
        raise FileError(f"is not text: line {line} has a null byte")
    return text


def parsed_toml(text: str) -> dict[str, Any]:
    """What TOML says.

    Raises:
        FileError: it is none, or is nested or numbered beyond what is ever needed.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        # A parser's time grows with the third power of the parts of a key.
        if line.count(".") >= MOST_KEY_PARTS and _n_key_parts(line) > MOST_KEY_PARTS:
            raise FileError(f"is not valid TOML: line {number} has a key of more than {MOST_KEY_PARTS} parts")
    try:
        values = tomllib.loads(text)
        repr(values)  # a message must be able to say each value
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise FileError("has tables or lists that are nested too deeply to be read") from None
    except ValueError:
        raise FileError("a number has too many digits to be read") from None
    return values


def _n_key_parts(line: str) -> int:
    """The most parts that a key of the line can have."""
    before_values = line.split("=")[:-1]
    header = line.partition("]")[0] if line.lstrip().startswith("[") and "," not in line else ""
    return max(part.count(".") + 1 for part in [*before_values, header])


def lines_of(path: Path, most_lines: int, most_bytes: int = MOST_RECORDED_BYTES) -> Iterator[tuple[int, str]]:
    """The lines of a text file without their ends, each with its number from 1.

    Raises:
        FileError: as :func:`read_text` does, or there are more than ``most_lines``.
    """
    content = read_bytes(path, most_bytes)
    decoded(content)  # what is no text is told before its first line is used
    # One line after the other: a list of them would take many times the memory of the text.
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig"), start=1):
        if number > most_lines:
            raise FileError(f"has more than the {most_lines:,} lines that such a file may have")
        yield number, line.rstrip("\n")


def shortened(value: object, most: int = 80) -> str:
    """``value`` as a message says it: as Python writes it, and cut where it is long."""
    text = repr(value[: 2 * most] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}..."


def _advice(encoding: str, why: str) -> str:
    return (
        f"is not UTF-8 ({why}); it looks like {encoding}: convert it with"
        f" iconv -f {encoding.upper()} -t UTF-8 FILE > NEW"
    )
