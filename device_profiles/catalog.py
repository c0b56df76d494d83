"""Finds and reads device profiles, clusters and links: the built-in ones by name, a user's own by path."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from device_profiles.link_kinds.base import BYTES_PER_S_PER_MBIT_PER_S, LinkSpec
from device_profiles.link_kinds.catalog import read_link
from device_profiles.provenance import Provenance
from device_profiles.records import (
    ALLOCATOR_NAMES,
    PRECISIONS,
    STEP_LAWS,
    WORK_KINDS,
    AccessPoints,
    AllocatorName,
    ClusterEntry,
    ClusterSpec,
    DeviceProfile,
    KnownRange,
    PowerLaw,
    PowerMode,
    ServerCapacity,
    StepLaw,
    Thermal,
)
from device_profiles.swap_file import SwapSpec, read_swap
from device_profiles.system_file import SystemSpec, read_system
from device_profiles.tables import (
    ProfileError,
    Table,
    did_you_mean,
    provenance_table,
    read_provenance,
    read_toml,
    require_provenance,
)
from device_profiles.text_files import user_path

__all__ = [
    "ProfileError",
    "cluster_names",
    "link_names",
    "load_cluster",
    "load_link",
    "load_profile",
    "load_swap",
    "load_system",
    "profile_names",
    "stretched",
    "swap_names",
    "system_names",
]

_PROFILES = Path(__file__).parent
_CLUSTERS = _PROFILES / "clusters"
_LINKS = _PROFILES / "links"
_SYSTEMS = _PROFILES / "systems"
_SWAPS = _PROFILES / "swaps"

GIB = 2**30
MIB = 2**20

_DEVICE_FIGURES = ("memory_gib", "usable_memory_gib")
_RUNTIME_MEMORY, _ALLOCATOR = "runtime_memory_mib", "allocator"
_DESKTOP_MEMORY = "desktop_memory_mib"
_OPTIONAL_DEVICE_FIGURES = (_RUNTIME_MEMORY, _DESKTOP_MEMORY)
_KNOWN_RANGE = "known_range"
_MODE_RATES = tuple(f"{precision}_tflop_per_s" for precision in PRECISIONS)
_MODE_FIGURES = (*_MODE_RATES, "memory_gb_per_s", "step_overhead_ms", "idle_w", "compute_w", "transfer_w")
_ARITHMETIC_W = tuple(f"{precision}_arithmetic_w" for precision in PRECISIONS)
_POWER_LAW = ("awake_w", *_ARITHMETIC_W, "memory_w")
_OPTIONAL_MODE_FIGURES = ("dispatch_us", *_POWER_LAW)
_MODE_SETTINGS = ("step_law",)
_MODE_FACTS = (
    "cpu_threads",
    "budget_w",
    "cpu",
    "cpu_mhz",
    "cuda_cores",
    "gpu_mhz",
    "memory_clock_mhz",
    "peak_memory_gb_per_s",
)
_CLUSTER_FIGURES = (
    "power_mode_redraw_rounds",
    "compute_jitter_fraction",
    "speed_spread",
    "mode_switch_penalty_s",
    "thermal",
    "access_points",
    "server",
    "entries",
)
_CLUSTER_KEYS = ("title", "link", *_CLUSTER_FIGURES)


def profile_names() -> tuple[str, ...]:
    """The built-in device profiles, in alphabetical order."""
    return _names(_PROFILES)


def cluster_names() -> tuple[str, ...]:
    """The built-in clusters, in alphabetical order."""
    return _names(_CLUSTERS)


def link_names() -> tuple[str, ...]:
    """The built-in links, in alphabetical order."""
    return _names(_LINKS)


def swap_names() -> tuple[str, ...]:
    """The built-in swaps, in alphabetical order."""
    return _names(_SWAPS)


def system_names() -> tuple[str, ...]:
    """The built-in systems, in alphabetical order."""
    return _names(_SYSTEMS)


def load_profile(name_or_path: str | Path, relative_to: Path | None = None) -> DeviceProfile:
    """Read a device profile; a path is relative to the folder ``relative_to``, or else to the working directory.

    Raises:
        ProfileError: there is no such profile, or a key, type, figure or provenance in it is wrong.
    """
    path = _find("device profile", name_or_path, _PROFILES, relative_to)
    root, sha256 = read_toml(path)
    if "device" not in root and (is_what := _other_kind(root)):
        raise ProfileError(
            f"{path} is no device profile, but {is_what}; give a device that 'jetbed devices' lists, or the file of one"
        )
    device = root.table("device")
    mode_tables = root.tables("power_mode")
    modes = tuple(_power_mode(table) for table in mode_tables)
    names = [mode.name for mode in modes]
    for key, values in (("name", names), ("mode_id", [mode.mode_id for mode in modes])):
        for index, value in enumerate(values):
            if value in values[:index]:
                raise mode_tables[index].error(key, f"is already the {key} of another mode, got {value!r}")
    mode_keys = (*_MODE_FIGURES, *_OPTIONAL_MODE_FIGURES, *_MODE_FACTS)
    device_keys = (*_DEVICE_FIGURES, *_OPTIONAL_DEVICE_FIGURES)
    provenance = read_provenance(provenance_table(root), (*device_keys, *mode_keys, _KNOWN_RANGE), groups=names)
    require_provenance(device, [key for key in device_keys if key in device or key in _DEVICE_FIGURES], provenance)
    for table, name in zip(mode_tables, names, strict=True):
        figures = [key for key in mode_keys if key in table and f"{name}.{key}" not in provenance]
        require_provenance(table, figures, provenance)
    memory_gib = device.number("memory_gib", positive=True, most=1e6)
    profile = DeviceProfile(
        name=path.stem,
        title=device.text("title"),
        memory_bytes=round(memory_gib * GIB),
        usable_memory_bytes=round(device.number("usable_memory_gib", positive=True, most=memory_gib) * GIB),
        power_modes=modes,
        default_mode=device.text("default_mode", allowed=names),
        known_range=_known_range(root, provenance) if _KNOWN_RANGE in root else None,
        runtime_memory_bytes=_memory_bytes(device, _RUNTIME_MEMORY, memory_gib),
        desktop_memory_bytes=_memory_bytes(device, _DESKTOP_MEMORY, memory_gib),
        allocator=_allocator(device),
        provenance=provenance,
        sha256=sha256,
    )
    device.close()
    root.allow(_KNOWN_RANGE)
    root.close()
    return profile


def _memory_bytes(device: Table, key: str, memory_gib: float) -> int | None:
    """Of a figure in MiB that a file may leave out."""
    if key not in device:
        device.allow(key)
        return None
    return round(device.number(key, positive=True, most=memory_gib * GIB / MIB) * MIB)


def _allocator(device: Table) -> AllocatorName:
    return cast(AllocatorName, device.text(_ALLOCATOR, allowed=ALLOCATOR_NAMES, default="pytorch_cuda"))


def _other_kind(root: Table) -> str:
    """What a file describes that describes no device; empty where that cannot be told."""
    if "kind" in root:
        kind = root.text("kind")
        return f"a {kind}" if kind in ("system", "swap") else f"a link of kind {kind!r}"
    return "a cluster" if "entries" in root or "inherits" in root else ""


def load_link(name_or_path: str | Path, relative_to: Path | None = None) -> LinkSpec:
    """Read a link; paths and errors as for :func:`load_profile`."""
    path = _find("link", name_or_path, _LINKS, relative_to)
    root, sha256 = read_toml(path)
    return read_link(root, path, sha256)


def load_swap(name_or_path: str | Path) -> SwapSpec:
    """Read a swap; paths and errors as for :func:`load_profile`."""
    path = _find("swap", name_or_path, _SWAPS, None)
    root, sha256 = read_toml(path)
    return read_swap(root, path, sha256)


def load_system(name_or_path: str | Path) -> SystemSpec:
    """Read a system; paths and errors as for :func:`load_profile`."""
    path = _find("system", name_or_path, _SYSTEMS, None)
    root, sha256 = read_toml(path)
    return read_system(root, path, sha256)


def load_cluster(name_or_path: str | Path) -> ClusterSpec:
    """Read a cluster with the profiles and links that it names; errors as for :func:`load_profile`.

    Names and paths in a cluster's file are those of built-in files or of files relative to its own folder.
    """
    path = _find("cluster", name_or_path, _CLUSTERS, None)
    chain = _inheritance(path)
    values: dict[str, tuple[Table, Path]] = {}
    provenance: dict[str, Provenance] = {}
    for file, table, _ in reversed(chain):  # from the ancestor to the file itself, each overriding keys of the last
        table.allow("inherits", "provenance", *_CLUSTER_KEYS)
        table.close()
        for key in _CLUSTER_KEYS:
            if key in table:
                values[key] = (table, file.parent)
                provenance.pop(key, None)  # an overridden figure needs a provenance of its own
        provenance |= read_provenance(provenance_table(table), _CLUSTER_KEYS)
        require_provenance(table, [key for key in _CLUSTER_FIGURES if key in table], provenance)

    def table_with(key: str) -> Table:
        return values[key][0] if key in values else chain[0][1]

    default_link = None
    if "link" in values:
        table, folder = values["link"]
        default_link = load_link(table.text("link"), folder)
    entry_tables = table_with("entries").tables("entries")
    folder = values["entries"][1]
    entries = tuple(_entry(table, folder, default_link) for table in entry_tables)
    spread = None
    if "speed_spread" in values:
        table = table_with("speed_spread")
        spread = table.number("speed_spread", positive=True)
        entries = _stretched_entries(entries, spread, table)
    penalty_s = 0.0
    if "mode_switch_penalty_s" in values:
        penalty_s = table_with("mode_switch_penalty_s").number("mode_switch_penalty_s")
    return ClusterSpec(
        name=path.stem,
        title=table_with("title").text("title", default=path.stem),
        entries=entries,
        power_mode_redraw_rounds=table_with("power_mode_redraw_rounds").integer("power_mode_redraw_rounds"),
        compute_jitter_fraction=table_with("compute_jitter_fraction").number("compute_jitter_fraction", most=1),
        speed_spread=spread,
        access_points=_access_points(values["access_points"][0]) if "access_points" in values else None,
        server=_server_capacity(values["server"][0]) if "server" in values else None,
        mode_switch_penalty_s=penalty_s,
        thermal=_thermal(table_with("thermal").table("thermal")) if "thermal" in values else None,
        provenance=provenance,
        sha256=chain[0][2] if len(chain) == 1 else hashlib.sha256("".join(c[2] for c in chain).encode()).hexdigest(),
    )


def stretched(modes: Sequence[PowerMode], spread: float) -> tuple[PowerMode, ...]:
    """The modes with their rates of computation spread so that the fastest is ``spread`` times the slowest.

    The stretch is linear in the logarithm, separately for each precision, about the midpoint between fastest and
    slowest: with ``g = sqrt(fastest · slowest)``, a rate ``x`` becomes ``g (x/g)^e`` where the exponent ``e`` is
    ``ln spread / ln (fastest / slowest)``. It keeps the order of speeds, and modes in the middle stay where they are.

    Raises:
        ValueError: all rates of a precision are alike.
    """
    centres: dict[str, float] = {}
    exponents: dict[str, float] = {}
    for precision in PRECISIONS:
        rates = [mode.effective_flop_per_s[precision] for mode in modes]
        if min(rates) == max(rates):
            raise ValueError(f"rates that are all {rates[0]!r} flop/s in {precision} cannot be spread")
        centres[precision] = math.sqrt(min(rates) * max(rates))
        exponents[precision] = math.log(spread) / math.log(max(rates) / min(rates))
    return tuple(
        mode.scaled({p: (rate / centres[p]) ** (exponents[p] - 1) for p, rate in mode.effective_flop_per_s.items()})
        for mode in modes
    )


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def _built_in(names: tuple[str, ...]) -> str:
    return f"built-in are {', '.join(names)}" if names else "none is built in"


def _find(what: str, name_or_path: str | Path, folder: Path, relative_to: Path | None) -> Path:
    """The file of a built-in name, or the path itself, which is told by its ``.toml`` or a separator."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".toml") or "/" in text:
        path = user_path(text, relative_to)
        try:
            is_there = path.exists()
        except (OSError, ValueError):  # too long a name, or one with a null byte
            is_there = False
        if not is_there:
            raise ProfileError(f"there is no {what} at {str(path)!r}; {_built_in(_names(folder))}")
        return path
    names = _names(folder)
    if text not in names:
        raise ProfileError(
            f"{text!r} is not a {what}{did_you_mean(text, names)}; {_built_in(names)}; or give the path of a TOML file"
        )
    return folder / f"{text}.toml"


