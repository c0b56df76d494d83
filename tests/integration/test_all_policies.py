"""Every policy that ships with jetbed runs, to the same bytes wherever it does."""

from pathlib import Path

import pytest

import emulator
from emulator.policy.base import Policy
from emulator.policy.catalog import build_policy, policy_names
from emulator.results import verify
from emulator.testing import tiny_model
from tests.integration.conftest import N_ROUNDS, TABLES, digests, sweep_of
from tests.integration.ray_cluster import RayCluster

pytestmark = pytest.mark.slow


def ways_over_ray() -> list[str]:
    """Policies of which no earlier one has task, form, protocol and the place where updates are summed alike.

    What else a policy does, it does in the coordinator, where it cannot see on what its devices are trained.
    """
    found: dict[tuple[object, ...], str] = {}
    for name in policy_names():
        policy = build_policy(name, {})
        summed_by_hosts = type(policy).aggregate is Policy.aggregate
        way = (policy.task, type(policy.form(tiny_model(4))), type(policy.protocol), summed_by_hosts)
        found.setdefault(way, name)
    return list(found.values())


@pytest.fixture(scope="module")
def ray_runs(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return sweep_of(ways_over_ray(), tmp_path_factory.mktemp("ray"), "--hosts", "2", cluster=ray_cluster)


@pytest.mark.parametrize("name", ways_over_ray())
def test_hosts_on_ray_give_the_same_bytes_as_one_process(
    inline_runs: dict[str, Path], ray_runs: dict[str, Path], name: str
) -> None:
    inline = digests(inline_runs[name])
    assert len(inline) == len(TABLES) * N_ROUNDS
    assert digests(ray_runs[name]) == inline


@pytest.mark.parametrize("name", policy_names())
def test_the_books_of_every_policy_balance(inline_runs: dict[str, Path], name: str) -> None:
    verify(emulator.load(inline_runs[name]))
