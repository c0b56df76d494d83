"""Sweeps that take milliseconds: eight devices without training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.sweeps.expansion import Sweep, expand
from emulator.sweeps.spec import read_spec

BASE = """
[base]
rounds = 2
testbed.n_devices = 8
training.enabled = false
backend.kind = "inline"
"""
GRID = """
[axes]
policy = ["legend", { path = "fedlora", rank = 4 }]
seed = [0, 1]
"""

MakeSweep = Callable[..., Sweep]


@pytest.fixture
def make_sweep(tmp_path: Path) -> MakeSweep:
    """The sweep of a file with the given text, over the small base."""

    def make(text: str = GRID, base: str = BASE) -> Sweep:
        path = tmp_path / "study.toml"
        path.write_text(base + text, encoding="utf-8")
        return expand(read_spec(path))

    return make
