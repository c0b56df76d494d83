"""What travels between the server and live devices: jobs and updates as bytes, cut into parts.

Both ends are processes of one run, so that nothing is read that this run has not written.
"""

import pickle
from collections.abc import Iterable
from typing import Any


def packed(content: object) -> bytes:
    """A job or an update as bytes."""
    return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)


def unpacked(parts: Iterable[bytes]) -> Any:
    """What :func:`packed` made bytes of that came in ``parts``."""
    return pickle.loads(b"".join(parts))


def part_of(content: bytes, index: int, n_parts: int) -> bytes:
    """One of ``n_parts`` near-equal parts of ``content``, which together are all of it."""
    return content[len(content) * index // n_parts : len(content) * (index + 1) // n_parts]
