"""What is run for a claim: its sweep file at a size, in a world and at a learning rate, as a sweep for each policy.

A *world* is the model and the data that are trained. Claims that bring their own, as MergeSFL's on images, have that
one everywhere. A *group* is one policy of a claim over its seeds: the least that is started and gone on with.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.errors import ConfigError
from emulator.sweeps.naming import label_of
from emulator.sweeps.spec import SweepSpec, read_spec

HERE = Path(__file__).parent
TRIAL = "trial"
SIZES = (TRIAL, "brief", "small", "laptop", "full", "gpu")
WORLDS = ("builtin", "real")
IMAGES = "images"
"""The world of claims that bring their own model."""
LEARNING_RATES = HERE / "learning_rates.toml"
RATE = "training.learning_rate"

Rates = Literal["common", "tuned"]
Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Under what claims are run: world, size, and whether all policies have one learning rate or each its own."""

    world: str
    size: str
    rates: Rates = "common"

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.world}-{self.size}-{self.rates}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A policy of a claim, or of the search for learning rates.

    Attributes:
        label: as gates name it, ``legend(downlink=tuned)``.
        place: where its sweep lies, in the folder of all claims.
        sweep: the content of its sweep file.
    """

    label: str
    place: Path
    sweep: Table

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.sweep["axes"]["seed"])


def claim_file(system: str) -> Path:
    """The sweep file of a system's claim."""
    return HERE / f"{system}.toml"


def policies(system: str) -> dict[str, Table]:
    """The policies of a claim with their parameters, by the labels that gates name them by."""
    listed = read_spec(claim_file(system)).axes["policy"]
    tables = [policy if isinstance(policy, Mapping) else {"path": policy} for policy in listed]
    return {str(label_of(table)): table for table in tables}


def seeds(system: str) -> tuple[int, ...]:
    """The seeds of a claim."""
    return tuple(read_spec(claim_file(system)).axes["seed"])


def place(system: str, setting: Setting, label: str) -> Path:
    """Where the sweep of a group lies, in the folder of all claims."""
    return Path(setting.name, system, slug(label))


def own_world(system: str, world: str) -> str:
    """The world in which a claim is run where ``world`` is asked for."""
    return IMAGES if "train" in read_spec(claim_file(system)).base.get("model", {}) else world


def groups(
    system: str, setting: Setting, given: Table | None = None, rates: Mapping[str, float] | None = None
) -> list[Group]:
    """All groups of a claim, in the order of its sweep file.

    Args:
        system: name of the claim's sweep file.
        setting: its world is the claim's own one where it has one.
        given: settings of this machine and of the files that were given, which override all others.
        rates: for ``tuned``, by policy.

    Raises:
        ConfigError: a policy has no tuned learning rate.
    """
    spec = read_spec(claim_file(system))
    base = _base(spec, setting, given)
    made = []
    for label, policy in policies(system).items():
        own: Table = {"policy": policy}
        if setting.rates == "tuned":
            own = merged(own, {"training": {"learning_rate": _tuned(str(policy["path"]), setting.world, rates or {})}})
        sweep = {"name": f"{system}-{slug(label)}", "base": merged(base, own), "axes": {"seed": list(seeds(system))}}
        made.append(Group(label=label, place=place(system, setting, label), sweep=sweep))
    return made


def search_groups(file: Path, setting: Setting, given: Table | None = None) -> list[Group]:
    """The groups of a search: for each policy a sweep over its learning rates and seeds."""
    spec = read_spec(file)
    base = _base(spec, setting, given)
    return [
        Group(
            label=str(policy),
            place=Path(f"tuning-{setting.world}-{setting.size}", slug(str(policy))),
            sweep={
                "name": f"tuning-{slug(str(policy))}",
                "base": merged(base, {"policy": {"path": policy}}),
                "axes": {RATE: spec.axes[RATE], "seed": spec.axes["seed"]},
            },
        )
        for policy in spec.axes["policy"]
    ]


def tuned_rates(file: Path = LEARNING_RATES) -> dict[str, dict[str, float]]:
    """By world and policy the learning rates that the search chose; empty where none was made."""
    if not file.exists():
        return {}
    return {world: dict(found["rates"]) for world, found in read_toml(file).items()}


def slug(label: str) -> str:
    """A label as a name of folders and sweeps: ``legend-downlink-tuned``."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-")


def merged(lower: Table, upper: Table) -> dict[str, Any]:
    """A table of settings in which those of ``upper`` override those of ``lower``, key by key."""
    result = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _base(spec: SweepSpec, setting: Setting, given: Table | None) -> dict[str, Any]:
    """The size is overridden by the world, that by the claim, and all by what was given."""
    layers = [read_toml(HERE / f"{setting.size}.toml"), spec.base, given or {}]
    if setting.world != IMAGES:
        layers.insert(1, read_toml(HERE / "worlds" / f"{setting.world}.toml"))
    base: dict[str, Any] = {}
    for layer in layers:
        base = merged(base, layer)
    return base


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file as a table."""
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _tuned(policy: str, world: str, rates: Mapping[str, float]) -> float:
    if policy not in rates:
        raise ConfigError(
            f"there is no tuned learning rate of {policy!r} in the world {world!r}; search for it with python -m "
            "benchmarks.claims.tuning, or give --rates common"
        )
    return rates[policy]
