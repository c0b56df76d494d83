"""Joins a Ray cluster that somebody else has started: what would keep a run from it is told in a sentence, and soon."""

import json
import logging
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import ray

from emulator.backends.ray_reach import ended_without
from emulator.errors import UserError

REACH_S = 3.0
"""How long an address may take to answer before Ray, which is more patient, is asked to connect."""
LOST_S = 10.0
"""So long the head may be out of reach before the run is given up; Ray itself kills this process after 60, without a
word."""
_IMPATIENT = {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_py_gcs_connect_timeout_s": "5"}
"""How long Ray tries to speak to what listens at an address, in seconds; without them, 40."""
_MODE = "RAY_AUTH_MODE"


def join(address: str, environment: Mapping[str, str]) -> None:
    """Connect this process to the cluster at ``address``; its hosts get ``environment``.

    Raises:
        UserError: there is none, it lets nobody in without a token, or it has another version of Ray or Python.
    """
    try:
        # A port of Ray's own client can be reached or not; only a head can be asked.
        found = _socket_of(address.rpartition("://")[2])
        if found:
            _reach(*found)
            if "://" not in address:
                _check_cluster(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": dict(environment)},
        )
    except UserError:
        raise
    # Ray raises many kinds of error here, asserts among them, and documents none.
    except Exception as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"cannot connect to the Ray cluster at RAY_ADDRESS ({said}); set it to the host:port of a running cluster,"
            f" or unset it to run on this machine, got {address!r}"
        ) from error


def _socket_of(address: str) -> tuple[str, int] | None:
    """The head's host and port; None where that is for Ray to find or to refuse."""
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        address = canonicalize_bootstrap_address_or_die(address)
    host, _, port = address.rpartition(":")
    if "://" in host or not host or not port.isdecimal():
        return None
    return host.strip("[]"), int(port)


def _reach(host: str, port: int) -> None:
    """Try the socket.

    Raises:
        OSError: nothing listens there.
        OverflowError: there is no such port.
    """
    socket.create_connection((host, port), timeout=REACH_S).close()


def _check_cluster(address: str) -> None:
    """Find out whether the cluster asks for a token, and which Ray it is; set RAY_AUTH_MODE for this process by it.

    Ray uses a token only if it is told to where an address is given, and one that the cluster does not ask for breaks
    calls between processes.

    Raises:
        UserError: it lets nobody in without a token, or not with this one, or its versions are not those here.
    """
    try:
        from ray.exceptions import AuthenticationError
    except ImportError:  # a version without tokens
        return
    if os.environ.get(_MODE, "token").lower() not in ("token", "disabled"):
        return  # another kind of authentication
    try:
        metadata = _metadata(address, "disabled")
    except AuthenticationError:
        if not import_module("ray._raylet").AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            raise UserError(
                "the Ray cluster at RAY_ADDRESS asks for a token, and there is none here; copy ~/.ray/auth_token of its"
                f" head to this machine, or name a copy in RAY_AUTH_TOKEN_PATH, got {address!r}"
            ) from None
        try:
            metadata = _metadata(address, "token")
        except AuthenticationError:
            raise UserError(
                f"the Ray cluster at RAY_ADDRESS refuses the token in {_place_of_token()}; copy"
                f" ~/.ray/auth_token of its head anew, got {address!r}"
            ) from None
    _check_versions(metadata, address)


def _metadata(address: str, mode: str) -> dict[str, Any]:
    """What the head says of its cluster, asked with or without a token."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    library: Any = import_module("ray._raylet")
    before = {name: os.environ.get(name) for name in _IMPATIENT}
    os.environ |= {**_IMPATIENT, _MODE: mode}
    try:
        library.Config.initialize("")
        head = library.GcsClient(address=canonicalize_bootstrap_address_or_die(address))
        return dict(json.loads(head.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=REACH_S) or "{}"))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        library.Config.initialize("")


def _place_of_token() -> str:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    return repr(os.environ.get("RAY_AUTH_TOKEN_PATH") or str(Path.home() / ".ray" / "auth_token"))


def _check_versions(metadata: Mapping[str, Any], address: str) -> None:
    for name, key, here in (
        ("Ray", "ray_version", ray.__version__),
        ("Python", "python_version", platform.python_version()),
    ):
        there = metadata.get(key, here)
        if there != here:
            raise UserError(
                f"the Ray cluster at RAY_ADDRESS has {name} {there}, and here is {name} {here}; install the same"
                f" version on all machines, got {address!r}"
            )


@contextmanager
def head_in_reach(address: str | None) -> Iterator[None]:
    """Ends the block when the head at ``address``, as :func:`join` was given it, has been out of reach for long.

    Nothing is watched without an address, or where it names no socket.

    Raises:
        UserError: the head is lost.
    """
    found = _socket_of(address) if address else None
    if not found:
        yield
        return
    error = UserError(
        f"the head of the Ray cluster at RAY_ADDRESS cannot be reached any more; what was written is whole, and jetbed "
        f"resume goes on from it on a cluster that runs, got {address!r}"
    )
    with ended_without(lambda: _is_reached(*found), LOST_S, error):
        yield


def _is_reached(host: str, port: int) -> bool:
    try:
        _reach(host, port)
    except OSError:
        return False
    return True