def _inheritance(path: Path) -> list[tuple[Path, Table, str]]:
    """The cluster's file, then the one that it inherits from, and so on: path, table and digest of each."""
    chain: list[tuple[Path, Table, str]] = []
    while True:
        table, sha256 = read_toml(path)
        chain.append((path, table, sha256))
        if "inherits" not in table:
            return chain
        parent = _find("cluster", table.text("inherits"), _CLUSTERS, path.parent)
        if parent.resolve() in [file.resolve() for file, _, _ in chain]:
            raise table.error("inherits", f"leads back to this file, got {table.text('inherits')!r}")
        path = parent


def _power_mode(table: Table) -> PowerMode:
    peak_gb_per_s = table.optional_number("peak_memory_gb_per_s")
    mode = PowerMode(
        name=table.text("name"),
        mode_id=table.integer("mode_id"),
        effective_flop_per_s={
            precision: 1e12 * table.number(key, positive=True)
            for precision, key in zip(PRECISIONS, _MODE_RATES, strict=True)
        },
        memory_bytes_per_s=1e9 * table.number("memory_gb_per_s", positive=True),
        step_overhead_s=1e-3 * table.number("step_overhead_ms"),
        dispatch_s=1e-6 * (table.optional_number("dispatch_us") or 0.0),
        step_law=cast(StepLaw, table.text("step_law", STEP_LAWS, default="roofline")),
        n_cpu_threads=table.integer("cpu_threads", least=1) if "cpu_threads" in table else 0,
        idle_w=table.number("idle_w"),
        compute_w=table.number("compute_w"),
        transfer_w=table.number("transfer_w"),
        power_law=_power_law(table),
        budget_w=table.optional_number("budget_w"),
        cpu=table.text("cpu", default=""),
        cpu_hz=_hz(table.optional_number("cpu_mhz")),
        n_cuda_cores=table.integer("cuda_cores") if "cuda_cores" in table else 0,
        gpu_hz=_hz(table.optional_number("gpu_mhz")),
        memory_clock_hz=_hz(table.optional_number("memory_clock_mhz")),
        peak_memory_bytes_per_s=None if peak_gb_per_s is None else 1e9 * peak_gb_per_s,
    )
    table.allow(*_OPTIONAL_MODE_FIGURES, *_MODE_SETTINGS, *_MODE_FACTS)
    table.close()
    return mode


