"""Numbers on their way into the page: few digits for curves, packed bytes for what is long."""

import base64
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

CURVE_DIGITS = 6
MOST_POINTS = 400
"""Points of a curve; more than a plot has pixels would only make it slow."""

_KINDS = {"u1": np.uint8, "u2": np.uint16, "i4": np.int32, "f4": np.float32}


def numbers(values: Iterable[float]) -> list[float | None]:
    """A list for JSON, rounded to significant digits; what is not a number becomes null."""
    return [None if math.isnan(value) else float(f"{value:.{CURVE_DIGITS}g}") for value in map(float, values)]


def packed(values: NDArray[Any], kind: str) -> dict[str, Any]:
    """An array as base64 of little-endian bytes in the order of rows; ``kind`` is u1, u2, i4 or f4."""
    array = np.ascontiguousarray(values, dtype=np.dtype(_KINDS[kind]).newbyteorder("<"))
    return {"kind": kind, "shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode("ascii")}


def thinned(n_items: int, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """Positions of at most ``most`` of ``n_items`` items, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n_items - 1, min(n_items, most)).round().astype(np.int64))
