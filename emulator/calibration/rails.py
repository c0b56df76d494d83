"""The monitored supply rails of a board, and which of them together are the whole board."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_5V_IN")
"""Rails through which a module is fed whole.

VDD_IN is "the total power of module" (NVIDIA's developer forum, on Jetson Xavier NX) on Orin NX and Nano, Xavier NX and
TX2; POM_5V_IN on Jetson Nano, TX1's name in older kernels is VDD_5V_IN (from memory).
"""
TOTAL_MONITORS = ("ina238",)
"""Jetson Thor has one INA238 at its input, "total VIN monitoring" (NVIDIA's developer forum, on Jetson Thor)."""
MONITORS = ("ina3221", *TOTAL_MONITORS)
WITHIN_OTHERS = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Rails that another one feeds, where both are monitored: on AGX Orin the memory's, which is measured at 5 V, too.

AGX Orin has no total: VDD_GPU_SOC and VDD_CPU_CV come from its high voltage input and VIN_SYS_5V0 is the other input
(rails: Linux, tegra234-p3701.dtsi; which feeds which: from memory). On AGX Xavier GPU, CPU, SOC, CV, VDDRQ and SYS5V
add up (Jetson AGX Xavier Series Product Design Guide, DG-09840, section 5.6.2).
"""
_NOT_CONNECTED = ("", "nc", "sum of shunt voltages")


@dataclass(frozen=True, slots=True)
class Rail:
    """A monitored rail. ``files`` hold milliwatts, microwatts, or millivolts and milliamperes, as ``unit`` says."""

    label: str
    monitor: str
    files: tuple[Path, ...]
    unit: str = "mV mA"
    is_total: bool = False

    def watts(self) -> float:
        """What the rail carries now.

        Raises:
            OSError: it cannot be read.
            ValueError: what is read is no number, or a negative one; the message names the rail.
        """
        texts = [file.read_text(encoding="ascii", errors="replace").strip() for file in self.files]
        try:
            values = [float(text) for text in texts]
        except ValueError:
            raise ValueError(f"{self.label} reads {' and '.join(map(repr, texts))}") from None
        watts = {"mV mA": 1e-6, "mW": 1e-3, "uW": 1e-6}[self.unit]
        for value in values:
            watts *= value
        if not 0 <= watts < 1e6:
            raise ValueError(f"{self.label} reads {watts:g} W")
        return watts


def hwmon_rails(folder: Path) -> Iterator[Rail]:
    """Those that Linux shows under ``hwmon``."""
    for monitor in sorted(folder.glob("hwmon*")):
        kind = text_of(monitor / "name")
        if not kind.startswith(MONITORS):
            continue
        is_total = kind.startswith(TOTAL_MONITORS)
        n_found = 0
        for current in sorted(monitor.glob("curr*_input")):
            number = current.name.removeprefix("curr").removesuffix("_input")
            label = text_of(monitor / f"in{number}_label") or (kind if is_total else "")
            power, voltage = monitor / f"power{number}_input", monitor / f"in{number}_input"
            if label.casefold() in _NOT_CONNECTED:
                continue
            if power.exists():
                n_found += 1
                yield Rail(label, monitor.name, (power,), "uW", is_total)
            elif voltage.exists():
                n_found += 1
                yield Rail(label, monitor.name, (voltage, current), "mV mA", is_total)
        if is_total and not n_found and (monitor / "power1_input").exists():
            yield Rail(kind, monitor.name, (monitor / "power1_input",), "uW", is_total)


def iio_rails(folder: Path) -> Iterator[Rail]:
    """Those that Linux for Tegra shows before release 34."""
    for name in sorted(folder.glob("*/iio:device*/rail_name_*")):
        power = name.parent / f"in_power{name.name.removeprefix('rail_name_')}_input"
        label = text_of(name)
        if label.casefold() not in _NOT_CONNECTED:
            yield Rail(label, f"{name.parent.parent.name}/{name.parent.name}", (power,), "mW")


def whole_board(rails: Sequence[Rail]) -> list[Rail]:
    """The rails that together are the board: its total, or all that no other one feeds."""
    if totals := [rail for rail in rails if rail.is_total]:
        return totals
    labels = whole_board_labels([rail.label for rail in rails])
    return [rail for rail in rails if rail.label in labels]


def whole_board_labels(labels: Sequence[str]) -> list[str]:
    """The names of rails that together are the board: of its total, or of all that no other one feeds."""
    for name in TOTAL_RAILS:
        if name in labels:
            return [name]
    return [label for label in labels if WITHIN_OTHERS.get(label) not in labels]


def names_of(rails: Sequence[Rail]) -> list[str]:
    """Their labels, with the monitor where several have the same."""
    labels = [rail.label for rail in rails]
    return [rail.label if labels.count(rail.label) == 1 else f"{rail.label} ({rail.monitor})" for rail in rails]


def text_of(path: Path) -> str:
    """What a file says, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
