"""What holds for all tests: offline, on no cluster but their own, one thread a process, dealt to workers by file."""

import gc
import os
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
# A cluster of the user's is not for tests; those that need one start it, and name it to what they run.
os.environ.pop("RAY_ADDRESS", None)

TOGETHER = re.compile(r"\binline_runs\b|\btwins: Twins\b")
"""Which file uses what is dearer to make twice than to wait for stands in its text."""
SECONDS = {"ray": 15.0, "golden": 8.0, "slow": 2.0}
"""About what a test of whole runs takes that is marked so, in seconds of CPU."""
UNIT_SECONDS = {"ray": 15.0, "slow": 0.3}
"""The same for tests of single parts."""
USUAL_SECONDS = 0.02
ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Modules and tests leave nothing behind; looking for it while they are loaded takes two fifths of the time.

    Seen: 6.2 s of CPU in place of 10.7 s for 5,700 tests, in each worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Who uses the cluster is a test with Ray, and need not say so."""
    if "ray_cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.ray)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under ``-n``, what takes longest comes first, so that no worker is left alone with it in the end."""
    if not hasattr(config, "workerinput"):
        return
    seconds: Counter[str] = Counter()
    for item in items:
        expected = UNIT_SECONDS if item.nodeid.startswith("tests/unit/") else SECONDS
        marks = [expected[mark.name] for mark in item.iter_markers() if mark.name in expected]
        seconds[group_of(item.nodeid)] += max(marks, default=USUAL_SECONDS)
    items.sort(key=lambda item: -seconds[group_of(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under ``-n``, whole files go to workers, in their order, and all that are :data:`TOGETHER` to the same one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, whatever they take
    return ByFile(config, log)


def group_of(nodeid: str) -> str:
    """What goes to the same worker as this test."""
    return _group(nodeid.partition("::")[0])


@cache
def _group(file: str) -> str:
    return "together" if TOGETHER.search((ROOT / file).read_text(encoding="utf-8")) else file
