"""An S3 server on this machine, moto's, for as long as a test needs it."""

import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

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


def _endpoint(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            # Read to the end, so that the server never waits for room in the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[0]
    raise RuntimeError("the S3 server did not start; is moto[server] installed?")
