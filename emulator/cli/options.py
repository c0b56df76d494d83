"""The options that commands about a run share, and the settings that they come to."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from device_profiles.text_files import user_path
from emulator.backends.kinds import KINDS
from emulator.errors import ConfigError
from emulator.results.version import VERSION
from emulator.storage.places import Place, is_url, place

if TYPE_CHECKING:
    from emulator.config import Config


def path(text: str) -> Path:
    """A path as a user writes it, with ``~`` and ``file://``.

    Raises:
        ConfigError: it is a URL of something that is not on this machine.
    """
    if is_url(text):
        raise ConfigError(f"this must be a file or folder of this machine, not a URL, got {text!r}")
    return user_path(text)


def given_place(text: str | None) -> Place | None:
    """The place that an option names, if it was given."""
    return None if text is None else place(text)


place_option = partial(typer.Option, metavar="PATH|URL")
path_option = partial(typer.Option, parser=path, metavar="PATH")
path_argument = partial(typer.Argument, parser=path)


def show_version(is_asked: bool) -> None:
    """Print the version and end the command, if it is asked for."""
    if is_asked:
        print(f"jetbed {VERSION}")
        raise typer.Exit


ConfigFile = Annotated[Path | None, path_argument(help="A TOML file; without it, the default testbed.")]
PolicyName = Annotated[str | None, typer.Option(help="A name that 'jetbed policies' lists, or module:Class.")]
Rounds = Annotated[int | None, typer.Option(help="Number of rounds.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random stream.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override any setting; repeatable.")
]


def _known_backend(name: str | None) -> str | None:
    if name is not None and name not in (kind.name for kind in KINDS):
        allowed = ", ".join(repr(kind.name) for kind in KINDS)
        raise typer.BadParameter(f"{name!r} is not one of {allowed}.")
    return name


BackendName = Annotated[
    str | None,
    typer.Option(
        metavar=f"[{'|'.join(kind.name for kind in KINDS)}]",
        help="; ".join(f"{kind.name}: {kind.holds}" for kind in KINDS) + ".",
        callback=_known_backend,
    ),
]
Hosts = Annotated[int | None, typer.Option(help="Number of host processes.")]
MetricName = Annotated[
    str | None,
    typer.Option(help="Score that runs are measured by, such as macro_f1; accuracy, or what such runs have, without."),
]
DevicesPerActor = Annotated[int | None, typer.Option(help="1 gives every device an actor of its own.")]
GpusPerHost = Annotated[float | None, typer.Option(help="Share of a GPU for each host.")]
OutDir = Annotated[
    str | None,
    place_option(
        help="Folder for the results: new, empty, or that of the same run, which goes on; also s3://bucket/folder."
    ),
]


_KEYS = {
    "policy": "policy.path",
    "rounds": "rounds",
    "seed": "seed",
    "backend": "backend.kind",
    "hosts": "backend.hosts",
    "speed": "pace",
    "devices_per_actor": "backend.devices_per_actor",
    "gpus_per_host": "backend.gpus_per_host",
}
"""The key path that each option sets."""
OPTIONS = {key: f"--{name.replace('_', '-')}" for name, key in _KEYS.items()}
"""The option that sets each key path."""


def by_key(**options: Any) -> dict[str, Any]:
    """Options by the key path that they set."""
    return {_KEYS[name]: value for name, value in options.items()}


def settings_of(path: Path | None, overrides: Sequence[str] | None, options: Mapping[str, Any]) -> "Config":
    """The settings in a file, overridden by ``--set`` and then by ``options``, by key path; None leaves a setting.

    Raises:
        ConfigError: a key or value is wrong.
    """
    from emulator.config import load_config

    given = {key: OPTIONS[key] for key, value in options.items() if value is not None}
    return load_config(path, overrides_of(overrides, options), given)


def overrides_of(overrides: Sequence[str] | None, options: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What ``--set`` and then ``options``, by key path, set; None leaves a setting.

    Raises:
        ConfigError: a text is not ``KEY.PATH=VALUE``.
    """
    from emulator.config import parse_setting

    given = [(key, value) for key, value in options.items() if value is not None]
    return [*(parse_setting(text) for text in overrides or ()), *given]
