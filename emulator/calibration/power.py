"""Reads what the machine draws: the rails that a Jetson monitors, or the energy counters of x86 (RAPL)."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from emulator.calibration.rails import Rail, hwmon_rails, iio_rails, names_of, text_of, whole_board
from emulator.errors import ConfigError, did_you_mean

_HWMON = Path("/sys/class/hwmon")
_IIO = Path("/sys/bus/i2c/drivers/ina3221x")  # Linux for Tegra before release 34
_RAPL = Path("/sys/class/powercap")

RAPL = "rapl"
"""The name by which the counters are chosen."""
_SAMPLE_S = 0.2


class PowerSensor(Protocol):
    """Something that says what the machine draws. ``source`` names what is read, and what of it cannot be."""

    source: str

    def watts(self) -> float:
        """Mean power since the last call, or at this moment where the sensor tells that (W).

        Raises:
            OSError, ValueError: it cannot be read now, or says what cannot be.
        """
        ...


@dataclass(slots=True)
class RailSensor:
    """Monitored rails, added up."""

    source: str
    rails: Sequence[Rail]

    def watts(self) -> float:
        return sum(rail.watts() for rail in self.rails)


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
    """Samples of what was drawn (W); ``n_unread`` more could not be read, the last of them because of ``reason``."""

    samples_w: list[float] = field(default_factory=list)
    n_unread: int = 0
    reason: str = ""

    @property
    def mean_w(self) -> float | None:
        return sum(self.samples_w) / len(self.samples_w) if self.samples_w else None


def find_sensor(
    hwmon: Path = _HWMON,
    iio: Path = _IIO,
    rapl: Path = _RAPL,
    clock: Callable[[], float] = time.perf_counter,
    chosen: str | None = None,
) -> PowerSensor | None:
    """The sensor of this machine that covers most; None where none can be read.

    ``chosen`` names other rails, separated by commas, or ``rapl``; all must be readable. ``clock`` gives seconds.

    Raises:
        ConfigError: this machine does not have what is chosen, or it cannot be read.
    """
    rails = [*hwmon_rails(hwmon)] or [*iio_rails(iio)]
    counters = _rapl_counters(rapl, clock)
    if chosen is not None:
        return _chosen(chosen, rails, counters)
    if rails and (sensor := _of_the_whole_board(rails)):
        return sensor
    return counters if counters and not _why_unread(counters) else None


def _of_the_whole_board(rails: Sequence[Rail]) -> RailSensor | None:
    unread = {rail: why for rail in rails if (why := _why_unread(rail))}
    readable = [rail for rail in rails if rail not in unread]
    if not readable:
        return None
    wanted = whole_board(rails)
    chosen = wanted if all(rail in readable for rail in wanted) else whole_board(readable)
    missing = [why for rail, why in unread.items() if rail in wanted]
    without = f", without what cannot be read: {'; '.join(missing)}; not the whole board" if missing else ""
    what = "rail" if len(chosen) == 1 else "sum of the rails"
    return RailSensor(f"{what} {', '.join(names_of(chosen))}{without}", chosen)


def _chosen(names: str, rails: Sequence[Rail], counters: "RaplSensor | None") -> PowerSensor:
    if names == RAPL and counters is not None:
        sensor: PowerSensor = counters
    else:
        wanted = [name.strip() for name in names.split(",")]
        own = [rail for rail in rails if rail.label in wanted]
        there = [*dict.fromkeys(rail.label for rail in rails), *([RAPL] if counters else [])]
        for name in wanted:
            if name not in [rail.label for rail in own]:
                hint = did_you_mean(name, there)
                raise ConfigError(
                    f"--sensor takes rails that this machine monitors, separated by commas, or {RAPL}{hint}; it has: "
                    f"{', '.join(there) or 'none'}; got {name!r}"
                )
        sensor = RailSensor(f"chosen rails {', '.join(names_of(own))}", own)
    if why := _why_unread(sensor):
        raise ConfigError(f"--sensor: {why}; choose another one, or give --watts, got {names!r}")
    return sensor


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
            try:
                drawn.samples_w.append(sensor.watts())
            except (OSError, ValueError) as error:
                drawn.n_unread += 1
                drawn.reason = str(error)

    _why_unread(sensor)  # counters count from here
    thread = threading.Thread(target=sample, name="power samples", daemon=True)
    thread.start()
    try:
        yield drawn
    finally:
        done.set()
        thread.join()


def _rapl_counters(folder: Path, clock: Callable[[], float]) -> RaplSensor | None:
    zones = [zone for zone in sorted(folder.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    names = {zone: text_of(zone / "name") for zone in zones}
    whole = [zone for zone in zones if names[zone].startswith("psys")] or zones
    counters = []
    for zone in whole:
        wrap = text_of(zone / "max_energy_range_uj")
        if wrap.isdigit():
            counters.append((zone / "energy_uj", int(wrap) + 1))
    source = f"RAPL, {', '.join(names[zone] for zone in whole)}, without the rest of the machine"
    return RaplSensor(source, tuple(counters), clock) if counters else None


def _why_unread(source: PowerSensor | Rail) -> str:
    """Why it cannot be read; nothing where it can."""
    try:
        source.watts()
    except (OSError, ValueError) as error:
        name = f"{source.label} " if isinstance(source, Rail) and isinstance(error, OSError) else ""
        return f"{name}{error}"
    return ""
