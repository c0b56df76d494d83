"""How far a figure may be off: reads ``±15 %``, ``±0.5 GiB``, ``×/÷ 1.4`` and ``0.02 to 0.15``."""

import re

_NUMBER = r"(\d+(?:\.\d+)?)"


def bounds(value: float, uncertainty: str) -> tuple[float, float]:
    """The least and the most that a figure may be; ``value`` is in the unit that the text has, if it has one.

    A text that says nothing, or is not understood, leaves the figure as it is.
    """
    text = uncertainty.strip()
    if match := re.match(rf"±\s*{_NUMBER}\s*%", text):
        share = float(match[1]) / 100
        return value * max(0.0, 1 - share), value * (1 + share)
    if match := re.match(rf"±\s*{_NUMBER}", text):
        return max(0.0, value - float(match[1])), value + float(match[1])
    if match := re.match(rf"×\s*/\s*÷\s*{_NUMBER}", text):
        factor = max(1.0, float(match[1]))
        return value / factor, value * factor
    if match := re.match(rf"{_NUMBER}\s*(?:to|–|-)\s*{_NUMBER}", text):
        return float(match[1]), float(match[2])
    return value, value
