"""Who writes into a folder of a storage: one process, and nobody after it has died."""

import threading
import time
from pathlib import Path

import pytest

from emulator.backends import locks
from emulator.backends.locks import owned
from emulator.errors import UserError
from emulator.storage.places import OWNER_PREFIX, RemotePath, listed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    """A folder whose owners show every 50 ms that they live, and are dead after two seconds of silence."""
    monkeypatch.setattr(locks, "RENEW_S", 0.05)
    monkeypatch.setattr(locks, "DEAD_AFTER_S", 2.0)
    return RemotePath("file:///", str(tmp_path / "run").strip("/"))


def test_an_owner_leaves_nothing_behind(folder: RemotePath) -> None:
    with owned(folder, pytest.fail):
        assert [path.name.startswith(OWNER_PREFIX) for path in listed(folder)] == [True]

    assert listed(folder) == []


def test_a_second_owner_is_refused_and_the_first_goes_on(folder: RemotePath) -> None:
    said: list[str] = []
    with owned(folder, pytest.fail):
        with pytest.raises(UserError, match="another process is writing"), owned(folder, said.append):
            pytest.fail("two at a time")
        assert len(listed(folder)) == 1

    assert len(said) == 1


def test_the_folder_of_one_that_has_died_is_taken_after_a_while_and_cleaned(folder: RemotePath) -> None:
    dead, said = folder / f"{OWNER_PREFIX}dead", list[str]()
    dead.write_bytes(b"")
    died_s = dead.modified_s()

    with owned(folder, said.append):
        assert time.time() - died_s > locks.DEAD_AFTER_S
        assert not dead.exists()
    assert len(said) == 1


def test_one_that_only_asks_refuses_nobody(folder: RemotePath) -> None:
    other, asks = folder / f"{OWNER_PREFIX}other", threading.Event()

    def ask() -> None:
        while not asks.wait(0.01):
            other.write_bytes(b"")
        other.unlink()

    def go(text: str) -> None:
        threading.Timer(1.0, asks.set).start()

    other.write_bytes(b"")
    asking = threading.Thread(target=ask)
    asking.start()
    with owned(folder, go):
        assert asks.is_set()
    asking.join()


def test_who_lost_the_folder_is_told(folder: RemotePath) -> None:
    def lose() -> None:
        with owned(folder, pytest.fail):
            listed(folder)[0].unlink()
            while any(thread.name == "owner" for thread in threading.enumerate()):
                time.sleep(0.01)

    with pytest.raises(UserError, match="has taken over"):
        lose()


def test_of_many_that_come_at_once_no_two_are_there_together(folder: RemotePath) -> None:
    inside, most, refused = 0, 0, 0
    lock = threading.Lock()

    def come() -> None:
        nonlocal inside, most, refused
        try:
            with owned(folder, lambda text: None):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.1)
                with lock:
                    inside -= 1
        except UserError:
            with lock:
                refused += 1

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
    assert refused < 6


def test_a_folder_of_this_machine_needs_no_owner(tmp_path: Path) -> None:
    with owned(tmp_path, pytest.fail):
        assert list(tmp_path.iterdir()) == []