def _power_law(table: Table) -> PowerLaw | None:
    if not any(key in table for key in _POWER_LAW):
        return None
    awake_w, idle_w = table.number("awake_w"), table.number("idle_w")
    if awake_w < idle_w:
        raise table.error(
            "awake_w",
            f"must be at least idle_w, {idle_w:g}, which the board draws at rest, got {awake_w:g}",
        )
    return PowerLaw(
        awake_w=awake_w,
        arithmetic_w={precision: table.number(key) for precision, key in zip(PRECISIONS, _ARITHMETIC_W, strict=True)},
        memory_w=table.number("memory_w"),
    )


def _known_range(root: Table, provenance: Mapping[str, Provenance]) -> KnownRange:
    require_provenance(root, [_KNOWN_RANGE], provenance)
    table = root.table(_KNOWN_RANGE)
    min_tokens, max_tokens = table.bounds("step_tokens")
    min_millions, max_millions = table.bounds("million_parameters")
    known = KnownRange(
        min_step_tokens=math.ceil(min_tokens),
        max_step_tokens=math.floor(max_tokens),
        min_model_parameters=round(1e6 * min_millions),
        max_model_parameters=round(1e6 * max_millions),
        precisions=_words(table, "precisions", PRECISIONS),
        kinds=_words(table, "kinds", WORK_KINDS),
    )
    table.close()
    return known


