"""What ``[testbed.foreground]`` asks for."""

from emulator.config.testbed import ForegroundConfig
from emulator.errors import ConfigError
from emulator.seeds import Seeds
from emulator.world.foreground import Foreground, random_load, scheduled_load

WHERE = "testbed.foreground"
LEAST_MEAN_S = 1.0
_KEYS = {
    "none": (),
    "on_off": ("compute_fraction", "mean_on_s", "mean_off_s"),
    "schedule": ("compute_fraction", "from_s", "until_s", "period_s"),
}
"""What each kind takes; whatever has no default must be given."""


def foreground_of(config: ForegroundConfig, n_devices: int, seeds: Seeds) -> Foreground | None:
    """What takes compute from training on the devices of a run; None where nothing does.

    Raises:
        ConfigError: a key that the kind needs is missing, one that it does not take is given, or a time is wrong.
    """
    _check_keys(config)
    fraction, mean_on_s, mean_off_s = config.compute_fraction, config.mean_on_s, config.mean_off_s
    if fraction is None:
        return None
    if mean_on_s is not None and mean_off_s is not None:
        for name, mean_s in (("mean_on_s", mean_on_s), ("mean_off_s", mean_off_s)):
            if mean_s < LEAST_MEAN_S:
                raise ConfigError(f"{WHERE}.{name} must be at least {LEAST_MEAN_S:g} second, got {mean_s!r}")
        return random_load(n_devices, fraction, mean_on_s, mean_off_s, seeds)
    from_s, until_s, period_s = config.from_s, config.until_s, config.period_s
    if from_s >= period_s or until_s > period_s or from_s == until_s:
        raise ConfigError(
            f"{WHERE}.from_s and until_s must be two times within a period of period_s = {period_s:g} s, "
            f"got {from_s!r} and {until_s!r}"
        )
    return scheduled_load(n_devices, fraction, from_s=from_s, until_s=until_s, period_s=period_s)


def _check_keys(config: ForegroundConfig) -> None:
    for name in dict.fromkeys(name for names in _KEYS.values() for name in names):
        given, default = getattr(config, name), type(config).model_fields[name].default
        if given is None and name in _KEYS[config.kind]:
            raise ConfigError(f"{WHERE}.{name} must be given where {WHERE}.kind is {config.kind!r}")
        if given != default and name not in _KEYS[config.kind]:
            kinds = " or ".join(repr(kind) for kind, names in _KEYS.items() if name in names)
            raise ConfigError(
                f"{WHERE}.{name} is for {WHERE}.kind = {kinds}; the kind is {config.kind!r}, got {given!r}"
            )
