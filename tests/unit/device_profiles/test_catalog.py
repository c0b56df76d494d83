"""Profiles, clusters and links are found by name or path, and a mistake in a file is reported with file and key."""

import hashlib
import math
import re
from pathlib import Path

import pytest

from device_profiles.catalog import (
    ProfileError,
    cluster_names,
    link_names,
    load_cluster,
    load_link,
    load_profile,
    profile_names,
    stretched,
)
from device_profiles.link_kinds.constant import ConstantLink
from device_profiles.link_kinds.wifi_rings import WifiRings
from device_profiles.records import KnownRange, PowerMode, Thermal

README = Path(__file__).parents[3] / "device_profiles" / "README.md"

BOARD = """
[device]
title = "A board"
memory_gib = 8
usable_memory_gib = 6
default_mode = "FAST"

[[power_mode]]
name = "FAST"
mode_id = 0
fp32_tflop_per_s = 0.5
amp_tflop_per_s = 1.5
memory_gb_per_s = 40
step_overhead_ms = 10
idle_w = 4
compute_w = 12
transfer_w = 5

[provenance.all]
covers = ["memory_gib", "usable_memory_gib", "fp32_tflop_per_s", "amp_tflop_per_s", "memory_gb_per_s",
          "step_overhead_ms", "idle_w", "compute_w", "transfer_w"]
kind = "assumed"
source = "a test"
"""

CLUSTER = """
link = "constant-8mbit"
power_mode_redraw_rounds = 20
compute_jitter_fraction = 0.1

[[entries]]
device = "board.toml"
count = 3

[provenance.all]
covers = ["entries", "power_mode_redraw_rounds", "compute_jitter_fraction"]
kind = "assumed"
source = "a test"
"""


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "board.toml"
    path.write_text(BOARD)
    return path


def write_cluster(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_board_of_the_users_own_is_read_into_si_units(board: Path) -> None:
    profile = load_profile(board)
    mode = profile.mode("FAST")
    assert (profile.name, profile.memory_bytes, profile.usable_memory_bytes) == ("board", 8 * 2**30, 6 * 2**30)
    assert mode.effective_flop_per_s == {"fp32": 0.5e12, "amp": 1.5e12}
    assert (mode.memory_bytes_per_s, mode.step_overhead_s, mode.budget_w) == (40e9, 0.01, None)
    assert profile.provenance_of("compute_w", "FAST").kind == "assumed"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("idle_w = 4", "idle_w = -4", r"board.toml: power_mode\[0\].idle_w must be a number of at least 0, got -4"),
        ("idle_w = 4", 'idle_w = "4"', r"board.toml: power_mode\[0\].idle_w must be a number, got '4'"),
        ("idle_w = 4", "idle_w = true", r"idle_w must be a number, got True"),
        ("idle_w = 4", "idle_w = inf", r"idle_w must be a number of at least 0 and at most 1e\+30, got inf"),
        ("idle_w = 4", "", r"board.toml: power_mode\[0\].idle_w is missing"),
        ("idle_w = 4", "idle_w = 4\nidle_wat = 4", r"power_mode\[0\].idle_wat is not a key here; did you mean idle_w"),
        ("fp32_tflop_per_s = 0.5", "fp32_tflop_per_s = 0", r"fp32_tflop_per_s must be a number above 0, got 0"),
        (
            "mode_id = 0",
            "mode_id = 0.5",
            r"mode_id must be a whole number of at least 0 and at most 2147483647, got 0.5",
        ),
        (
            "memory_gib = 8",
            "memory_gib = 1e308",
            r"device.memory_gib must be a number above 0 and at most 1000000.0, got 1e\+308",
        ),
        ("mode_id = 0", f"mode_id = {'9' * 5000}", "board.toml: a number has too many digits to be read"),
        ("mode_id = 0", f"mode_id = 0x{'f' * 5000}", "board.toml: a number has too many digits to be read"),
        ('default_mode = "FAST"', 'default_mode = "FASTER"', r"device.default_mode must be one of FAST; did you mean"),
        ("usable_memory_gib = 6", "usable_memory_gib = 9", r"usable_memory_gib must be .* at most 8.0, got 9"),
        ('"idle_w", ', "", r"power_mode\[0\].idle_w has no provenance; add a table \[provenance.idle_w\]"),
        ('"memory_gib", ', "", r"board.toml: device.memory_gib has no provenance"),
        ('"idle_w", ', '"idle_w", "idle_v", ', r"provenance.all is about no figure of this file; did you mean idle_w"),
        ('kind = "assumed"', 'kind = "guessed"', r"provenance.all.kind must be one of measured, published, derived"),
        ('source = "a test"', "", r"board.toml: provenance.all.source is missing"),
        ("[device]", "[devise]", r"board.toml: device is missing"),
        ("[device]", "[device", r"board.toml: is not valid TOML"),
    ],
)
def test_a_mistake_in_a_profile_names_the_file_and_the_key(board: Path, old: str, new: str, message: str) -> None:
    assert old in BOARD
    board.write_text(BOARD.replace(old, new, 1))
    with pytest.raises(ProfileError, match=message):
        load_profile(board)


