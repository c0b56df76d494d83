"""Who waits for a Ray that is gone is told so, and soon."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from emulator.backends import ray_reach
from emulator.errors import LostError, UserError


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens where the raylet of this process would."""
    monkeypatch.setattr(ray_reach, "WATCH_S", 0.05)
    with TemporaryDirectory(prefix="jetbed-") as folder, socket.socket(socket.AF_UNIX) as listening:
        path = str(Path(folder) / "raylet")
        listening.bind(path)
        listening.listen()
        monkeypatch.setattr(ray_reach, "_socket_of_raylet", lambda: path)
        yield listening


def test_a_raylet_that_dies_ends_what_waits_for_it(listening: socket.socket) -> None:
    threading.Timer(0.2, listening.close).start()
    with (
        pytest.raises(LostError, match=r"\(raylet\) has died; what was written is whole, and the same command goes on"),
        ray_reach.raylet_in_reach("the same command goes on"),
    ):
        threading.Event().wait(60)
    assert ray_reach.has_raylet_died()


def test_a_raylet_that_hangs_up_and_listens_is_not_dead(listening: socket.socket) -> None:
    with ray_reach.raylet_in_reach("nothing goes on"):
        listening.accept()[0].close()
        threading.Event().wait(0.3)
    assert not ray_reach.has_raylet_died()


def test_what_is_interrupted_while_the_raylet_lives_is_interrupted(listening: socket.socket) -> None:
    with pytest.raises(KeyboardInterrupt), ray_reach.raylet_in_reach("nothing goes on"):
        raise KeyboardInterrupt


@pytest.mark.usefixtures("listening")
def test_an_error_of_a_users_stays_what_it_is() -> None:
    with pytest.raises(UserError, match="the data"), ray_reach.raylet_in_reach("nothing goes on"):
        raise UserError("the data are wrong")


def test_where_there_is_no_raylet_nothing_is_watched() -> None:
    with ray_reach.raylet_in_reach("nothing goes on"):
        assert not ray_reach.has_raylet_died()
