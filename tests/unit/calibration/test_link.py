"""Two machines measure the link between them; here both are this one."""

import socket
import threading

import pytest

from emulator.calibration import link as measuring
from emulator.calibration.link import LinkError, measure_link, parse_peer, serve


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window of TCP is open at once where both machines are this one."""
    monkeypatch.setattr(measuring, "_WARM_UP_S", 0.05)


@pytest.fixture
def port() -> int:
    found: list[int] = []
    ready = threading.Event()

    def tell(number: int) -> None:
        found.append(number)
        ready.set()

    threading.Thread(target=serve, args=(0, tell), daemon=True).start()
    assert ready.wait(10)
    return found[0]


def test_a_link_has_two_rates_and_a_latency(port: int) -> None:
    link = measure_link("127.0.0.1", port, 0.3)
    assert link.download_bytes_per_s > 1e6
    assert link.upload_bytes_per_s > 1e6
    assert 0 < link.latency_s < 0.1


def test_a_peer_that_speaks_something_else_does_not_end_the_server(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert measure_link("127.0.0.1", port, 0.1).download_bytes_per_s > 0


def test_where_nobody_serves_the_message_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        number = unused.getsockname()[1]
    with pytest.raises(LinkError, match=rf"--serve PORT.*'127\.0\.0\.1:{number}'"):
        measure_link("127.0.0.1", number, 0.1)


@pytest.mark.parametrize(
    "text",
    ["board", "board:", ":80", "board:http", "board:0", "board:70000", "a..b:80", "board:" + "9" * 5000, "board:²"],
)
def test_a_peer_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(LinkError, match="HOST:PORT"):
        parse_peer(text)
    assert parse_peer("[::1]:7000") == ("::1", 7000)
