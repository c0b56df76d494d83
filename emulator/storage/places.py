"""Where results lie: in a folder of this machine, or under a URL of a storage that pyarrow reaches.

A :data:`Place` is made once, from what a user wrote, by :func:`place`. A path of this machine stays a ``Path``; a
:class:`RemotePath` answers to the same names, as far as results need them. Files are written by
``emulator.storage.files``.
"""

import errno
import fnmatch
import mimetypes
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from device_profiles.text_files import user_path
from emulator.errors import ConfigError, UserError

SCHEMES = ("s3", "gs", "hdfs")
"""Of the URLs that name a place; ``file`` is one on this machine."""
PUT_AT_ONCE = ("s3", "gcs")
"""Kinds of storage, as pyarrow calls them, in which a file that was written appears whole or not at all."""
GCS_PATIENCE_S = 60
"""How long Google's storage is tried; without a word about it, pyarrow would go on for a quarter of an hour."""
OWNER_PREFIX = ".owner-"
"""How the files begin by which a process says that it writes into a folder of a storage, which has no locks."""
VARIABLES = ("AWS_", "GOOGLE_", "CLOUDSDK_", "HADOOP_", "JAVA_HOME", "CLASSPATH", "ARROW_LIBHDFS_DIR")
"""How environment variables begin by which pyarrow finds a storage and may use it."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_REASONS: Mapping[str, str] = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "ACCESS_DENIED": "access is denied; are the credentials right, such as AWS_ACCESS_KEY_ID?",
    "INVALID_ACCESS_KEY_ID": "these credentials are not known; is AWS_ACCESS_KEY_ID right?",
    "SIGNATURE_DOES_NOT_MATCH": "these credentials are wrong; is AWS_SECRET_ACCESS_KEY right?",
    "NETWORK_CONNECTION": "the storage cannot be reached; is the network up, and the endpoint right?",
}
"""What a user is told for an error of S3."""


class StorageError(UserError, OSError):
    """A storage cannot be reached or does not do what it was asked. The message says why, and names the URL."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename!r}"


