"""What every reader of users' files is held to: a sentence or the content, in little memory and time."""

import time
from collections.abc import Callable
from pathlib import Path

from device_profiles.tables import ProfileError
from emulator.errors import UserError

MOST_BYTES = 500 * 2**20
MOST_CPU_S = 10.0


def refusal(call: Callable[[], object]) -> str | None:
    """What a reader says if it refuses a file; it takes no more memory and time than allowed."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (proc(5))
    before_bytes, begin_s = _peak_bytes(), time.process_time()
    said = None
    try:
        call()
    except (UserError, ProfileError) as refused:
        said = str(refused)
    assert time.process_time() - begin_s < MOST_CPU_S
    assert _peak_bytes() - before_bytes < MOST_BYTES
    assert said is None or 0 < len(said) < 3000
    return said


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
