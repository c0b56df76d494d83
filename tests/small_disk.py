"""A disk that runs full, or becomes read-only, when a test says so: a file system of its own, in memory."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted file system; ``folder`` is its root."""

    folder: Path

    def fill(self) -> None:
        """Leave no room at all, nor what another process is just about to give back."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            for _ in range(5):
                with suppress(OSError):  # as is to be reached
                    while ballast.write(bytes(4096)):
                        pass
                time.sleep(0.02)

    def free(self) -> None:
        """Give the room back."""
        (self.folder / "ballast").unlink()

    def forbid(self) -> None:
        """Let nobody write, not even root, whom the permissions of files do not stop."""
        _mount("-o", "remount,ro", str(self.folder))

    def permit(self) -> None:
        _mount("-o", "remount,rw", str(self.folder))


def why_no_disk() -> str:
    """Why none can be mounted here; nothing where one can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", folder)
        except (OSError, RuntimeError) as error:
            return f"no file system can be mounted here ({error})"
        subprocess.run(["umount", folder], check=True)
    return ""


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """A disk of :data:`SIZE_BYTES`, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="jetbed-disk-") as folder:
        _mount("-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", folder)
        try:
            yield SmallDisk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