def _words(table: Table, key: str, allowed: Sequence[str]) -> tuple[str, ...]:
    words = table.texts(key)
    for word in words:
        if word not in allowed:
            raise table.error(key, f"may name {', '.join(allowed)}{did_you_mean(word, allowed)}, got {word!r}")
    return words


def _hz(mhz: float | None) -> float | None:
    return None if mhz is None else 1e6 * mhz


def _access_points(root: Table) -> AccessPoints:
    table = root.table("access_points")
    points = AccessPoints(
        count=table.integer("count", least=1),
        consecutive_devices=table.integer("consecutive_devices", least=1),
        bytes_per_s=BYTES_PER_S_PER_MBIT_PER_S * table.number("mbit_per_s", positive=True),
    )
    table.close()
    return points


def _server_capacity(root: Table) -> ServerCapacity:
    table = root.table("server")
    server = ServerCapacity(
        egress_bytes_per_s=BYTES_PER_S_PER_MBIT_PER_S * table.number("egress_mbit_per_s", positive=True),
        ingress_bytes_per_s=BYTES_PER_S_PER_MBIT_PER_S * table.number("ingress_mbit_per_s", positive=True),
    )
    table.close()
    return server


def _thermal(table: Table) -> Thermal:
    thermal = Thermal(
        rise_k_per_w=table.number("rise_k_per_w", positive=True),
        time_constant_s=table.number("time_constant_s", positive=True),
        limit_k=table.number("limit_k", positive=True),
        throttled_speed_fraction=table.number("throttled_speed_fraction", positive=True, most=1),
    )
    table.close()
    return thermal


