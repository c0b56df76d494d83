"""Runs on a cluster of two machines, each with files of its own: what is asked where, and what if a machine dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import settings
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.test_joining_a_cluster import is_quiet
from tests.machines import HOME, Machine, MachineCluster, join, raised, started_machines, why_no_machines

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())]

N_ROUNDS = 4
ROWS = "\n".join(["text,label", *(f"{word} {number},{word}" for number in range(250) for word in ("yes", "no"))])
ON_MINE = settings(("data.source=mine.csv",))
COMMAND = ("run", "--rounds", str(N_ROUNDS), "--backend", "ray", "--hosts", "2", *settings(SMALL))


@pytest.fixture(scope="module")
def raised_cluster() -> Iterator[MachineCluster]:
    with started_machines(2) as machines:
        yield raised(machines)


@pytest.fixture
def cluster(raised_cluster: MachineCluster) -> MachineCluster:
    """Both machines live, until the test whose head dies, which is the last one."""
    second = raised_cluster.machines[1]
    if not second.processes("raylet"):
        join(raised_cluster, second)
    return raised_cluster


def until(machine: Machine, address: str, line: str, lines: list[str], *more: str) -> Iterator[None]:
    """A run on the machine: goes on to its end after the first line that begins with ``line``."""
    with machine.started(*COMMAND, *more, RAY_ADDRESS=address) as process:
        assert process.stderr is not None
        for said in process.stderr:
            lines.append(said)
            if said.startswith(line):
                yield
                break
        lines += [*process.stderr, str(process.wait(timeout=120))]


def test_the_hosts_of_a_machine_that_dies_come_up_on_the_other(cluster: MachineCluster, tmp_path: Path) -> None:
    asked, dies = cluster.machines
    lines: list[str] = []
    for _ in until(asked, cluster.address, "round 1/", lines, "--out", "/tmp/run"):
        (raylet,) = dies.processes("raylet")
        assert dies.processes("ray::HostActor"), "no host lay on it"
        raylet.kill()
    assert lines[-1] == "0", lines
    assert is_quiet("".join(lines)), lines
    assert digests(asked.outside("/tmp/run")) == digests(small_run(tmp_path / "undisturbed", rounds=N_ROUNDS))


def test_a_run_on_data_of_its_own_machine_whose_head_dies_says_so_and_goes_on_on_another_cluster(
    cluster: MachineCluster, tmp_path: Path
) -> None:
    head, asked = cluster.machines
    (asked.outside(HOME) / "mine.csv").write_text(ROWS)
    lines: list[str] = []
    for _ in until(asked, cluster.address, "round 2/", lines, "--out", "runs/mine", *ON_MINE):
        head.end()
    assert lines[-1] == "2", lines
    assert lines[-2].startswith("jetbed: the head of the Ray cluster at RAY_ADDRESS cannot be reached any more")
    assert is_quiet("".join(lines)), lines
    # A host lay on the head, which has no such file, and results are written where they were asked for.
    assert not (head.outside(HOME) / "runs").exists()
    (tmp_path / "mine.csv").write_text(ROWS)
    undisturbed = small_run(tmp_path / "run", *settings((f"data.source={tmp_path / 'mine.csv'}",)), rounds=N_ROUNDS)
    with started_machines(1) as machines:
        again = raised(machines)
        for name in ("runs", "mine.csv"):
            (asked.outside(HOME) / name).rename(machines[0].outside(HOME) / name)
        finished = machines[0].jetbed("resume", "runs/mine", RAY_ADDRESS=again.address)
        assert finished.returncode == 0, finished.stderr
        assert digests(machines[0].outside(HOME) / "runs/mine") == digests(undisturbed)
