"""Tells one model's weights from another's of the same shapes, without reading all of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

SAMPLE_BYTES = 2**16
"""Of each tensor from its beginning, in whole rows: training changes all rows, and a large model is not read whole."""
_N_SAMPLES = 256
"""Of a file whose tensors are not told apart."""


def weights_digest(files: Sequence[Path]) -> str:
    """SHA-256 in hexadecimal of what ``files`` hold: of each tensor in safetensors name, type, shape and first rows.

    It depends neither on how tensors are spread over files nor on their order. A GGUF file is sampled as it is.
    """
    if files[0].suffix != ".safetensors":
        return _digest_of_samples(files[0])
    digests: dict[str, bytes] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            digests.update({name: _digest_of_tensor(opened.get_slice(name)) for name in opened.keys()})  # noqa: SIM118
    digest = hashlib.sha256()
    for name in sorted(digests):
        digest.update(name.encode() + b"\0" + digests[name])
    return digest.hexdigest()


def _digest_of_tensor(part: Any) -> bytes:
    shape: list[int] = part.get_shape()
    digest = hashlib.sha256(f"{part.get_dtype()} {shape}".encode())
    if 0 not in shape:
        first = part[:1] if shape else part[...]
        n_rows = max(1, SAMPLE_BYTES // first.nbytes)
        rows = part[:n_rows] if shape else first
        digest.update(rows.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _digest_of_samples(file: Path) -> str:
    n_bytes = file.stat().st_size
    digest = hashlib.sha256(str(n_bytes).encode())
    with file.open("rb") as opened:
        for number in range(_N_SAMPLES):
            opened.seek(max(0, n_bytes - SAMPLE_BYTES) * number // (_N_SAMPLES - 1))
            digest.update(opened.read(SAMPLE_BYTES))
    return digest.hexdigest()