@dataclass(frozen=True, order=True, repr=False)
class RemotePath:
    """A file or folder of a storage, which need not exist. It connects when it is first asked for something.

    Whatever goes wrong is a :class:`StorageError`, or a FileNotFoundError where there is no such file.

    Attributes:
        root: the URL of the bucket or server, with its options, and with credentials where the user gave some there.
        key: the path in it, without slashes in front or behind.
    """

    root: str
    key: str

    def __str__(self) -> str:
        """The URL, as a user may give it, but without credentials."""
        url = urlsplit(self.root)
        server = url.netloc.rpartition("@")[2]
        return f"{url.scheme}://{server}/{quote(self.key, safe='/=,+:@~')}{f'?{url.query}' if url.query else ''}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __truediv__(self, name: "str | PurePosixPath | Path") -> "RemotePath":
        return RemotePath(self.root, f"{self.key}/{PurePosixPath(name)}".strip("/"))

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.root, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> "RemotePath":
        return self.parent / name

    def with_suffix(self, suffix: str) -> "RemotePath":
        return self.parent / PurePosixPath(self.name).with_suffix(suffix)

    def absolute(self) -> "RemotePath":
        return self

    @property
    def filesystem(self) -> Any:
        """The ``pyarrow.fs.FileSystem`` that it lies in."""
        with self._told():
            return _connected(self.root, _variables())[0]

    @property
    def path(self) -> str:
        """What :attr:`filesystem` calls it."""
        with self._told():
            base: str = _connected(self.root, _variables())[1]
        return f"{base.rstrip('/')}/{self.key}".rstrip("/")

    def exists(self) -> bool:
        return self._is("File", "Directory")

    def is_file(self) -> bool:
        return self._is("File")

    def is_dir(self) -> bool:
        """Whether it is a folder; on object storage, whether anything lies below it."""
        return self._is("Directory")

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        """What lies in the folder; nothing where there is none."""
        from pyarrow.fs import FileSelector

        with self._told():
            found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return (self / info.base_name for info in found)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """What lies in the folder under a name like ``pattern``."""
        return (each for each in self.iterdir() if fnmatch.fnmatchcase(each.name, pattern))

    def modified_s(self) -> float:
        """When the file was written, by the clock of the storage."""
        with self._told():
            (info,) = self.filesystem.get_file_info([self.path])
        if info.mtime_ns is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(self))
        return float(info.mtime_ns / 1e9)

    def read_bytes(self) -> bytes:
        # By its name alone a file is not taken for a compressed one.
        with self._told(), self.filesystem.open_input_stream(self.path, compression=None) as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put a file there, whole or not at all; one that was there is replaced, and folders are made."""
        with self._told():
            if self.filesystem.type_name in PUT_AT_ONCE:
                self._put(content)
                return
            self.filesystem.create_dir(self.parent.path, recursive=True)
            temporary = self.with_name(f".{self.name}.{os.getpid()}.tmp")
            try:
                temporary._put(content)
                self.filesystem.move(temporary.path, self.path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise

    def _put(self, content: bytes) -> None:
        kind = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        stream = self.filesystem.open_output_stream(self.path, compression=None, metadata={"Content-Type": kind})
        # Not closed where writing fails: closing is what makes a file appear.
        stream.write(content)
        stream.close()

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            with self._told():
                self.filesystem.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Remove the folder with all that lies in it; nothing where there is none."""
        with suppress(FileNotFoundError), self._told():
            self.filesystem.delete_dir(self.path)

    def check_reachable(self) -> None:
        """Raise StorageError where there is no such bucket or server, or it lets nobody in with these credentials."""
        with self._told():
            filesystem, base = _connected(self.root, _variables())
            found, _ = filesystem.get_file_info([base, self.path])
        if found.type.name != "Directory":
            raise StorageError(errno.ENOENT, "there is no such bucket", str(self))

    def _is(self, *kinds: str) -> bool:
        with self._told():
            (info,) = self.filesystem.get_file_info([self.path])
        return info.type.name in kinds

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What pyarrow raises, as an error that names the URL and says in a few words what is wrong."""
        from pyarrow import ArrowException

        try:
            yield
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", str(self)) from error
        except (OSError, ArrowException) as error:
            raise StorageError(getattr(error, "errno", None) or errno.EIO, _reason(error), str(self)) from error


Place = Path | RemotePath
"""A file or folder on this machine or on a storage."""


def place(given: "str | Place") -> Place:
    """The place that a user means: a path as :func:`user_path` reads it, or a URL of :data:`SCHEMES`.

    Nothing is asked of a storage yet.

    Raises:
        ConfigError: it is a URL of another kind, or of no bucket or server.
    """
    if isinstance(given, RemotePath):
        return given
    text = str(given)
    if isinstance(given, Path):
        # A path object has made one slash of two.
        text = re.sub(rf"^({'|'.join(SCHEMES)}):/(?=[^/])", r"\1://", text)
    found = _URL.match(text)
    if found is None or found[1] == "file":
        return user_path(text)
    if found[1] not in SCHEMES:
        raise ConfigError(f"a place is a path or a URL that begins with {_either()}, got {text!r}")
    url = urlsplit(text)
    if not url.netloc.rpartition("@")[2] and found[1] != "hdfs":
        raise ConfigError(f"a URL of {found[1]} names a bucket, as in {found[1]}://bucket/runs/first, got {text!r}")
    root = f"{url.scheme}://{url.netloc}{'/' if found[1] == 'hdfs' else ''}{f'?{url.query}' if url.query else ''}"
    return RemotePath(root, unquote(url.path).strip("/"))


def listed(folder: Place, pattern: str = "*") -> list[Place]:
    """What lies in a folder under a name like ``pattern``, by name; nothing where there is no folder."""
    found: list[Place] = [*folder.glob(pattern)]
    return sorted(found, key=lambda each: each.name)


def is_url(text: str) -> bool:
    """Whether ``text`` is a URL of something that is not on this machine."""
    found = _URL.match(text)
    return found is not None and found[1] != "file"


def storage_variables() -> dict[str, str]:
    """The environment variables of this process that tell pyarrow of storages, for a process that must find them."""
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


def _variables() -> tuple[tuple[str, str], ...]:
    return tuple(storage_variables().items())


@cache
def _connected(root: str, variables: tuple[tuple[str, str], ...]) -> tuple[Any, str]:
    """The file system of a URL, and what it calls the URL's own place; ``variables`` are those that it depends on."""
    from pyarrow.fs import FileSystem

    if root.startswith("gs://") and "retry_limit_seconds" not in root:
        root += f"{'&' if '?' in root else '?'}retry_limit_seconds={GCS_PATIENCE_S}"
    filesystem, base = FileSystem.from_uri(root)
    return filesystem, base


def _reason(error: Exception) -> str:
    """The first sentence of what pyarrow says."""
    text = str(error)
    if (found := re.search(r"AWS Error (\w+)", text)) and found[1] in _REASONS:
        return _REASONS[found[1]]
    if "libjvm" in text or "libhdfs" in text:
        return "HDFS needs Java and Hadoop on this machine; set JAVA_HOME, HADOOP_HOME and CLASSPATH"
    return " ".join(text.splitlines()[0].split())[:300] if text else type(error).__name__


def _either() -> str:
    *others, last = (f"{scheme}://" for scheme in ("file", *SCHEMES))
    return f"{', '.join(others)} or {last}"