KNOWN = """
[known_range]
step_tokens = [256, 1024]
million_parameters = [60, 360]
precisions = ["fp32"]
kinds = ["adapters", "inference"]

[provenance.known_range]
kind = "assumed"
source = "a test"
"""


def test_a_profile_may_state_the_range_in_which_it_is_known_and_its_time_to_dispatch(board: Path) -> None:
    assert load_profile(board).known_range is None
    assert load_profile(board).mode("FAST").dispatch_s == 0
    text = BOARD.replace("idle_w = 4", "dispatch_us = 100\nidle_w = 4").replace(
        '"idle_w", ', '"idle_w", "dispatch_us", '
    )
    board.write_text(text + KNOWN)
    profile = load_profile(board)
    assert profile.mode("FAST").dispatch_s == pytest.approx(1e-4)
    assert profile.known_range == KnownRange(
        min_step_tokens=256,
        max_step_tokens=1024,
        min_model_parameters=60_000_000,
        max_model_parameters=360_000_000,
        precisions=("fp32",),
        kinds=("adapters", "inference"),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[256, 1024]", "[1024, 256]", r"board.toml: known_range.step_tokens must be a list of two numbers"),
        ("[256, 1024]", "1024", r"known_range.step_tokens must be a list of two numbers, .* got 1024"),
        ('["fp32"]', '["fp16"]', r"known_range.precisions may name fp32, amp, got 'fp16'"),
        ('"inference"', '"guessing"', r"known_range.kinds may name adapters, weights, inference, got 'guessing'"),
        ("million_parameters", "parameters", r"known_range.million_parameters is missing"),
        ("[provenance.known_range]", "[provenance.dispatch_us]", r"board.toml: known_range has no provenance"),
    ],
)
def test_a_mistake_in_a_known_range_names_the_file_and_the_key(board: Path, old: str, new: str, message: str) -> None:
    assert old in KNOWN
    board.write_text(BOARD + KNOWN.replace(old, new, 1))
    with pytest.raises(ProfileError, match=message):
        load_profile(board)


def test_two_modes_of_one_name_are_refused(board: Path) -> None:
    mode = BOARD[BOARD.index("[[power_mode]]") : BOARD.index("[provenance.all]")]
    board.write_text(BOARD + mode.replace("mode_id = 0", "mode_id = 1"))
    with pytest.raises(ProfileError, match=r"power_mode\[1\].name is already the name of another mode, got 'FAST'"):
        load_profile(board)


def test_a_mode_may_have_provenance_of_its_own(board: Path) -> None:
    board.write_text(BOARD + '\n[provenance.FAST.compute_w]\nkind = "measured"\nsource = "a meter"\n')
    profile = load_profile(board)
    assert profile.provenance_of("compute_w", "FAST").kind == "measured"
    assert profile.provenance_of("compute_w").kind == "assumed"