def _entry(table: Table, folder: Path, default_link: LinkSpec | None) -> ClusterEntry:
    device = table.text("device")
    profile = load_profile(device, folder)
    if "modes" in table:
        names = table.texts("modes")
        for name in names:
            if name not in profile.mode_names:
                hint = did_you_mean(name, profile.mode_names)
                allowed = ", ".join(profile.mode_names)
                raise table.error(
                    "modes", f"must be power modes of {profile.name}{hint}; it has {allowed}, got {name!r}"
                )
        modes = tuple(profile.mode(name) for name in names)
    else:
        modes = profile.power_modes
    table.allow("modes")
    link = load_link(table.text("link"), folder) if "link" in table or default_link is None else default_link
    entry = ClusterEntry(device=device, count=table.integer("count", least=1), profile=profile, modes=modes, link=link)
    table.allow("link")
    table.close()
    return entry


def _stretched_entries(entries: tuple[ClusterEntry, ...], spread: float, table: Table) -> tuple[ClusterEntry, ...]:
    modes = [mode for entry in entries for mode in entry.modes]
    try:
        new_modes: Mapping[int, PowerMode] = dict(enumerate(stretched(modes, spread)))
    except ValueError as error:
        raise table.error("speed_spread", f"cannot be applied: {error}, got {spread!r}") from None
    result = []
    start = 0
    for entry in entries:
        stop = start + len(entry.modes)
        result.append(
            ClusterEntry(
                device=entry.device,
                count=entry.count,
                profile=entry.profile,
                modes=tuple(new_modes[index] for index in range(start, stop)),
                link=entry.link,
            )
        )
        start = stop
    return tuple(result)
