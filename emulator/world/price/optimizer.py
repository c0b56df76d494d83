"""What an optimizer costs a device: bytes for each parameter that it trains, float32 but for moments of eight bits.

Each array is touched once in a step, as fused implementations do.
"""

from emulator.records import MOMENT_BLOCK, LocalOptimizer

_FLOAT = 4


def moved_bytes(optimizer: LocalOptimizer, n_passes: int = 1) -> float:
    """Bytes that pass through memory in a step of so many passes, for a trained parameter.

    AdamW reads it, its gradient and two moments, and writes all but the gradient (Loshchilov and Hutter 2019, arXiv
    1711.05101, algorithm 2). SGD reads it and its gradient and writes it; momentum is read and written beside. The
    proximal term reads the parameter, where it began and the gradient, and writes that. Clipping reads the gradient for
    its norm, and reads and writes it again. Each pass but the first adds its gradient to what is there.
    """
    n = 3 + 2 * (optimizer.momentum > 0) + 3 * (n_passes - 1)
    n += 4 * (optimizer.proximal_mu > 0) + 3 * (optimizer.max_gradient_norm is not None)
    return _FLOAT * n + 2 * _moments_bytes(optimizer)


def held_bytes(optimizer: LocalOptimizer) -> float:
    """Bytes of memory for a trained parameter beside itself.

    Its gradient; AdamW's two moments, or SGD's momentum; and, for the proximal term, where it began.
    """
    return _FLOAT + sum(state_bytes(optimizer))


def state_bytes(optimizer: LocalOptimizer) -> tuple[float, ...]:
    """The same without the gradient, of each array that is kept from step to step."""
    moment_bytes = _moments_bytes(optimizer) / 2
    n_others = (optimizer.momentum > 0) + (optimizer.proximal_mu > 0)
    return (moment_bytes,) * (2 * (moment_bytes > 0)) + (float(_FLOAT),) * n_others


def _moments_bytes(optimizer: LocalOptimizer) -> float:
    """Of AdamW's two moments of a parameter: float32, or eight bits and a share of the largest of their block."""
    if optimizer.name == "sgd":
        return 0.0
    return 2 * (_FLOAT if optimizer.name == "adamw" else 1 + _FLOAT / MOMENT_BLOCK)
