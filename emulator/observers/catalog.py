"""Builds the observers that a configuration names by import path."""

from emulator.config import Config
from emulator.observers.base import RunObserver
from emulator.policy.catalog import Kind, build, class_at

OBSERVER = Kind(name="observer", article="an", base=RunObserver, base_path="emulator.observers.RunObserver")


def observers_of(config: Config) -> tuple[RunObserver, ...]:
    """The observers of ``config`` with their parameters, fresh.

    Raises:
        ConfigError: there is no such observer, it does not take these parameters, or a library that it needs is not
            installed.
    """
    return tuple(
        build(OBSERVER, class_at(OBSERVER, named.path), named.parameters, f"observers.{number}")
        for number, named in enumerate(config.observers)
    )