@pytest.mark.parametrize(
    ("load", "given", "message"),
    [
        (load_profile, "jetson_tx", r"'jetson_tx' is not a device profile; did you mean jetson_tx2\?; built-in are "),
        (
            load_cluster,
            "jetson8",
            r"'jetson8' is not a cluster; did you mean jetson80\?; built-in are jetbed8, jetson80",
        ),
        (load_link, "wifi_rings", r"'wifi_rings' is not a link; did you mean wifi-rings\?"),
        (load_profile, "nowhere/board.toml", r"there is no device profile at 'nowhere/board.toml'; built-in are "),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(load, given: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load(given)


def test_the_digest_of_a_profile_is_that_of_its_file(board: Path) -> None:
    assert load_profile(board).sha256 == hashlib.sha256(board.read_bytes()).hexdigest()


def test_a_cluster_finds_boards_beside_its_own_file(board: Path, tmp_path: Path) -> None:
    cluster = load_cluster(write_cluster(tmp_path, CLUSTER))
    assert cluster.n_devices == 3
    assert cluster.entries[0].profile == load_profile(board)
    assert cluster.entries[0].modes == cluster.entries[0].profile.power_modes
    assert isinstance(cluster.entries[0].link, ConstantLink)


def test_a_cluster_inherits_all_that_it_does_not_give(tmp_path: Path) -> None:
    text = 'inherits = "jetson80"\npower_mode_redraw_rounds = 5\n'
    text += '[provenance.power_mode_redraw_rounds]\nkind = "assumed"\nsource = "a test"\n'
    cluster, parent = load_cluster(write_cluster(tmp_path, text)), load_cluster("jetson80")
    assert cluster.power_mode_redraw_rounds == 5
    assert cluster.entries == parent.entries
    assert cluster.provenance["entries"] == parent.provenance["entries"]
    assert cluster.provenance["power_mode_redraw_rounds"].source == "a test"
    assert cluster.sha256 != parent.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'inherits = "jetson80"\npower_mode_redraw_rounds = 5',
            r"mine.toml: power_mode_redraw_rounds has no provenance",
        ),
        ('inherits = "mine.toml"', r"mine.toml: inherits leads back to this file, got 'mine.toml'"),
        (
            CLUSTER.replace("count = 3", "count = 0"),
            r"entries\[0\].count must be a whole number of at least 1 and at most 2147483647, got 0",
        ),
        (
            CLUSTER.replace("count = 3", 'count = 3\nmodes = ["fast"]'),
            r"must be power modes of board.* it has FAST, got 'f",
        ),
        (CLUSTER.replace('"constant-8mbit"', '"ethernet"'), r"'ethernet' is not a link"),
        (CLUSTER.replace("link =", "lnk ="), r"mine.toml: lnk is not a key here; did you mean link"),
        (CLUSTER.replace('link = "constant-8mbit"\n', ""), r"mine.toml: entries\[0\].link is missing"),
        (CLUSTER.replace("compute_jitter_fraction = 0.1\n", ""), r"mine.toml: compute_jitter_fraction is missing"),
        (
            "speed_spread = 100\n" + CLUSTER + '\n[provenance.speed_spread]\nkind = "assumed"\nsource = "a test"\n',
            r"mine.toml: speed_spread cannot be applied: rates that are all .* cannot be spread, got 100",
        ),
    ],
)
@pytest.mark.usefixtures("board")
def test_a_mistake_in_a_cluster_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load_cluster(write_cluster(tmp_path, text))


def test_a_ring_whose_range_is_upside_down_is_refused(tmp_path: Path) -> None:
    text = (README.parent / "links" / "wifi-rings.toml").read_text()
    path = tmp_path / "rings.toml"
    path.write_text(text.replace("min_mbit_per_s = 20", "min_mbit_per_s = 40"))
    with pytest.raises(ProfileError, match=r"rings.toml: ring\[0\].max_mbit_per_s must not be below .*, got 30"):
        load_link(path)


def test_stretching_keeps_the_order_and_the_middle_and_makes_the_ends_differ_as_asked() -> None:
    def mode(flop_per_s: float) -> PowerMode:
        rates = {"fp32": flop_per_s, "amp": 2 * flop_per_s}
        return PowerMode(name="", mode_id=0, effective_flop_per_s=rates, memory_bytes_per_s=10.0, step_overhead_s=1.0,
                         idle_w=1, compute_w=2, transfer_w=1)  # fmt: skip

    slow, middle, fast = stretched([mode(1.0), mode(2.0), mode(4.0)], spread=100)
    # ends are 4 apart and meet in 2 = sqrt(1 · 4); they move to 2 / 10 and 2 · 10
    assert [m.effective_flop_per_s["fp32"] for m in (slow, middle, fast)] == pytest.approx([0.2, 2.0, 20.0])
    assert [m.effective_flop_per_s["amp"] for m in (slow, middle, fast)] == pytest.approx([0.4, 4.0, 40.0])
    # memory and overhead follow: 5 times faster at the upper end
    assert (fast.memory_bytes_per_s, fast.step_overhead_s) == pytest.approx((50.0, 0.2))
    assert (fast.compute_w, fast.idle_w) == (2, 1)


