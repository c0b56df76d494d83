"""What is said of an actor that died is what Ray knows, and a coordinator gets another life as long as it comes on."""

import json
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayActorError

from emulator.backends import deaths
from emulator.backends.deaths import MOST_RESTARTS, Lives, why_died
from emulator.errors import LostError

# As Ray 2.60 says it, with its guesses.
ENDED = """The actor died unexpectedly before finishing this task.
\tclass_name: A
\tpid: 4037
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called"""
OWNER = "The actor is dead because its owner has died. Owner Id: 01ff Worker exit detail: Owner's node has crashed."
NODE = "The actor died because its node has died. Node Id: 32ab the actor's node was terminated unexpectedly"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RayActorError(error_msg=ENDED),
            "died; Ray says: Worker unexpectedly exits with a connection error code 2. End of file",
        ),
        (RayActorError(error_msg=OWNER), "died with the Ray process of this machine (raylet)"),
        (RayActorError(error_msg=NODE), "died with its node"),
        (OutOfMemoryError("Task was killed"), "was ended by Ray to save the memory of its node"),
        (RayActorError(error_msg="The actor is dead because it was killed by `ray.kill`."), "was ended by ray.kill"),
        (ActorUnavailableError("rpc error", None), "is out of reach"),
        (ActorDiedError(), "died; Ray says: The actor died unexpectedly before finishing this task"),
    ],
)
def test_the_reason_is_what_ray_knows_and_none_that_it_guesses(error: Exception, said: str) -> None:
    assert why_died(error) == said


def checkpointed(run_dir: Path, n_rounds: int) -> None:
    folder = run_dir / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / "checkpoint.json").write_text(json.dumps({"schema_version": 1, "n_rounds": n_rounds, "files": {}}))


def test_a_coordinator_that_does_not_come_on_is_given_up(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    for _ in range(MOST_RESTARTS):
        assert lives.lose_one(ActorDiedError()).endswith("it is started again, from round 0")
    with pytest.raises(LostError, match=r"died 4 times without coming to another checkpoint.*goes on from the start"):
        lives.lose_one(ActorDiedError())


def test_a_coordinator_that_comes_on_has_as_many_lives_as_it_needs(tmp_path: Path) -> None:
    lives = Lives(tmp_path)
    for n_rounds in range(3 * MOST_RESTARTS):
        checkpointed(tmp_path, n_rounds)
        assert lives.lose_one(ActorDiedError()).endswith(f"from round {n_rounds}")


@pytest.mark.parametrize(("error", "what"), [(OWNER, r"\(raylet\)"), (NODE, "its node")])
def test_nothing_is_started_again_on_a_cluster_that_is_gone(tmp_path: Path, error: str, what: str) -> None:
    checkpointed(tmp_path, 7)
    with pytest.raises(LostError, match=f"the coordinator died with .*{what}; 'jetbed resume' goes on from round 7"):
        Lives(tmp_path).lose_one(RayActorError(error_msg=error))


def test_a_process_that_the_kernel_ended_for_want_of_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([2, 3, 3])
    monkeypatch.setattr(deaths, "n_ended_for_memory", lambda: next(counts))
    lives = Lives(tmp_path, _n_ended=next(counts))
    assert "ended a process of this machine for want of memory" in lives.lose_one(ActorDiedError())
    assert "memory" not in lives.lose_one(ActorDiedError())


def test_what_a_killed_process_had_not_written_to_its_end_is_removed(tmp_path: Path) -> None:
    (tmp_path / "rounds").mkdir()
    for name in (".run.json.12.tmp", "rounds/.part-00000.parquet.12.tmp"):
        (tmp_path / name).touch()
    (tmp_path / "rounds" / "part-00000.parquet").touch()
    Lives(tmp_path).lose_one(ActorDiedError())
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"rounds/part-00000.parquet"}
