"""Of two that write into a folder, the second is told."""

import shutil
from pathlib import Path

import pytest

from emulator.errors import UserError
from emulator.storage.claims import Claim
from emulator.storage.places import place


def test_one_claim_excludes_another_until_it_is_released(tmp_path: Path) -> None:
    first, second = Claim(), Claim()
    assert first.take(tmp_path)
    assert first.take(tmp_path)  # its own
    assert not second.take(tmp_path)
    first.release()
    assert second.take(tmp_path)


def test_who_does_not_leave_in_time_is_named(tmp_path: Path) -> None:
    first, pauses = Claim(), list[float]()
    first.take(tmp_path)
    with pytest.raises(UserError, match="another process is writing into this folder"):
        Claim().take_within(tmp_path, 1.0, pauses.append)
    assert sum(pauses) == pytest.approx(1.0)


def test_who_leaves_meanwhile_makes_room(tmp_path: Path) -> None:
    first, second = Claim(), Claim()
    first.take(tmp_path)
    second.take_within(tmp_path, 1.0, lambda pause_s: first.release())
    assert not first.take(tmp_path)


def test_a_claim_leaves_no_file_and_ends_with_its_object(tmp_path: Path) -> None:
    claim = Claim()
    claim.take(tmp_path)
    assert list(tmp_path.iterdir()) == []
    del claim
    assert Claim().take(tmp_path)


def test_a_folder_that_was_removed_can_be_released(tmp_path: Path) -> None:
    claim = Claim()
    (tmp_path / "run").mkdir()
    claim.take(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    claim.release()


def test_a_storage_has_no_claims() -> None:
    assert Claim().take(place("s3://bucket/run"))
    assert Claim().take(place("s3://bucket/run"))
