"""What ``jetbed policies`` and ``jetbed devices`` print: what there is, with units and provenance."""

import inspect
import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column
from rich.text import Text

from device_profiles.catalog import (
    ProfileError,
    cluster_names,
    link_names,
    load_cluster,
    load_link,
    load_profile,
    load_swap,
    load_system,
    profile_names,
    swap_names,
    system_names,
)
from device_profiles.link_kinds.base import LinkSpec
from device_profiles.link_kinds.catalog import LINK_KINDS
from device_profiles.provenance import Provenance
from device_profiles.records import ClusterSpec, DeviceProfile
from device_profiles.swap_file import SwapSpec
from device_profiles.system_file import SystemSpec
from device_profiles.text_files import user_path
from emulator.config import SWEEP_KEYS, Config
from emulator.errors import ConfigError, did_you_mean
from emulator.policy.catalog import import_path, parameters, policy_class, policy_names
from emulator.report.terminal.console import FittedTable, terminal

MODE_FIGURES = {
    "fp32": ("fp32_tflop_per_s", "TFLOP/s"),
    "amp": ("amp_tflop_per_s", "TFLOP/s"),
    "memory": ("memory_gb_per_s", "GB/s"),
    "per step": ("step_overhead_ms", "ms"),
    "per op": ("dispatch_us", "µs"),
    "idle": ("idle_w", "W"),
    "train": ("compute_w", "W"),
    "transfer": ("transfer_w", "W"),
}


def list_policies(as_json: bool) -> None:
    """Print every policy that ships with jetbed, its parameters with their defaults, and what it may know."""
    listed = [_policy_facts(name) for name in policy_names()]
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    table = FittedTable("policy", "what it does", "parameters", "told of devices", box=box.SIMPLE_HEAD)
    for facts in listed:
        table.add_row(
            facts["name"],
            facts["summary"],
            "\n".join(f"{name} = {value!r}" for name, value in facts["parameters"].items()),
            ", ".join(facts["declares"]) or "telemetry only",
        )
    terminal().print(table)


def _policy_facts(name: str) -> dict[str, Any]:
    policy = policy_class(name)
    module_doc = inspect.getdoc(inspect.getmodule(policy)) or ""
    defaults = {key: parameter.default for key, parameter in parameters(policy).items()}
    return {
        "name": name,
        "class": import_path(policy),
        "summary": module_doc.partition("\n")[0].partition(": ")[2] or module_doc.partition("\n")[0],
        "parameters": {key: None if value is inspect.Parameter.empty else value for key, value in defaults.items()},
        "declares": sorted(policy.declares),
    }


def list_devices(name: str | None, as_json: bool) -> None:
    """Print the devices, clusters, links, systems and swaps, or one of them with every figure, its unit and provenance.

    Raises:
        ConfigError: there is nothing of that name.
    """
    if name is None:
        _list_all(as_json)
        return
    found = _find(name)
    if as_json:
        print(json.dumps(asdict(found), indent=2, default=dict))
    elif isinstance(found, DeviceProfile):
        _show_device(found)
    elif isinstance(found, ClusterSpec):
        _show_cluster(found)
    else:
        _show_figures(found.name, asdict(found), found.provenance)


_Described = DeviceProfile | ClusterSpec | LinkSpec | SystemSpec | SwapSpec


def _find(name: str) -> _Described:
    loaders: dict[str, Any] = {}
    loaders |= dict.fromkeys(profile_names(), load_profile)
    loaders |= dict.fromkeys(cluster_names(), load_cluster)
    loaders |= dict.fromkeys(link_names(), load_link)
    loaders |= dict.fromkeys(system_names(), load_system)
    loaders |= dict.fromkeys(swap_names(), load_swap)
    try:
        if name in loaders:
            found: _Described = loaders[name](name)
            return found
        if name.endswith(".toml"):
            return _loader_of(name)(name)
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    hint = did_you_mean(name, loaders) or ";"
    raise ConfigError(
        f"there is no device, cluster, link, system or swap {name!r}{hint} there are: {', '.join(loaders)}; "
        "or give the path of a TOML file"
    )


