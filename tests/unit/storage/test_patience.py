"""Writes wait for what may come back, say so, and end with the reason that is true."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.errors import LostError, UserError
from emulator.storage.patience import LONGEST_PAUSE_S, Patience
from emulator.storage.places import StorageError, place

PATH = Path("/disk/run/part")


class Disk:
    """A write that fails with each of ``errors`` in turn, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.n_calls = 0

    def write(self) -> str:
        self.n_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "written"


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), str(PATH))


def always(number: int) -> Callable[[], None]:
    def write() -> None:
        raise system_error(number)

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ESTALE])
def test_what_may_pass_is_waited_for_and_told_once(number: int) -> None:
    told: list[str] = []
    pauses: list[float] = []
    disk = Disk(*(system_error(number) for _ in range(3)))

    assert Patience(60, told.append, pauses.append).insist(disk.write, "results", PATH) == "written"
    assert disk.n_calls == 4
    assert pauses == [0.5, 1.0, 2.0]
    waits, goes_on = told
    assert waits.startswith(f"cannot write results ({os.strerror(number)}); ")
    assert waits.endswith("tried again for 60 s, and all goes on by itself as soon as it can: '/disk/run/part'")
    assert goes_on == "results can be written again after 0 s; all goes on"


def test_pauses_grow_no_longer_than_the_longest() -> None:
    pauses: list[float] = []
    disk = Disk(*(system_error(errno.ENOSPC) for _ in range(8)))
    Patience(3600, pause=pauses.append).insist(disk.write, "results", PATH)
    assert max(pauses) == pauses[-1] == LONGEST_PAUSE_S


def test_another_reason_is_told_as_well() -> None:
    told: list[str] = []
    disk = Disk(system_error(errno.ENOSPC), system_error(errno.EROFS), system_error(errno.EROFS))
    Patience(60, told.append, lambda s: None).insist(disk.write, "results", PATH)
    assert [text.partition(";")[0] for text in told] == [
        "cannot write results (No space left on device)",
        "cannot write results (Read-only file system)",
        "results can be written again after 0 s",
    ]
    assert "free the disk" in told[0]
    assert "see to its permissions" in told[1]


def test_after_the_limit_the_reason_and_what_to_do_are_said_and_nothing_is_waited_for_any_more() -> None:
    told: list[str] = []
    patience = Patience(0.05, told.append, advice="'jetbed resume run' goes on")
    with pytest.raises(LostError) as ended:
        patience.insist(always(errno.ENOSPC), "results", PATH)
    assert str(ended.value) == (
        "cannot write results (No space left on device) for 0 s: '/disk/run/part'; "
        "free the disk, then 'jetbed resume run' goes on"
    )
    assert len(told) == 1
    with pytest.raises(LostError):
        patience.insist(always(errno.ENOSPC), "results", PATH)
    assert len(told) == 1


def test_without_patience_a_write_is_tried_once() -> None:
    disk = Disk(system_error(errno.ENOSPC))
    with pytest.raises(LostError, match="free the disk, then start it again"):
        Patience().insist(disk.write, "results", PATH)
    assert disk.n_calls == 1


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EFBIG, errno.ENOTDIR])
def test_what_does_not_pass_by_itself_is_not_waited_for(number: int) -> None:
    told: list[str] = []
    with pytest.raises(UserError, match="cannot write results") as ended:
        Patience(60, told.append).insist(always(number), "results", PATH)
    assert not isinstance(ended.value, LostError)
    assert told == []


def test_a_storage_is_waited_for_whatever_it_says() -> None:
    told: list[str] = []
    remote = place("s3://bucket/run/part")
    disk = Disk(StorageError(errno.EIO, "the storage cannot be reached", str(remote)))
    Patience(60, told.append, lambda s: None).insist(disk.write, "results", remote)
    assert told[0].startswith("cannot write results (the storage cannot be reached); see to the storage: ")


def test_errors_of_libraries_count_by_the_number_in_their_text() -> None:
    disk = Disk(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert Patience(60, pause=lambda s: None).insist(disk.write, "the adapter", PATH) == "written"
    with pytest.raises(RuntimeError, match="of its own"):
        Patience(60).insist(Disk(RuntimeError("a fault of its own")).write, "the adapter", PATH)


def test_an_interrupt_ends_the_wait_and_every_later_one() -> None:
    def interrupted(pause_s: float) -> None:
        raise KeyboardInterrupt

    patience = Patience(60, pause=interrupted)
    with pytest.raises(KeyboardInterrupt):
        patience.insist(always(errno.ENOSPC), "results", PATH)
    with pytest.raises(LostError):
        patience.insist(always(errno.ENOSPC), "results", PATH)
