"""Below Python nobody reaches the terminal; what Python prints still does."""

import subprocess
import sys

PROGRAM = """
import os, sys
from emulator.backends.ray_noise import only_python_speaks
print("before", file=sys.stderr)
os.write(2, b"library before\\n")
with only_python_speaks():
    os.write(2, b"library within\\n")
    os.system("echo child within >&2")
    print("within", file=sys.stderr)
os.write(2, b"library after\\n")
print("after", file=sys.stderr)
"""


def test_within_the_block_only_python_reaches_the_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["before", "library before", "within", "library after", "after"]


def test_a_stream_that_somebody_has_put_there_stays(capsys: object) -> None:
    from emulator.backends.ray_noise import only_python_speaks

    before = sys.stderr
    with only_python_speaks():
        assert sys.stderr is before