def _loader_of(path: str) -> Callable[[str], _Described]:
    """What a file of the user's describes: links, systems and swaps have a kind, devices a table, clusters neither."""
    try:
        keys = tomllib.loads(user_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return load_profile  # which says what is wrong with the file
    shown = "and devices are shown by cluster, device, link, system or swap"
    if keys.keys() & SWEEP_KEYS:
        raise ConfigError(
            f"{path}: this is a sweep file, {shown}; name the cluster of its runs, such as jetbed devices jetson80; it "
            f"is carried out by jetbed sweep {path}"
        )
    if keys.keys() & (Config.model_fields.keys() - {"server"}):  # clusters have a server, too
        testbed = keys.get("testbed")
        cluster = testbed.get("cluster", "jetson80") if isinstance(testbed, dict) else "jetson80"
        raise ConfigError(
            f"{path}: this is the configuration of a run, {shown}; its cluster is shown by jetbed devices {cluster}, "
            f"and it is carried out by jetbed run {path}"
        )
    if "kind" in keys:
        others: dict[str, Callable[[str], _Described]] = {"system": load_system, "swap": load_swap}
        kind, known = str(keys["kind"]), (*LINK_KINDS, *others)
        if kind not in known:
            raise ConfigError(
                f"{path}: kind must be one of {', '.join(known)}{did_you_mean(kind, known)}, got {keys['kind']!r}"
            )
        return others.get(kind, load_link)
    return load_profile if "device" in keys else load_cluster


def _list_all(as_json: bool) -> None:
    profiles = [load_profile(name) for name in profile_names()]
    clusters = [load_cluster(name) for name in cluster_names()]
    if as_json:
        names = {
            "devices": profile_names(),
            "clusters": cluster_names(),
            "links": link_names(),
            "systems": system_names(),
            "swaps": swap_names(),
        }
        print(json.dumps(names, indent=2))
        return
    console = terminal()
    table = FittedTable(
        Column("device", no_wrap=True),
        "memory\nGiB",
        "usable\nGiB",
        "power modes",
        "fp32\nTFLOP/s",
        "compute\nW",
        box=box.SIMPLE_HEAD,
    )
    for profile in profiles:
        rates = [mode.effective_flop_per_s["fp32"] / 1e12 for mode in profile.power_modes]
        watts = [each for mode in profile.power_modes for each in mode.compute_range_w]
        table.add_row(
            profile.name,
            f"{profile.memory_bytes / 2**30:g}",
            f"{profile.usable_memory_bytes / 2**30:.1f}",
            str(len(profile.power_modes)),
            f"{min(rates):.3g} – {max(rates):.3g}",
            f"{min(watts):.3g} – {max(watts):.3g}",
        )
    console.print(table)
    table = FittedTable("cluster", "devices", box=box.SIMPLE_HEAD)
    for cluster in clusters:
        table.add_row(cluster.name, ", ".join(f"{entry.count} {entry.device}" for entry in cluster.entries))
    console.print(table)
    console.print(f"links: {', '.join(link_names())}")
    if system_names():
        console.print(f"systems: {', '.join(system_names())}")
    console.print(f"swaps: {', '.join(swap_names())}")
    console.print("jetbed devices NAME shows every figure with its unit and where it comes from.")


def _show_device(profile: DeviceProfile) -> None:
    console = terminal()
    console.print(Text.assemble((profile.name, "bold"), "  ", profile.title))
    console.print(
        f"memory {profile.memory_bytes / 2**30:g} GiB, usable for training {profile.usable_memory_bytes / 2**30:g} "
        f"GiB; default mode {profile.default_mode}"
    )
    if known := profile.known_range:
        console.print(
            f"known for {known.min_step_tokens} to {known.max_step_tokens} tokens a step, models of "
            f"{known.min_model_parameters / 1e6:.0f} to {known.max_model_parameters / 1e6:.0f} M parameters, "
            f"{' and '.join(known.precisions)}; {', '.join(known.kinds)}"
        )
    columns = (Column(f"{title}\n{unit}", no_wrap=True) for title, (_, unit) in MODE_FIGURES.items())
    table = FittedTable(Column("mode", no_wrap=True), *columns, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for mode in profile.power_modes:
        table.add_row(
            f"{mode.mode_id} {mode.name}",
            f"{mode.effective_flop_per_s['fp32'] / 1e12:.3g}",
            f"{mode.effective_flop_per_s['amp'] / 1e12:.3g}",
            f"{mode.memory_bytes_per_s / 1e9:.3g}",
            f"{mode.step_overhead_s * 1e3:.3g}",
            f"{mode.dispatch_s * 1e6:.3g}",
            f"{mode.idle_w:.3g}",
            f"{mode.compute_w:.3g}",
            f"{mode.transfer_w:.3g}",
        )
    console.print(table)
    _show_power_laws(console, profile)
    _show_provenance(console, profile.provenance)


def _show_power_laws(console: Console, profile: DeviceProfile) -> None:
    """What each mode draws by how busy a step keeps it, where the profile says so."""
    laws = {mode.name: mode.power_law for mode in profile.power_modes if mode.power_law}
    if not laws:
        return
    headers = ("awake", "fp32 arithmetic", "amp arithmetic", "memory")
    table = FittedTable("power law, W", *(Column(name, justify="right") for name in headers), box=box.SIMPLE_HEAD)
    for name, law in laws.items():
        parts = (law.awake_w, law.arithmetic_w["fp32"], law.arithmetic_w["amp"], law.memory_w)
        table.add_row(name, *(f"{watts:.3g}" for watts in parts))
    console.print(table)
    console.print("a step draws the first, and of the others as much as it keeps them busy")


def _show_cluster(cluster: ClusterSpec) -> None:
    console = terminal()
    console.print(Text.assemble((cluster.name, "bold"), "  ", cluster.title))
    table = FittedTable("devices", "device", "power modes", "link", box=box.SIMPLE_HEAD)
    for entry in cluster.entries:
        table.add_row(str(entry.count), entry.device, ", ".join(mode.name for mode in entry.modes), entry.link.name)
    console.print(table)
    console.print(
        f"power modes redrawn every {cluster.power_mode_redraw_rounds} rounds; compute time varies by "
        f"{cluster.compute_jitter_fraction:.0%} from round to round"
    )
    if points := cluster.access_points:
        console.print(
            f"{points.count} access points of {points.bytes_per_s * 8e-6:g} Mb/s each, down and up together; "
            f"{points.consecutive_devices} devices in a row belong to the same"
        )
    if server := cluster.server:
        console.print(
            f"the server sends {server.egress_bytes_per_s * 8e-6:g} Mb/s and receives "
            f"{server.ingress_bytes_per_s * 8e-6:g} Mb/s at most"
        )
    _show_provenance(console, cluster.provenance)


def _show_figures(name: str, figures: dict[str, Any], provenance: Any) -> None:
    console = terminal()
    console.print(Text(name, style="bold"))
    for key, value in figures.items():
        if key in ("provenance", "sha256", "name"):
            continue
        for part, figure in value.items() if isinstance(value, dict) else ((key, value),):
            console.print(f"{part} = {figure!r}")
    _show_provenance(console, provenance)


def _show_provenance(console: Console, provenance: Any) -> None:
    table = FittedTable("figure", "kind", "uncertainty", "source and derivation", box=box.SIMPLE_HEAD)
    origin: Provenance
    for key, origin in provenance.items():
        dated = f"{origin.source} ({origin.date})" if origin.date else origin.source
        table.add_row(key, origin.kind, origin.uncertainty or "–", f"{dated}. {origin.note}".strip())
    console.print(table)
