"""What holds for all tests: offline, on no cluster but their own, one thread a process, dealt to workers by file."""

import os
from pathlib import Path

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
# A cluster of the user's is not for tests; those that need one start it, and name it to what they run.
os.environ.pop("RAY_ADDRESS", None)


ONCE_PER_SESSION = {"ray_cluster", "inline_runs"}
"""Fixtures that are dear enough for all tests that use any of them to meet in one worker."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under ``-n N --dist loadgroup`` all tests with Ray meet in one worker, and the others file by file."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        if "ray_cluster" in used:
            item.add_marker(pytest.mark.ray)
        together = item.get_closest_marker("ray") or ONCE_PER_SESSION & used
        group = "ray" if together else str(Path(item.path).relative_to(item.config.rootpath))
        item.add_marker(pytest.mark.xdist_group(group))
