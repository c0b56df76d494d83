"""What an optimizer costs a device: bytes for each parameter that it trains, all of them float32.

Each array is touched once in a step, as fused implementations do.
"""

from emulator.records import LocalOptimizer

_FLOAT = 4


def moved_bytes(optimizer: LocalOptimizer) -> int:
    """Bytes that pass through memory in a step, for a trained parameter.

    AdamW reads it, its gradient and two moments, and writes all but the gradient (Loshchilov and Hutter 2019, arXiv
    1711.05101, algorithm 2). SGD reads it and its gradient and writes it; momentum is read and written beside. The
    proximal term reads the parameter, where it began and the gradient, and writes that. Clipping reads the gradient for
    its norm, and reads and writes it again.
    """
    n = 7 if optimizer.name == "adamw" else 3 + 2 * (optimizer.momentum > 0)
    n += 4 * (optimizer.proximal_mu > 0) + 3 * (optimizer.max_gradient_norm is not None)
    return _FLOAT * n


def held_bytes(optimizer: LocalOptimizer) -> int:
    """Bytes of memory for a trained parameter beside itself.

    Its gradient; AdamW's two moments, or SGD's momentum; and, for the proximal term, where it began.
    """
    n = 1 + (2 if optimizer.name == "adamw" else int(optimizer.momentum > 0))
    return _FLOAT * (n + (optimizer.proximal_mu > 0))
