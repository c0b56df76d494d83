"""Runs on a cluster of two machines, each with files of its own: what is asked where, and what if a machine dies."""

from collections.abc import Iterator

import pytest

from tests.command_line import settings
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.test_joining_a_cluster import is_quiet
from tests.machines import HOME, Machine, MachineCluster, join, raised, started_machines, why_no_machines

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())]

N_ROUNDS = 4
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(small_run(tmp_path_factory.mktemp("undisturbed") / "run", rounds=N_ROUNDS))


def until(machine: Machine, address: str, line: str, lines: list[str], out: str = "/tmp/run") -> Iterator[None]:
    """A run on the machine: goes on to its end after the first line that begins with ``line``."""
    with machine.started(*COMMAND, "--out", out, RAY_ADDRESS=address) as process:
        assert process.stderr is not None
        for said in process.stderr:
            lines.append(said)
            if said.startswith(line):
                yield
                break
        lines += [*process.stderr, str(process.wait(timeout=120))]


def test_data_that_only_the_driver_has_travels_and_results_come_to_the_driver(cluster: MachineCluster) -> None:
    asked, other = cluster.machines[1], cluster.machines[0]
    table = "\n".join(["text,label", *(f"{word} {number},{word}" for number in range(40) for word in ("yes", "no"))])
    (asked.outside(HOME) / "mine.csv").write_text(table)
    size = settings(("data.source=mine.csv", "data.test_fraction=0.2", "testbed.n_devices=4", "training.local_steps=1"))
    command = ("run", "--rounds", "1", "--out", "runs/mine", "--backend", "ray", "--hosts", "2", *size)
    finished = asked.jetbed(*command, RAY_ADDRESS=cluster.address)
    assert finished.returncode == 0, finished.stderr
    assert is_quiet(finished.stderr), finished.stderr
    assert (asked.outside(HOME) / "runs/mine/run.json").is_file()
    assert not (other.outside(HOME) / "runs").exists()


def test_the_hosts_of_a_machine_that_dies_come_up_on_the_other(
    cluster: MachineCluster, undisturbed: dict[str, str]
) -> None:
    asked, dies = cluster.machines
    lines: list[str] = []
    for _ in until(asked, cluster.address, "round 1/", lines):
        (raylet,) = dies.processes("raylet")
        assert dies.processes("ray::HostActor"), "no host lay on it"
        raylet.kill()
    assert lines[-1] == "0", lines
    assert is_quiet("".join(lines)), lines
    assert digests(asked.outside("/tmp/run")) == undisturbed


def test_a_run_whose_head_dies_says_so_and_goes_on_on_another_cluster(
    cluster: MachineCluster, undisturbed: dict[str, str]
) -> None:
    head, asked = cluster.machines
    lines: list[str] = []
    for _ in until(asked, cluster.address, "round 2/", lines):
        head.end()
    assert lines[-1] == "2", lines
    assert lines[-2].startswith("jetbed: the head of the Ray cluster at RAY_ADDRESS cannot be reached any more")
    assert is_quiet("".join(lines)), lines
    with started_machines(1) as machines:
        again = raised(machines)
        asked.outside("/tmp/run").rename(machines[0].tmp / "run")
        finished = machines[0].jetbed("resume", "/tmp/run", RAY_ADDRESS=again.address)
        assert finished.returncode == 0, finished.stderr
        assert digests(machines[0].tmp / "run") == undisturbed
