"""Numbers as the bytes that travel, and back. What an encoding loses is lost for real: the receiver reads these bytes.

A payload is encoded as one vector, its arrays by name one behind another, so that its size follows from how many
numbers it has. All of it is element-wise but for maxima and a threshold, which do not depend on the order of
computation: the bytes are the same on every machine.
"""

import math

import numpy as np
from numpy.typing import NDArray

from emulator.records import Encoding

FLOAT_BYTES, HALF_BYTES, CODE_BYTES, INDEX_BYTES = 4, 2, 1, 4
MOST_CODE = 127
"""Codes of ``int8`` are whole steps from -127 to 127."""

Vector = NDArray[np.float32]


def encoded_bytes(encoding: Encoding, n_numbers: int) -> int:
    """How many bytes :func:`encoded` makes of ``n_numbers`` numbers, whatever they are."""
    match encoding.kind:
        case "none":
            return FLOAT_BYTES * n_numbers
        case "fp16" | "bf16":
            return HALF_BYTES * n_numbers
        case "int8":
            return CODE_BYTES * n_numbers + FLOAT_BYTES * math.ceil(n_numbers / encoding.bucket_size)
        case "topk":
            return (FLOAT_BYTES + INDEX_BYTES) * n_kept(encoding, n_numbers)


def n_kept(encoding: Encoding, n_numbers: int) -> int:
    """How many of ``n_numbers`` numbers travel with ``topk``: their share, rounded up."""
    return min(n_numbers, math.ceil(encoding.topk_fraction * n_numbers))


def encoded(encoding: Encoding, values: Vector, rng: np.random.Generator) -> bytes:
    """``values (n,)`` as bytes. ``rng`` is drawn from where rounding is left to chance.

    ``int8`` is QSGD's quantization (Alistarh et al. 2017, arXiv 1610.02132, section 3.1) with 127 levels, in buckets
    that are scaled by their largest magnitude (section 4). ``topk`` keeps the largest magnitudes of the whole vector
    (Aji and Heafield 2017, arXiv 1704.05021; Stich et al. 2018, arXiv 1809.07599), of equal ones the first.
    """
    match encoding.kind:
        case "none":
            return values.astype("<f4").tobytes()
        case "fp16":
            with np.errstate(over="ignore"):
                return values.astype("<f2").tobytes()
        case "bf16":
            return _upper_halves(values).tobytes()
        case "int8":
            steps = _steps(values, encoding.bucket_size)
            return steps.astype("<f4").tobytes() + _codes(values, steps, encoding, rng).tobytes()
        case "topk":
            indices = _largest(values, n_kept(encoding, len(values)))
            return values[indices].astype("<f4").tobytes() + indices.astype("<u4").tobytes()


def decoded(encoding: Encoding, data: bytes, n_numbers: int) -> Vector:
    """The ``(n_numbers,)`` float32 that the receiver reads in what :func:`encoded` has made."""
    match encoding.kind:
        case "none":
            return np.frombuffer(data, "<f4").astype(np.float32)
        case "fp16":
            return np.frombuffer(data, "<f2").astype(np.float32)
        case "bf16":
            return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case "int8":
            n_buckets = math.ceil(n_numbers / encoding.bucket_size)
            steps = np.frombuffer(data, "<f4", n_buckets)
            codes = np.frombuffer(data, np.int8, offset=FLOAT_BYTES * n_buckets)
            with np.errstate(invalid="ignore"):  # a bucket that is not finite
                return codes.astype(np.float32) * _by_number(steps, encoding.bucket_size, n_numbers)
        case "topk":
            kept = n_kept(encoding, n_numbers)
            read = np.zeros(n_numbers, np.float32)
            read[np.frombuffer(data, "<u4", offset=FLOAT_BYTES * kept)] = np.frombuffer(data, "<f4", kept)
            return read


def _upper_halves(values: Vector) -> NDArray[np.uint16]:
    """bfloat16: the upper halves of float32, rounded to the nearest and, of two, to the even one."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype("<u2")


def _steps(values: Vector, bucket_size: int) -> Vector:
    """The step of each bucket: its largest magnitude is 127 of them."""
    starts = np.arange(0, len(values), bucket_size)
    largest = np.maximum.reduceat(np.abs(values), starts) if len(values) else np.zeros(0, np.float32)
    return (largest / np.float32(MOST_CODE)).astype(np.float32)


def _codes(values: Vector, steps: Vector, encoding: Encoding, rng: np.random.Generator) -> NDArray[np.int8]:
    """How many steps each number is; 0 where its bucket has none, or is not finite, which its step then tells."""
    step = _by_number(steps, encoding.bucket_size, len(values)).astype(np.float64)
    is_usable = np.isfinite(step) & (step > 0)
    exact = np.divide(values, step, out=np.zeros(len(values)), where=is_usable)
    whole = np.floor(exact + rng.random(len(values))) if encoding.rounding == "stochastic" else np.rint(exact)
    return np.clip(whole, -MOST_CODE, MOST_CODE).astype(np.int8)


def _by_number(steps: Vector, bucket_size: int, n_numbers: int) -> Vector:
    return np.repeat(steps, bucket_size)[:n_numbers]


def _largest(values: Vector, n: int) -> NDArray[np.int64]:
    """The ``n`` indices of the largest magnitudes, ascending; of equal ones the first. What is not finite comes first.

    A threshold is the same however it is found, which the places of equal numbers in a sort are not.
    """
    if n == 0:
        return np.zeros(0, np.int64)
    magnitudes = np.where(np.isfinite(values), np.abs(values), np.float32(np.inf))
    threshold = np.partition(magnitudes, len(values) - n)[len(values) - n]
    above, equal = np.flatnonzero(magnitudes > threshold), np.flatnonzero(magnitudes == threshold)
    return np.sort(np.concatenate([above, equal[: n - len(above)]]))
