"""Products of low rank ``B A``, never formed: only factors of a few rows are multiplied."""

import math

import numpy as np
from numpy.typing import NDArray

from emulator.records import Arrays


def product_norm(lora_a: NDArray[np.float32], lora_b: NDArray[np.float32]) -> float:
    """``||B A||_F`` of ``lora_a (r, in)`` and ``lora_b (out, r)``: ``sqrt(tr((B'B)(A A')))``, in float64.

    Both inner products are symmetric ``(r, r)``, so the trace is the sum of their element-wise product.
    """
    a, b = lora_a.astype(np.float64), lora_b.astype(np.float64)
    squared = float(np.sum((b.T @ b) * (a @ a.T)))
    return math.sqrt(max(squared, 0.0))  # rounding may leave a tiny negative number where it should be 0


def adapters_norm(arrays: Arrays) -> float:
    """The Frobenius norm of all products ``B A`` of a payload together, the root of the sum of their squares."""
    pairs = [name.removesuffix("lora_A") for name in arrays if name.endswith("lora_A")]
    norms = [product_norm(arrays[f"{place}lora_A"], arrays[f"{place}lora_B"]) for place in pairs]
    return math.sqrt(sum(norm**2 for norm in norms))
