"""Who lets a run into a cluster, what is said where nobody does, and that Ray itself says nothing on the terminal."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.command_line import settings
from tests.machines import Machine, MachineCluster, raised, started_machines, token_file, why_no_machines

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.skipif(bool(why_no_machines()), reason=why_no_machines())]

SIZE = settings(("testbed.n_devices=2", "data.n_train=40", "data.n_test=10", "training.local_steps=1", "rounds=1"))
WITHOUT_HOSTS = settings(("training.enabled=false",))
RAYS_OWN = re.compile(
    r"^\[\d{4}-\d\d-\d\d .*\] |^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\t|\((raylet|pid=|gcs_server|autoscaler)"
    r"|SIGTERM received|\.(cc|h):\d+|^\*\*\* |^    @ +0x|Traceback"
)
"""A line of Ray's library, of its Python log, of its processes, or a stack."""


def is_quiet(said: str) -> bool:
    """Whether nothing in it is Ray's own."""
    return not [line for line in said.splitlines() if RAYS_OWN.search(line)]


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Machine]]:
    with started_machines(1) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(machines: list[Machine]) -> MachineCluster:
    """A head that asks for a token, with the file that Ray wrote."""
    return raised(machines)


def run(machine: Machine, address: str, out: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    on_ray = ("--backend", "ray", "--hosts", "1")
    return machine.jetbed("run", "--out", out, *on_ray, *SIZE, *more, RAY_ADDRESS=address, **environment)


def refusal(finished: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which a command was refused."""
    assert finished.returncode == 2, finished.stderr
    starting, message = finished.stderr.splitlines()
    assert starting == "starting hosts, loading model and data"
    return message


def test_the_token_that_ray_wrote_is_used_as_it_lies_there(cluster: MachineCluster) -> None:
    finished = run(cluster.head, cluster.address, "/tmp/with-token")
    assert finished.returncode == 0, finished.stderr
    assert is_quiet(finished.stderr), finished.stderr


def test_without_a_token_one_sentence_says_what_to_do(cluster: MachineCluster) -> None:
    said = refusal(run(cluster.head, cluster.address, "/tmp/out", HOME="/tmp"))
    assert said.startswith("jetbed: the Ray cluster at RAY_ADDRESS asks for a token, and there is none here; copy")
    assert not cluster.head.outside("/tmp/out").exists()


def test_a_wrong_token_is_named(cluster: MachineCluster) -> None:
    cluster.head.outside("/tmp/wrong").write_text("0" * 64)
    said = refusal(run(cluster.head, cluster.address, "/tmp/out", RAY_AUTH_TOKEN_PATH="/tmp/wrong"))
    assert said.startswith("jetbed: the Ray cluster at RAY_ADDRESS refuses the token in '/tmp/wrong'")


def test_an_address_that_does_not_speak_ray_is_given_up(cluster: MachineCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        said = refusal(run(cluster.head, address, "/tmp/out"))
    assert said.startswith("jetbed: cannot connect to the Ray cluster at RAY_ADDRESS")


OTHER_RAY = """
import sys
from ray._raylet import GcsClient
head = GcsClient(address=sys.argv[1])
kept = head.internal_kv_get(b"CLUSTER_METADATA", b"cluster")
head.internal_kv_put(b"CLUSTER_METADATA", kept.replace(b'"ray_version": "', b'"ray_version": "9.'), True, b"cluster")
"""


def test_a_token_that_the_cluster_does_not_ask_for_is_no_hindrance_and_another_version_of_ray_is_named() -> None:
    with started_machines(1) as machines:
        other = raised(machines, has_token=False)
        token_file(machines[0]).parent.mkdir()
        token_file(machines[0]).write_text("0" * 64)
        # Without training no host is started, and the coordinator joins as hosts do.
        finished = run(machines[0], other.address, "/tmp/with-needless-token", *WITHOUT_HOSTS)
        changed = machines[0].call(sys.executable, "-c", OTHER_RAY, other.address)
        said = refusal(run(machines[0], other.address, "/tmp/out"))
    assert finished.returncode == 0, finished.stderr
    assert is_quiet(finished.stderr), finished.stderr
    assert changed.returncode == 0, changed.stderr
    assert re.search(r"at RAY_ADDRESS has Ray 9\.[\d.]+, and here is Ray [\d.]+; install the same version", said)
