"""How much each device does, so that nobody waits long for the slowest, and classes of devices by their speed."""

import heapq
from collections.abc import Callable, Mapping


def relieve_slowest(
    completion_s: Callable[[int, int], float],
    most: Mapping[int, int],
    waiting_fraction: float,
    least: int,
    skips_floor: bool = False,
) -> dict[int, int]:
    """How much each device of ``most`` is asked to do, in steps such as layers.

    Start from the most that each device may do. While the mean waiting time ``W = mean(max t - t_i)`` exceeds
    ``waiting_fraction`` of the slowest device's time, take one step from the slowest device. The fastest device keeps
    all it has, and nobody falls below ``least``. ``completion_s(device, amount)`` is a device's expected time; more
    never takes less time.

    A slowest device that is at ``least`` ends the search; with ``skips_floor`` it is left out of what follows, the
    waiting and its bound, as the round can be no shorter for it, and the search goes on among the others.
    """
    amounts = dict(most)
    times_s = {device: completion_s(device, amount) for device, amount in amounts.items()}
    if not times_s:
        return amounts
    fastest = min(times_s, key=lambda device: (times_s[device], device))
    slowest_first = [(-time_s, device) for device, time_s in times_s.items()]
    heapq.heapify(slowest_first)
    total_s = sum(times_s.values())
    while True:
        longest_s, slowest = -slowest_first[0][0], slowest_first[0][1]
        if skips_floor and amounts[slowest] <= least and slowest != fastest:
            heapq.heappop(slowest_first)
            total_s -= longest_s
            continue
        mean_waiting_s = longest_s - total_s / len(slowest_first)
        if mean_waiting_s <= waiting_fraction * longest_s or slowest == fastest or amounts[slowest] <= least:
            return amounts
        amounts[slowest] -= 1
        shorter_s = completion_s(slowest, amounts[slowest])
        total_s += shorter_s - longest_s
        heapq.heapreplace(slowest_first, (-shorter_s, slowest))


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