def test_the_papers_spread_is_100_and_in_amp_it_is_that_of_the_modes_that_they_name() -> None:
    cluster = load_cluster("jetson80-paper100")
    for precision in ("fp32", "amp"):
        rates = [mode.effective_flop_per_s[precision] for entry in cluster.entries for mode in entry.modes]
        assert max(rates) / min(rates) == pytest.approx(100)
    modes = {(entry.device, mode.name): mode for entry in cluster.entries for mode in entry.modes}
    agx_mode_0, tx2_mode_1 = modes["jetson_agx_xavier", "MAXN"], modes["jetson_tx2", "MAXQ"]
    assert agx_mode_0.effective_flop_per_s["amp"] / tx2_mode_1.effective_flop_per_s["amp"] == pytest.approx(100)


def test_jetson80_is_the_testbed_of_the_papers() -> None:
    cluster = load_cluster("jetson80")
    assert [(entry.device, entry.count, len(entry.modes)) for entry in cluster.entries] == [
        ("jetson_tx2", 30, 4),
        ("jetson_xavier_nx", 40, 8),
        ("jetson_agx_xavier", 10, 8),
    ]
    assert cluster.n_devices == 80
    assert cluster.power_mode_redraw_rounds == 20
    assert [mode.mode_id for mode in cluster.entry_by_device[0].modes] == [0, 1, 2, 3]
    assert [cluster.entry_by_device[device_id].device for device_id in (29, 30, 69, 70)] == [
        "jetson_tx2",
        "jetson_xavier_nx",
        "jetson_xavier_nx",
        "jetson_agx_xavier",
    ]


def test_rings_take_turns_so_that_each_has_20_devices_and_every_kind_of_board() -> None:
    cluster = load_cluster("jetson80")
    rings: dict[str, list[str]] = {}
    for device_id, entry in enumerate(cluster.entry_by_device):
        assert isinstance(entry.link, WifiRings)
        rings.setdefault(entry.link.ring_of(device_id).name, []).append(entry.device)
    assert {name: len(devices) for name, devices in rings.items()} == {"2 m": 20, "8 m": 20, "14 m": 20, "20 m": 20}
    assert all(math.isclose(devices.count("jetson_tx2"), 7.5, abs_tol=0.5) for devices in rings.values())


def test_rates_of_the_rings_are_in_bytes_per_second() -> None:
    link = load_link("wifi-rings")
    assert isinstance(link, WifiRings)
    # Mb/s times 1e6 / 8: 20 Mb/s are 2.5e6 bytes/s
    bounds = [(ring.min_bytes_per_s, ring.max_bytes_per_s) for ring in link.rings]
    assert bounds == [(2.5e6, 3.75e6), (1.5e6, 2.75e6), (0.75e6, 1.875e6), (0.125e6, 1e6)]
    assert (link.fluctuation.min_bytes_per_s, link.fluctuation.max_bytes_per_s) == (0.125e6, 3.75e6)
    assert link.latency_s == 0.01


def test_all_built_in_files_load_and_the_readme_lists_them() -> None:
    readme = README.read_text()
    names = [*profile_names(), *cluster_names(), *link_names()]
    specs = [*map(load_profile, profile_names()), *map(load_cluster, cluster_names()), *map(load_link, link_names())]
    assert [spec.name for spec in specs] == names
    assert [name for name in names if f"`{name}`" not in readme] == []


def test_the_table_of_boards_in_the_readme_is_right() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) GiB \| (\d+) \| (\w+) \| ([\d.]+)", README.read_text(), flags=re.MULTILINE)
    assert sorted(row[0] for row in rows) == list(profile_names())
    for name, memory_gib, n_modes, default_mode, tflop_per_s in rows:
        profile = load_profile(name)
        fastest = max(mode.effective_flop_per_s["fp32"] for mode in profile.power_modes)
        assert (profile.memory_bytes, len(profile.power_modes)) == (int(memory_gib) * 2**30, int(n_modes))
        assert (profile.default_mode, fastest) == (default_mode, pytest.approx(float(tflop_per_s) * 1e12))


