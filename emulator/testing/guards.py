"""Catches what would make a run depend on anything but its seed: wall clocks and global random state."""

import datetime as dt
import random
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn
from unittest import mock

import numpy as np

from emulator.testing.compare import same
from emulator.testing.errors import ConformanceError, require

CLOCKS = (
    "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns "
    "thread_time thread_time_ns localtime gmtime ctime sleep"
).split()


class _ClocklessDate(dt.date):
    @classmethod
    def today(cls) -> NoReturn:
        _refuse("datetime.date.today")


class _ClocklessDatetime(dt.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> NoReturn:
        _refuse("datetime.datetime.now")

    @classmethod
    def utcnow(cls) -> NoReturn:
        _refuse("datetime.datetime.utcnow")

    @classmethod
    def today(cls) -> NoReturn:
        _refuse("datetime.datetime.today")


@contextmanager
def no_wall_clock(classes: Iterable[type]) -> Iterator[None]:
    """Within it, whoever reads the wall clock in this thread gets a :class:`ConformanceError`.

    The clocks of :mod:`time` and :mod:`datetime` are replaced there, and in the modules of ``classes``, which may have
    imported them by name.
    """
    replaced: list[tuple[Any, Any]] = [(getattr(time, name), _refusing(name)) for name in CLOCKS]
    replaced += [(dt.date, _ClocklessDate), (dt.datetime, _ClocklessDatetime)]
    modules = {id(module): module for module in (sys.modules.get(found.__module__) for found in classes) if module}
    with ExitStack() as stack:
        for module in [time, dt, *modules.values()]:
            for name, value in list(vars(module).items()):
                for original, refusing in replaced:
                    if value is original:
                        stack.enter_context(mock.patch.object(module, name, refusing))
        yield


@contextmanager
def no_global_random_state() -> Iterator[None]:
    """Raise a :class:`ConformanceError` at its end if a global random stream was drawn from or seeded within it."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    yield
    advice = "draw from view.rng instead"
    require(random.getstate() == python, f"the policy uses the global state of the module random; {advice}")
    require(
        same(np.random.get_state(legacy=False), numpy),
        f"the policy uses the global state of numpy.random; {advice}",
    )


def _refusing(name: str) -> Any:
    original, owner = getattr(time, name), threading.get_ident()

    def clock(*arguments: Any) -> Any:
        # Other threads, such as a test runner's, have a right to the time.
        return _refuse(f"time.{name}") if threading.get_ident() == owner else original(*arguments)

    return clock


def _refuse(clock: str) -> NoReturn:
    raise ConformanceError(f"the policy reads the wall clock ({clock}); emulated time is in view.now_s")
