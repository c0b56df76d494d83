"""A checkpoint is there as a whole, verified, and replaced without a moment in which there is none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emulator.forms.lora import LoraAssignment
from emulator.records import RoundPlan
from emulator.running.checkpoints.codec import CheckpointError
from emulator.running.checkpoints.store import INDEX, Checkpoint, CheckpointWriter, read_checkpoint, read_index


def plan(round_index: int) -> RoundPlan:
    assignment = LoraAssignment(
        device_id=0, n_steps=1 + round_index, batch_size=4, learning_rate=0.1, ranks=(2,), depth=1
    )
    return RoundPlan(assignments={0: assignment})


def checkpoint(n_rounds: int) -> Checkpoint:
    states = {
        number: {"a": np.full((2, 3), number, np.float32)} for number in range(max(0, n_rounds - 1), n_rounds + 1)
    }
    return Checkpoint(
        n_rounds=n_rounds,
        states=states,
        memory={"scores": {0: np.arange(n_rounds, dtype=np.float64)}},
        totals={"energy_j": 1.5 * n_rounds},
        plans=[plan(number) for number in range(n_rounds)],
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    CheckpointWriter(tmp_path / "checkpoint").write(checkpoint(3))
    found = read_checkpoint(tmp_path / "checkpoint")

    assert (found.n_rounds, found.totals) == (3, {"energy_j": 4.5})
    assert found.plans == [plan(0), plan(1), plan(2)]
    assert sorted(found.states) == [2, 3]
    assert np.array_equal(found.states[3]["a"], np.full((2, 3), 3, np.float32))
    assert np.array_equal(found.memory["scores"][0], np.arange(3.0))  # type: ignore[index]


def test_the_order_of_a_state_is_kept(tmp_path: Path) -> None:
    state = {name: np.zeros(size, np.float32) for name, size in (("b", 1), ("a", 9), ("c", 4))}
    CheckpointWriter(tmp_path).write(replace(checkpoint(1), states={1: state}))

    assert list(read_checkpoint(tmp_path).states[1]) == ["b", "a", "c"]


def test_a_later_checkpoint_takes_the_place_of_the_earlier(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path)
    for n_rounds in (2, 4, 7):
        writer.write(checkpoint(n_rounds))

    assert read_checkpoint(tmp_path).plans == [plan(number) for number in range(7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*read_index(tmp_path)["files"], INDEX])


def test_another_process_goes_on(tmp_path: Path) -> None:
    CheckpointWriter(tmp_path).write(checkpoint(2))
    second = CheckpointWriter(tmp_path)
    second.goes_on_from(read_index(tmp_path))
    second.write(checkpoint(5))

    assert len(read_checkpoint(tmp_path).plans) == 5


def test_leftovers_of_a_death_do_no_harm(tmp_path: Path) -> None:
    CheckpointWriter(tmp_path).write(checkpoint(2))
    (tmp_path / "state-000009.safetensors").write_bytes(b"half")
    (tmp_path / ".checkpoint.json.part").write_bytes(b"{")
    assert read_checkpoint(tmp_path).n_rounds == 2
    writer = CheckpointWriter(tmp_path)
    writer.goes_on_from(read_index(tmp_path))
    writer.write(checkpoint(3))

    assert not (tmp_path / "state-000009.safetensors").exists()
    assert not (tmp_path / ".checkpoint.json.part").exists()


@pytest.mark.parametrize("pattern", ["state-*", "memory-*.json", "plans-*.json", "memory-*.safetensors"])
def test_a_file_that_was_changed_or_lost_is_found(tmp_path: Path, pattern: str) -> None:
    CheckpointWriter(tmp_path).write(checkpoint(2))
    path = next(iter(sorted(tmp_path.glob(pattern))))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=path.name):
        read_checkpoint(tmp_path)


def test_no_checkpoint_and_one_of_a_later_version_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        read_index(tmp_path)
    CheckpointWriter(tmp_path).write(checkpoint(1))
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps(index | {"schema_version": 99}))
    with pytest.raises(CheckpointError, match="later version"):
        read_index(tmp_path)


def test_memory_that_cannot_be_kept_leaves_the_checkpoint_of_before(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path)
    writer.write(checkpoint(1))
    with pytest.raises(CheckpointError, match="generator"):
        writer.write(replace(checkpoint(2), memory={"later": (number for number in ())}))

    assert read_checkpoint(tmp_path).n_rounds == 1
