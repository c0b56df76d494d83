"""Updates that stay on the machine where they were trained: they are not copied, and may be lost with it."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration import summed_by_hand
from tests.machines import MachineCluster, started_cluster, why_no_machines

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[MachineCluster]:
    with started_cluster(2) as found:
        yield found


@pytest.fixture(scope="module")
def expected() -> dict[str, object]:
    return summed_by_hand.inline()


# Its last use of the cluster is its end.
@pytest.mark.parametrize("dies", [False, True], ids=["all live", "one dies"])
def test_updates_are_views_of_shared_memory_and_are_trained_again_where_they_are_lost(
    dies: bool, cluster: MachineCluster, expected: dict[str, object]
) -> None:
    head, other = cluster.machines
    process = subprocess.Popen(
        head.command(sys.executable, "-m", "tests.integration.summed_by_hand"),
        env=head.environment(RAY_ADDRESS=cluster.address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        if dies:
            other.end()
        said, _ = process.communicate("\n", timeout=240)
    finally:
        process.kill()
        process.wait()

    facts = json.loads(said.splitlines()[-1])
    assert facts["digest"] == expected["digest"]
    assert facts["n_updates"] == summed_by_hand.N_DEVICES
    assert facts["states_are_views"]
    assert facts["payloads_are_views"]
    # The stacks of a block are trained again together; what the machine that died had trained itself, it cannot tell.
    assert facts["n_stacks_trained"] == (1 + 2 if dies else 2)
