"""Classes of devices by how fast a server has seen them: what policies use that know a few kinds of devices."""

from collections.abc import Mapping


def speed_classes(step_s: Mapping[int, float], n_classes: int) -> dict[int, int]:
    """Sorts devices into ``n_classes`` classes of near-equal size, 0 the slowest; ids break ties.

    Args:
        step_s: each device's seconds for a unit of work, the same unit for all.
        n_classes: how many classes.

    Raises:
        ValueError: ``n_classes`` is less than 1.
    """
    if n_classes < 1:
        raise ValueError(f"there must be at least 1 class of devices, got {n_classes!r}")
    slowest_first = sorted(step_s, key=lambda device: (-step_s[device], device))
    return {device: place * n_classes // len(slowest_first) for place, device in enumerate(slowest_first)}
