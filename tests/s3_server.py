"""An S3 server on this machine, moto's, for as long as a test needs it."""

import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from unittest.mock import patch
from urllib.parse import urlsplit

BUCKET = "results"


@contextmanager
def s3_server() -> Iterator[str]:
    """A server with the empty bucket :data:`BUCKET`, which this process and its children find; gives its endpoint.

    It is a process of its own, started as ``python -m moto.server -p 0``: its own log says at which port it listens.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        endpoint = _endpoint(process)
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with patch.dict(os.environ, variables):
            yield endpoint
    finally:
        process.kill()
        process.wait()


class Gate:
    """Stands before a server, so that it can be away for a while and then be what it was.

    Attributes:
        endpoint: what to ask in place of the server.
    """

    def __init__(self, endpoint: str) -> None:
        self._target = urlsplit(endpoint)
        self._open_sockets: set[socket.socket] = set()
        self._server: socketserver.ThreadingTCPServer | None = None
        self._port = 0
        self.open()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Let everything through."""
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                gate._connect(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def shut(self) -> None:
        """Cut all connections and refuse new ones."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        for each in list(self._open_sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _connect(self, client: socket.socket) -> None:
        with socket.create_connection((self._target.hostname or "", self._target.port or 0)) as server:
            self._open_sockets |= {client, server}
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join()
            self._open_sockets -= {client, server}


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65536):
            target.sendall(content)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _endpoint(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            # Read to the end, so that the server never waits for room in the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[0]
    raise RuntimeError("the S3 server did not start; is moto[server] installed?")
