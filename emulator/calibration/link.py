"""Measures the link to another machine with plain TCP: how long a byte is under way, and how many pass in a second.

One machine serves, the other measures. What travels are zeros; nothing that is received is looked at, stored or
answered with anything but zeros and counts, and both sides give up on a peer that is silent.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from emulator.errors import UserError

_GREETING = b"jetbed-link-1\n"
_PING, _DOWN, _UP = b"p", b"d", b"u"
_COUNT = struct.Struct("!Q")
_CHUNK = bytes(256 * 1024)
_N_PINGS = 20
_PEER_SILENT_S = 20.0
_WARM_UP_S = 0.5  # while TCP opens its window


class LinkError(UserError):
    """The peer cannot be reached, or does not answer as one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredLink:
    """What passes between this machine, as the device, and the peer, as the server; latency is half a round trip."""

    download_bytes_per_s: float
    upload_bytes_per_s: float
    latency_s: float
    seconds: float


def parse_peer(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises:
        LinkError: it is not of that form.
    """
    host, _, port = text.rpartition(":")
    try:
        host.encode("idna")  # as looking it up does
        is_fine = bool(host) and port.isdecimal() and 0 < int(port) < 65536
    except ValueError:  # an empty label, or digits without end
        is_fine = False
    if not is_fine:
        raise LinkError(f"--peer takes HOST:PORT with a port from 1 to 65535, got {text!r}")
    return host.strip("[]"), int(port)


def measure_link(host: str, port: int, seconds: float) -> MeasuredLink:
    """Measure the link to a peer that serves there, for ``seconds`` in each direction.

    Raises:
        LinkError: the peer cannot be reached or does not answer.
    """
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout=_PEER_SILENT_S) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.sendall(_GREETING)
            if _received(peer, len(_GREETING)) != _GREETING:
                raise LinkError(f"--peer: what answers there is no 'jetbed calibrate --serve', got {where!r}")
            round_trip_s = min(_round_trip_s(peer) for _ in range(_N_PINGS))
            return MeasuredLink(
                download_bytes_per_s=_download_bytes_per_s(peer, seconds),
                upload_bytes_per_s=_upload_bytes_per_s(peer, seconds),
                latency_s=round_trip_s / 2,
                seconds=seconds,
            )
    except OSError as error:
        raise LinkError(
            f"--peer: no link could be measured ({error.strerror or error}); is 'jetbed calibrate --serve PORT' "
            f"running there? Got {where!r}"
        ) from None


def serve(port: int, ready: Callable[[int], None]) -> None:
    """Answer one peer after another until interrupted; ``ready`` is told the port when peers can connect.

    Raises:
        LinkError: the port cannot be used.
    """
    try:
        listener = socket.create_server(("", port))
    except (OSError, OverflowError) as error:
        raise LinkError(f"--serve: the port cannot be used ({error}), got {port!r}") from None
    with listener:
        ready(listener.getsockname()[1])
        while True:
            peer, _ = listener.accept()
            # A peer that breaks off, is silent or speaks something else is none of our business.
            with peer, contextlib.suppress(OSError):
                peer.settimeout(_PEER_SILENT_S)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _answer(peer)


def _answer(peer: socket.socket) -> None:
    if _received(peer, len(_GREETING)) != _GREETING:
        return
    peer.sendall(_GREETING)
    while True:
        match _received(peer, 1):
            case b"p":
                peer.sendall(_PING)
            case b"d":
                end_s = time.perf_counter() + min(60.0, _COUNT.unpack(_received(peer, _COUNT.size))[0] / 1e3)
                while time.perf_counter() < end_s:
                    peer.sendall(b"\1" + _CHUNK)
                peer.sendall(b"\0")
            case b"u":
                n_bytes = 0
                while _received(peer, 1) == b"\1":
                    n_bytes += len(_received(peer, len(_CHUNK))) + 1
                peer.sendall(_COUNT.pack(n_bytes))
            case _:
                return


def _round_trip_s(peer: socket.socket) -> float:
    start_s = time.perf_counter()
    peer.sendall(_PING)
    _received(peer, 1)
    return time.perf_counter() - start_s


def _download_bytes_per_s(peer: socket.socket, seconds: float) -> float:
    peer.sendall(_DOWN + _COUNT.pack(round(1e3 * (seconds + _WARM_UP_S))))
    begin_s = time.perf_counter()
    counted_from_s, n_bytes = begin_s, 0
    while _received(peer, 1) == b"\1":
        n_bytes += len(_received(peer, len(_CHUNK))) + 1
        if counted_from_s == begin_s and time.perf_counter() - begin_s > _WARM_UP_S:
            counted_from_s, n_bytes = time.perf_counter(), 0
    return n_bytes / (time.perf_counter() - counted_from_s)


def _upload_bytes_per_s(peer: socket.socket, seconds: float) -> float:
    """Counted by the peer, from the first byte to the answer, so that what waits in buffers is paid for."""
    peer.sendall(_UP)
    begin_s = time.perf_counter()
    while time.perf_counter() - begin_s < seconds:
        peer.sendall(b"\1" + _CHUNK)
    peer.sendall(b"\0")
    n_bytes: int = _COUNT.unpack(_received(peer, _COUNT.size))[0]
    return n_bytes / (time.perf_counter() - begin_s)


def _received(peer: socket.socket, n_bytes: int) -> bytes:
    """Exactly so many bytes.

    Raises:
        ConnectionError: the peer is gone before.
    """
    parts = bytearray()
    while len(parts) < n_bytes:
        part = peer.recv(n_bytes - len(parts))
        if not part:
            raise ConnectionError("the peer closed the connection")
        parts += part
    return bytes(parts)
