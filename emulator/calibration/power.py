"""Reads what the machine draws: the rails of a Jetson's INA3221 monitors, or the energy counters of x86 (RAPL)."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

_HWMON = Path("/sys/class/hwmon")
_IIO = Path("/sys/bus/i2c/drivers/ina3221x")  # Linux for Tegra before release 34
_RAPL = Path("/sys/class/powercap")

_WHOLE_BOARD_RAILS = ("VDD_IN", "VIN_SYS_5V0", "POM_5V_IN", "VDD_5V_IN")
"""Rails through which a module is fed whole; without one of them, all that are monitored are added up."""

_SAMPLE_S = 0.2


class PowerSensor(Protocol):
    """Something that says what the machine draws."""

    source: str

    def watts(self) -> float:
        """Mean power since the last call, or at this moment where the sensor tells that (W)."""
        ...


@dataclass(slots=True)
class RailSensor:
    """Monitored rails; ``rails`` are pairs of files with millivolts and milliamperes, or one with milliwatts."""

    source: str
    rails: tuple[tuple[Path, ...], ...]

    def watts(self) -> float:
        milliwatts = 0.0
        for files in self.rails:
            values = [float(file.read_text()) for file in files]
            milliwatts += values[0] * values[1] / 1e3 if len(values) == 2 else values[0]
        return milliwatts / 1e3


@dataclass(slots=True)
class RaplSensor:
    """Energy counters of the processor's packages, in microjoules, which begin anew at a given value."""

    source: str
    counters: tuple[tuple[Path, int], ...]
    clock: Callable[[], float] = time.perf_counter
    _last_s: float = 0.0
    _last_uj: list[int] = field(default_factory=list)

    def watts(self) -> float:
        now_s = self.clock()
        now_uj = [int(file.read_text()) for file, _ in self.counters]
        spent_uj = sum(
            (now - last) % wrap for now, last, (_, wrap) in zip(now_uj, self._last_uj, self.counters, strict=False)
        )
        watts = spent_uj / 1e6 / max(now_s - self._last_s, 1e-9) if self._last_uj else 0.0
        self._last_s, self._last_uj = now_s, now_uj
        return watts


@dataclass(slots=True)
class DrawnPower:
    """Samples of what was drawn (W)."""

    samples_w: list[float] = field(default_factory=list)

    @property
    def mean_w(self) -> float | None:
        return sum(self.samples_w) / len(self.samples_w) if self.samples_w else None


def find_sensor(
    hwmon: Path = _HWMON, iio: Path = _IIO, rapl: Path = _RAPL, clock: Callable[[], float] = time.perf_counter
) -> PowerSensor | None:
    """The sensor of this machine that covers most; None where none can be read. ``clock`` gives seconds."""
    for sensor in (_hwmon_rails(hwmon), _iio_rails(iio), _rapl_counters(rapl, clock)):
        if sensor is not None and _can_be_read(sensor):
            return sensor
    return None


@contextmanager
def sampled(sensor: PowerSensor | None) -> Iterator[DrawnPower]:
    """What is drawn while the block lasts, sampled by a thread of its own that mostly sleeps."""
    drawn = DrawnPower()
    if sensor is None:
        yield drawn
        return
    done = threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            drawn.samples_w.append(sensor.watts())

    sensor.watts()  # counters count from here
    thread = threading.Thread(target=sample, name="power samples", daemon=True)
    thread.start()
    try:
        yield drawn
    finally:
        done.set()
        thread.join()


def _hwmon_rails(folder: Path) -> RailSensor | None:
    rails: dict[str, tuple[Path, ...]] = {}
    for monitor in sorted(folder.glob("hwmon*")):
        if _text(monitor / "name").startswith("ina3221"):
            for label in sorted(monitor.glob("in*_label")):
                number = label.name.removeprefix("in").removesuffix("_label")
                files = (monitor / f"in{number}_input", monitor / f"curr{number}_input")
                if all(file.exists() for file in files):
                    rails[_text(label)] = files
    return _rail_sensor(rails)


def _iio_rails(folder: Path) -> RailSensor | None:
    rails: dict[str, tuple[Path, ...]] = {}
    for name in sorted(folder.glob("*/iio:device*/rail_name_*")):
        rails[_text(name)] = (name.parent / f"in_power{name.name.removeprefix('rail_name_')}_input",)
    return _rail_sensor(rails)


def _rail_sensor(rails: dict[str, tuple[Path, ...]]) -> RailSensor | None:
    whole = [name for name in _WHOLE_BOARD_RAILS if name in rails][:1]
    # The sum of other rails is a share of a rail that feeds them, so it is left out where that one is monitored.
    chosen = whole or [name for name in rails if name and name.casefold() != "sum of shunt voltages"]
    if not chosen:
        return None
    what = "rail" if len(chosen) == 1 else "sum of the rails"
    return RailSensor(f"INA3221, {what} {', '.join(chosen)}", tuple(rails[name] for name in chosen))


def _rapl_counters(folder: Path, clock: Callable[[], float]) -> RaplSensor | None:
    domains = {_text(zone / "name"): zone for zone in sorted(folder.glob("intel-rapl:*")) if zone.name.count(":") == 1}
    whole = {name: zone for name, zone in domains.items() if name.startswith("psys")} or domains
    counters = []
    for zone in whole.values():
        wrap = _text(zone / "max_energy_range_uj")
        if wrap.isdigit():
            counters.append((zone / "energy_uj", int(wrap) + 1))
    source = f"RAPL, {', '.join(whole)}, without the rest of the machine"
    return RaplSensor(source, tuple(counters), clock) if counters else None


def _can_be_read(sensor: PowerSensor) -> bool:
    try:
        sensor.watts()
    except (OSError, ValueError):
        return False
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
