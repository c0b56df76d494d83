"""A run's configuration: one file a section, read from TOML and checked by pydantic."""

from emulator.config.plugins import ObserverConfig, PolicyConfig
from emulator.config.reading import (
    SWEEP_KEYS,
    check_key,
    config_of,
    load_config,
    overridden,
    parse_setting,
    read_toml,
)
from emulator.config.run import Config
from emulator.config.section import NONE, Section
from emulator.config.testbed import AvailabilityConfig

__all__ = [
    "NONE",
    "SWEEP_KEYS",
    "AvailabilityConfig",
    "Config",
    "ObserverConfig",
    "PolicyConfig",
    "Section",
    "check_key",
    "config_of",
    "load_config",
    "overridden",
    "parse_setting",
    "read_toml",
]