def test_the_examples_of_the_readme_are_valid(tmp_path: Path) -> None:
    board, cluster, optional = re.findall(r"```toml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    write_cluster(tmp_path, board, "my_board.toml")
    assert load_profile(tmp_path / "my_board.toml").mode_names == ("15W",)
    assert load_cluster(write_cluster(tmp_path, cluster)).n_devices == 20
    spec = load_cluster(write_cluster(tmp_path, optional))
    assert spec.mode_switch_penalty_s == 3
    assert spec.thermal == Thermal(
        rise_k_per_w=4, time_constant_s=120, limit_k=60, throttled_speed_fraction=pytest.approx(0.6)
    )
    assert load_cluster("jetson80").thermal is None


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("mode_switch_penalty_s = 1", "mode_switch_penalty_s has no provenance"),
        ("[thermal]\nrise_k_per_w = 1", "thermal has no provenance"),
        (
            '[thermal]\nrise_k_per_w = 1\n[provenance.thermal]\nkind = "assumed"\nsource = "x"',
            "thermal.time_constant_s",
        ),
    ],
)
def test_a_mode_switch_or_a_temperature_needs_provenance_and_all_its_figures(
    tmp_path: Path, addition: str, message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        load_cluster(write_cluster(tmp_path, f'inherits = "jetson80"\n{addition}\n'))


LAW = "awake_w = 5\nfp32_arithmetic_w = 6\namp_arithmetic_w = 3.5\nmemory_w = 2\n"
LAW_KEYS = '"awake_w", "fp32_arithmetic_w", "amp_arithmetic_w", "memory_w"'


def with_law(board: Path, law: str, covers: str = LAW_KEYS) -> Path:
    text = board.read_text(encoding="utf-8")
    origin = f'\n[provenance.law]\ncovers = [{covers}]\nkind = "assumed"\nsource = "a test"\n' if covers else ""
    board.write_text(text.replace("transfer_w = ", f"{law}transfer_w = ", 1) + origin, encoding="utf-8")
    return board


def test_a_mode_may_say_what_it_draws_by_how_busy_it_is(board: Path) -> None:
    mode = load_profile(with_law(board, LAW)).power_modes[0]
    assert mode.power_law is not None
    assert mode.computing_w("fp32", 0.0, 0.0) == 5
    assert mode.computing_w("fp32", 0.5, 0.25) == 5 + 3 + 0.5
    assert mode.computing_w("amp", 1.0, 0.0) == 8.5
    assert mode.compute_range_w == (5, 13)


def test_a_mode_that_does_not_say_so_draws_the_same_in_every_step(board: Path) -> None:
    mode = load_profile(board).power_modes[0]
    assert mode.power_law is None
    assert mode.computing_w("fp32", 0.0, 0.0) == mode.computing_w("amp", 1.0, 1.0) == mode.compute_w
    assert mode.compute_range_w == (mode.compute_w, mode.compute_w)


@pytest.mark.parametrize(
    ("law", "covers", "message"),
    [
        (LAW.replace("memory_w = 2\n", ""), LAW_KEYS, r"power_mode\[0\].memory_w is missing"),
        (LAW.replace("awake_w = 5", "awake_w = 1"), LAW_KEYS, r"awake_w must be at least idle_w, 4, .*got 1"),
        (LAW.replace("memory_w = 2", "memory_w = -2"), LAW_KEYS, r"memory_w must be a number of at least 0, got -2"),
        (LAW, "", r"has no provenance"),
    ],
)
def test_a_mistake_in_a_power_law_names_the_key(board: Path, law: str, covers: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        load_profile(with_law(board, law, covers))


def test_a_board_may_say_what_a_process_holds_beside_its_model(board: Path) -> None:
    assert (load_profile(board).runtime_memory_bytes, load_profile(board).allocator) == (None, "pytorch_cuda")
    more = 'usable_memory_gib = 6\nruntime_memory_mib = 700\nallocator = "glibc"'
    board.write_text(BOARD.replace("usable_memory_gib = 6", more))
    with pytest.raises(ProfileError, match=r"device.runtime_memory_mib has no provenance"):
        load_profile(board)
    known = board.read_text().replace('"idle_w", ', '"idle_w", "runtime_memory_mib", ')
    board.write_text(known)
    assert (load_profile(board).runtime_memory_bytes, load_profile(board).allocator) == (700 * 2**20, "glibc")
    board.write_text(known.replace("700", "9000"))
    with pytest.raises(ProfileError, match=r"runtime_memory_mib must be a number above 0 and at most 8192.0, got 9000"):
        load_profile(board)
    board.write_text(known.replace("glibc", "jemalloc"))
    with pytest.raises(ProfileError, match=r"device.allocator must be one of glibc, .*, pytorch_cuda, got 'jemalloc'"):
        load_profile(board)
