"""Quantities and curves as people read them in a terminal."""

import math
from collections.abc import Iterable, Sequence

_TIMES = (("s", 1.0, 120), ("min", 60.0, 120), ("h", 3600.0, 72))
_PREFIXES = ("", "k", "M", "G", "T")
_BLOCKS = " ▁▂▃▄▅▆▇█"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits their size: ``42.0 s``, ``3.5 min``, ``7.1 h``, ``2.3 d``."""
    for unit, unit_s, limit in _TIMES:
        if seconds < limit * unit_s:
            return f"{seconds / unit_s:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def common_unit(amounts: Iterable[float], unit: str) -> tuple[str, float]:
    """The unit that suits the largest of these amounts, and how many of ``unit`` it is: ``("min", 60.0)``.

    ``unit`` is ``s``, ``byte``, ``J`` or anything else, which stays as it is.
    """
    largest = max(amounts, default=0.0)
    if unit == "s":
        return next(((name, unit_s) for name, unit_s, limit in _TIMES if largest < limit * unit_s), ("d", 86_400.0))
    if unit in ("byte", "J"):
        power = _power(largest)
        return f"{_PREFIXES[power]}{'B' if unit == 'byte' else unit}", 1000.0**power
    return unit, 1.0


def size(n_bytes: float) -> str:
    """Bytes in decimal units: ``512 B``, ``1.5 MB``, ``23.0 GB``."""
    return _scaled(n_bytes, "B")


def energy(joules: float) -> str:
    """Joules, and watt-hours beside them: ``7.2 kJ (2 Wh)``."""
    return f"{energy_joules(joules)} ({_scaled(joules / 3600, 'Wh')})"


def energy_joules(joules: float) -> str:
    """Joules alone, where there is little room: ``7.2 kJ``."""
    return _scaled(joules, "J")


def _scaled(value: float, unit: str) -> str:
    power = _power(value)
    digits = 0 if power == 0 and value == int(value) else 1
    return f"{value / 1000**power:.{digits}f} {_PREFIXES[power]}{unit}"


def _power(value: float) -> int:
    # Half a last digit below 1000 would be printed as 1000.0.
    return min(int(math.log(value / 0.99995, 1000)), len(_PREFIXES) - 1) if value >= 1 else 0


def curve(points: Sequence[tuple[float, float]], width: int = 68, height: int = 6) -> list[str]:
    """Draw ``(emulated seconds, value)`` points in ascending order as a filled curve with its axes, line by line.

    A column shows the last value up to its time, as the server has no other at that moment; time starts at 0, the value
    axis at the lowest value, which gets the lowest mark.
    """
    if not points:
        return []
    end_s = points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    marks: list[int] = []
    latest = 0
    for column in range(1, width + 1):
        # The last column is the end itself: the product may fall short of it by a rounding error.
        now_s = end_s if column == width else end_s * column / width
        while latest + 1 < len(points) and points[latest + 1][0] <= now_s:
            latest += 1
        time_s, value = points[latest]
        share = (value - low) / (high - low) if high > low else 1.0
        marks.append(1 + round(share * (8 * height - 1)) if time_s <= now_s else 0)
    lines = []
    for row in reversed(range(height)):
        label = high if row == height - 1 else low if row == 0 else None
        cells = "".join(_BLOCKS[min(max(mark - 8 * row, 0), 8)] for mark in marks)
        lines.append(f"{'' if label is None else f'{label:.3f}':>7} ┤{cells}")
    end = duration(end_s)
    lines.append(f"{'':>7} └{'─' * width}")
    lines.append(f"{'':>9}0{end:>{width - 1}}")
    return lines
