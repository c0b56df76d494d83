"""Updates that stay on the machine where they were trained: they are not copied, and may be lost with it."""

import json
import subprocess
import sys

import pytest

from tests.integration import summed_by_hand
from tests.machines import Machine, started_cluster, why_no_machines

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())]


def test_updates_are_views_of_shared_memory_and_are_trained_again_where_they_are_lost() -> None:
    expected = summed_by_hand.inline()
    with started_cluster(2) as cluster:
        rounds = told_by(*cluster.machines, address=cluster.address)

    assert len(rounds) == len(expected) == summed_by_hand.N_ROUNDS
    for facts, inline in zip(rounds, expected, strict=True):
        assert facts["digest"] == inline["digest"]
        assert facts["n_updates"] == summed_by_hand.N_DEVICES
        assert facts["states_are_views"]
        assert facts["payloads_are_views"]
    # In the first round all live. In the second the stacks of a block are trained again together; what the machine that
    # died had trained itself, it cannot tell.
    assert [facts["n_stacks_trained"] for facts in rounds] == [2, 1 + 2]


def told_by(head: Machine, other: Machine, address: str) -> list[dict[str, object]]:
    """What the rounds come to on both machines, of which the other dies in the last round, when all is trained."""
    process = subprocess.Popen(
        head.command(sys.executable, "-m", "tests.integration.summed_by_hand"),
        env=head.environment(RAY_ADDRESS=address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "trained\n"
        other.end()
        said, _ = process.communicate("\n", timeout=240)
    finally:
        process.kill()
        process.wait()
    found: list[dict[str, object]] = json.loads(said.splitlines()[-1])
    return found
