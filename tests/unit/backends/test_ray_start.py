"""What would keep Ray from starting is found before it starts, and named with a way out."""

from pathlib import Path

import pytest

from emulator.backends import ray_start
from emulator.errors import UserError


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ray_start.tempfile, "tempdir", None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 45, "more than the 39 characters that leave room for the names of sockets"), ("tmp-é", "beyond ASCII")],
)
def test_a_folder_in_which_no_socket_can_be_made_is_refused_if_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{name}")
    with pytest.raises(UserError, match=f"RAY_TMPDIR names, since its path has .*{reason}; set RAY_TMPDIR to a short"):
        ray_start.temporary_folder()


def test_another_folder_is_taken_where_the_systems_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", f"/tmp/{'x' * 45}")
    assert ray_start.temporary_folder() == Path("/tmp")


def test_a_relative_folder_lies_in_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", ".")
    assert ray_start.temporary_folder() == Path("/tmp")


def test_the_longest_name_of_a_socket_leaves_room_for_39_characters() -> None:
    # /ray/session_<26 characters of a time>_<process id>/sockets/plasma_store, in 107 bytes (unix(7)).
    socket = "/ray/session_2025-12-31_23-59-59_999999_4194304/sockets/plasma_store"
    assert ray_start._why_unusable(Path("/" + "x" * (107 - len(socket)))) != ""
    assert 107 - len(socket) == 39


def test_limits_that_are_too_tight_are_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_start, "tasks_left", lambda: 120)
    with pytest.raises(UserError, match=r"Ray with 1 host starts about 174 processes and threads, and 120 more .*pids"):
        ray_start.check_room(1, 0, 0)
    monkeypatch.setattr(ray_start, "tasks_left", lambda: None)
    monkeypatch.setattr(ray_start, "memory_left_bytes", lambda: 2**29)
    with pytest.raises(UserError, match=r"Ray with 2 hosts and the model needs about 1.0 GiB, and 0.5 GiB are left"):
        ray_start.check_room(2, 0, 0)


def test_a_model_that_neither_memory_nor_disk_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_start, "tasks_left", lambda: None)
    monkeypatch.setattr(ray_start, "memory_left_bytes", lambda: None)
    with pytest.raises(UserError, match=r"the model of 1000000000.0 GB fits neither .* set RAY_TMPDIR"):
        ray_start.check_room(1, 10**18, 10**18)
    # Its file is read outside the object store, whose room alone counts here.
    ray_start.check_room(1, 10**18, ray_start.OBJECT_STORE_BYTES)


def test_on_a_cluster_elsewhere_this_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(ray_start, "tasks_left", lambda: 0)
    ray_start.check_room(1, 0, 0)


def test_a_start_that_takes_too_long_is_ended() -> None:
    with pytest.raises(UserError, match="Ray has not started"), ray_start._deadline(0.01, "Ray has not started"):
        ray_start.threading.Event().wait(60)
