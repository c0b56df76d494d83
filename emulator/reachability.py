"""The availability and the drop-outs of a run's devices, as its configuration asks for them."""

import hashlib
from pathlib import Path

from emulator.config import AvailabilityConfig
from emulator.errors import ConfigError
from emulator.seeds import Seeds
from emulator.world.availability import Always, Availability, OnOff, Trace
from emulator.world.availability_trace import read_trace

WHERE = "testbed.availability"
KEYS = {"always": (), "on_off": ("mean_on_s", "mean_off_s"), "trace": ("trace",)}
"""For each kind the keys that it needs; the others do not take them."""
LEAST_MEAN_S = 1e-3
"""Every span is drawn by itself, so that shorter ones would keep a round from ending."""


def availability_of(config: AvailabilityConfig, n_devices: int, seeds: Seeds) -> Availability:
    """When the devices of a run can be reached.

    Raises:
        ConfigError: a key that the kind needs is missing, one that it does not take is given, or the trace is wrong.
    """
    for kind, names in KEYS.items():
        for name in names:
            given = getattr(config, name)
            if kind == config.kind and not given:
                raise ConfigError(f"{WHERE}.{name} must be given where {WHERE}.kind is {kind!r}")
            if kind != config.kind and given:
                raise ConfigError(
                    f"{WHERE}.{name} is for {WHERE}.kind = {kind!r}; the kind is {config.kind!r}, got {given!r}"
                )
            if kind == config.kind == "on_off" and given < LEAST_MEAN_S:
                raise ConfigError(f"{WHERE}.{name} must be at least {LEAST_MEAN_S} seconds, got {given!r}")
    if config.kind == "on_off":
        return OnOff(n_devices, config.mean_on_s, config.mean_off_s, seeds)
    if config.kind == "trace":
        try:
            return Trace(n_devices, read_trace(Path(config.trace)))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"{WHERE}.trace: cannot be read ({reason}): {config.trace!r}") from None
        except ValueError as error:
            raise ConfigError(f"{WHERE}.trace: {error}") from None
    return Always(n_devices)


def trace_sha256(config: AvailabilityConfig) -> str | None:
    """The digest of the trace's file, in hexadecimal; None where there is none."""
    return hashlib.sha256(Path(config.trace).read_bytes()).hexdigest() if config.trace else None
