"""Small runs of the whole emulator, made once and looked at by many tests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.policy.catalog import policy_names
from tests.integration.ray_cluster import RayCluster, started_cluster
from tests.integration.small_runs import N_ROUNDS, SMALL, TABLES, digests, small_run, sweep_of
from tests.integration.twins import Twins, made_twins

__all__ = ["N_ROUNDS", "SMALL", "TABLES", "digests", "small_run", "sweep_of"]


@pytest.fixture(scope="session")
def inline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rounds of LEGEND, in one process."""
    return small_run(tmp_path_factory.mktemp("inline") / "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedRuns:
    """By policy, folders of runs, and what was seen of their steps by :func:`~tests.host_waits.steps_watched`."""

    folders: Mapping[str, Path]
    steps: Mapping[str, list[str]]


@pytest.fixture(scope="session")
def watched_inline_runs(tmp_path_factory: pytest.TempPathFactory) -> WatchedRuns:
    from tests.host_waits import steps_watched

    with steps_watched() as steps:
        folders = sweep_of(policy_names(), tmp_path_factory.mktemp("policies"))
    return WatchedRuns(folders=folders, steps=steps)


@pytest.fixture(scope="session")
def inline_runs(watched_inline_runs: WatchedRuns) -> Mapping[str, Path]:
    """Three rounds of every policy, in one process, by name."""
    return watched_inline_runs.folders


@pytest.fixture(scope="session")
def twins(inline_runs: Mapping[str, Path], ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """The runs that are compared between one process and hosts on Ray."""
    return made_twins(inline_runs, tmp_path_factory.mktemp("twins"), ray_cluster)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A Ray cluster that lasts as long as the tests of this worker; those that are marked ``ray`` share it."""
    with started_cluster() as cluster:
        yield cluster
