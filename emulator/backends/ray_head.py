"""Leaves out of a cluster of our own what only serves one that others look at: seconds of processor time to start."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

LEFT_OUT = {"no_monitor": True, "include_log_monitor": False}
"""The autoscaler, which has no machine to add, and what passes logs on to the driver, which is told to leave them."""


@contextmanager
def lean_head() -> Iterator[None]:
    """A head that is started within the block comes without :data:`LEFT_OUT`.

    ``ray start`` has options for both, ``ray.init`` has none; with a Ray that knows them no longer it starts as ever.
    """
    parameter: Any = import_module("ray._private.parameter")
    original = parameter.RayParams
    if all(name in original.__init__.__code__.co_varnames for name in LEFT_OUT):
        parameter.RayParams = partial(original, **LEFT_OUT)
    try:
        yield
    finally:
        parameter.RayParams = original
