"""Every policy that ships with jetbed runs, to the same bytes wherever it does."""

from collections.abc import Mapping
from pathlib import Path

import pytest

import emulator
from emulator.policy.catalog import policy_names
from emulator.results import verify
from tests.integration.conftest import N_ROUNDS, TABLES, WatchedRuns, digests
from tests.integration.twins import Twins
from tests.ways import ways_to_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ways_to_run())
def test_hosts_on_ray_give_the_same_bytes_as_one_process(twins: Twins, name: str) -> None:
    inline = digests(twins.inline[name])
    assert len(inline) == len(TABLES) * N_ROUNDS
    assert digests(twins.on_ray[name]) == inline


@pytest.mark.parametrize("name", policy_names())
def test_the_books_of_every_policy_balance(inline_runs: Mapping[str, Path], name: str) -> None:
    verify(emulator.load(inline_runs[name]))


@pytest.mark.parametrize("name", policy_names())
def test_no_policy_makes_the_host_wait_within_the_steps_of_a_stack(watched_inline_runs: WatchedRuns, name: str) -> None:
    """As it would wait for what a GPU computes."""
    assert set(watched_inline_runs.steps[name]) == {"steps"}
