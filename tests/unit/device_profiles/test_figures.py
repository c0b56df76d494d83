"""Every power mode is there with its numbers, every figure has an origin, and the figures fit what was measured."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from device_profiles.catalog import load_profile, profile_names
from device_profiles.provenance import PROVENANCE_KINDS
from device_profiles.records import DeviceProfile

FOLDER = Path(__file__).parents[3] / "device_profiles"

# Clocks in MHz, memory bandwidth reached in GB/s, training rates in TFLOP/s. Clocks and cores are the boards' tables:
# jetsonhacks.com (TX2, AGX Xavier); nvpmodel_*.conf in LineageOS/android_device_nvidia_{galen,concord} (Xavier, Orin).
MODES = """
profile  id  mode  cpu_mhz  cuda_cores  gpu_mhz  memory_clock_mhz  memory_gb_per_s  fp32_tflop_per_s  amp_tflop_per_s
jetson_nano                 0  MAXN              1479   128  921.6  1600   17.0   0.15  0.22
jetson_nano                 1  5W                 918   128    640  1600   17.0  0.104  0.15
jetson_tx2                  0  MAXN              2035   256   1300  1866   39.0  0.345   0.5
jetson_tx2                  1  MAXQ              1200   256    850  1331   28.0  0.226  0.33
jetson_tx2                  2  MAXP_CORE_ALL     1400   256   1120  1600   33.0  0.297  0.43
jetson_tx2                  3  MAXP_CORE_ARM     2035   256   1120  1600   33.0  0.297  0.43
jetson_tx2                  4  MAXP_CORE_DENVER  2035   256   1120  1600   33.0  0.297  0.43
jetson_xavier_nx            0  MODE_15W_2CORE    1907   384   1109  1600   41.0  0.383  1.36
jetson_xavier_nx            1  MODE_15W_4CORE    1421   384   1109  1600   41.0  0.383  1.36
jetson_xavier_nx            2  MODE_15W_6CORE    1421   384   1109  1600   41.0  0.383  1.36
jetson_xavier_nx            3  MODE_10W_2CORE    1498   384    803  1600   41.0  0.278  0.99
jetson_xavier_nx            4  MODE_10W_4CORE    1190   384    803  1600   41.0  0.278  0.99
jetson_xavier_nx            5  MODE_10W_DESKTOP  1907   384    510  1600   41.0  0.176  0.63
jetson_xavier_nx            6  MODE_20W_2CORE    1907   384   1109  1866   48.0  0.383  1.36
jetson_xavier_nx            7  MODE_20W_4CORE    1421   384   1109  1866   48.0  0.383  1.36
jetson_xavier_nx            8  MODE_20W_6CORE    1421   384   1109  1866   48.0  0.383  1.36
jetson_agx_xavier           0  MAXN              2266   512   1377  2133  111.0  0.635  2.26
jetson_agx_xavier           1  MODE_10W          1200   256    520  1066   55.0   0.12  0.43
jetson_agx_xavier           2  MODE_15W          1200   512    670  1331   69.0  0.309   1.1
jetson_agx_xavier           3  MODE_30W_ALL      1200   512    900  1600   83.0  0.415  1.47
jetson_agx_xavier           4  MODE_30W_6CORE    1450   512    900  1600   83.0  0.415  1.47
jetson_agx_xavier           5  MODE_30W_4CORE    1780   512    900  1600   83.0  0.415  1.47
jetson_agx_xavier           6  MODE_30W_2CORE    2100   512    900  1600   83.0  0.415  1.47
jetson_agx_xavier           7  MODE_15W_DESKTOP  2189   512    670  1331   69.0  0.309   1.1
jetson_orin_nano_8gb        0  15W               1510  1024    625  2133   62.0   0.49   2.1
jetson_orin_nano_8gb        1  7W                 960   512    408  2133   41.0   0.17  0.75
jetson_orin_nano_8gb_super  0  15W               1498  1024    612  2133   62.0   0.48   2.1
jetson_orin_nano_8gb_super  1  25W               1344  1024    918  3199   93.0   0.75   3.1
jetson_orin_nano_8gb_super  2  MAXN_SUPER        1728  1024   1020  3199   93.0   0.82   3.4
jetson_orin_nano_4gb        0  10W               1510   512    625  2133   31.0  0.245   1.0
jetson_orin_nano_4gb        1  7W_AI              806   512    408  2133   21.0   0.16   0.7
jetson_orin_nano_4gb        2  7W_CPU             960   512    306  2133   15.0   0.12   0.5
jetson_orin_nano_4gb_super  1  25W               1728   512   1020  3199   47.0   0.41   1.7
jetson_orin_nx_16gb         0  MAXN              1984  1024    918  3199   93.0   0.68   2.9
jetson_orin_nx_16gb         1  10W               1190   512    612  2133   62.0   0.27   1.0
jetson_orin_nx_16gb         2  15W               1651   512    612  3199   62.0   0.28  1.05
jetson_orin_nx_16gb         3  25W               1498  1024    408  3199   41.0   0.36   1.4
jetson_orin_nx_16gb_super   4  40W               1498  1024   1173  3199   93.0   0.85   3.6
jetson_orin_nx_8gb          0  MAXN              1984  1024    765  3199   77.0   0.57   2.4
jetson_orin_nx_8gb          1  10W               1190   512    612  2133   62.0   0.27   1.0
jetson_orin_nx_8gb          2  15W               1421   512    612  3199   62.0   0.28  1.05
jetson_orin_nx_8gb          3  20W               1498  1024    408  3199   41.0   0.36   1.4
jetson_agx_orin_64gb        0  MAXN              2202  2048   1300  3199  186.0   1.35   5.5
jetson_agx_orin_64gb        1  MODE_15W          1114   768    408  2133   84.0   0.28   1.2
jetson_agx_orin_64gb        2  MODE_30W          1728  1024    612  3199  127.0   0.57   2.4
jetson_agx_orin_64gb        3  MODE_50W          1498  2048    816  3199  169.0    1.1   4.2
jetson_agx_orin_32gb        0  MAXN              2188  1792    930  3199  186.0    1.2   4.4
jetson_agx_orin_32gb        1  MODE_15W          1114   768    408  2133   84.0   0.28   1.2
jetson_agx_orin_32gb        2  MODE_30W          1728  1024    612  3199  127.0   0.57   2.4
jetson_agx_orin_32gb        3  MODE_40W          1498  1792    816  3199  169.0    1.0   3.7
"""


def modes_table() -> Sequence[Mapping[str, str]]:
    header, *rows = [line.split() for line in MODES.strip().splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def points(name: str) -> Sequence[Mapping[str, str]]:
    """The rows of a file of measured points."""
    with (FOLDER / name).open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.fixture(scope="module")
def profiles() -> Mapping[str, DeviceProfile]:
    return {name: load_profile(name) for name in profile_names()}


@pytest.mark.parametrize("row", modes_table(), ids=lambda row: f"{row['profile']}-{row['mode']}")
def test_a_mode_has_the_numbers_of_the_boards_table(
    profiles: Mapping[str, DeviceProfile], row: Mapping[str, str]
) -> None:
    mode = profiles[row["profile"]].mode(row["mode"])
    assert mode.mode_id == int(row["id"])
    assert mode.n_cuda_cores == int(row["cuda_cores"])
    clocks = (mode.cpu_hz, mode.gpu_hz, mode.memory_clock_hz)
    assert clocks == tuple(pytest.approx(1e6 * float(row[key])) for key in ("cpu_mhz", "gpu_mhz", "memory_clock_mhz"))
    assert mode.memory_bytes_per_s == pytest.approx(1e9 * float(row["memory_gb_per_s"]))
    assert mode.effective_flop_per_s["fp32"] == pytest.approx(1e12 * float(row["fp32_tflop_per_s"]))
    assert mode.effective_flop_per_s["amp"] == pytest.approx(1e12 * float(row["amp_tflop_per_s"]))


def test_the_two_memory_sizes_of_the_xavier_nx_have_the_same_modes(profiles: Mapping[str, DeviceProfile]) -> None:
    assert profiles["jetson_xavier_nx_16gb"].power_modes == profiles["jetson_xavier_nx"].power_modes


def test_every_figure_of_every_profile_has_an_origin(profiles: Mapping[str, DeviceProfile]) -> None:
    keys = (
        "fp32_tflop_per_s",
        "amp_tflop_per_s",
        "memory_gb_per_s",
        "step_overhead_ms",
        "dispatch_us",
        "idle_w",
        "compute_w",
        "transfer_w",
    )
    for profile in profiles.values():
        for key in ("memory_gib", "usable_memory_gib", "known_range"):
            assert profile.provenance_of(key).source
        for mode in profile.power_modes:
            for key in keys:
                origin = profile.provenance_of(key, mode.name)
                assert origin.kind in PROVENANCE_KINDS
                assert origin.source
                assert origin.date


def test_whatever_is_derived_states_its_formula_and_whatever_is_not_measured_its_uncertainty(
    profiles: Mapping[str, DeviceProfile],
) -> None:
    for profile in profiles.values():
        for key, origin in profile.provenance.items():
            assert origin.kind != "derived" or origin.note, (profile.name, key)
            is_fact = key.endswith(("_mhz", "peak_memory_gb_per_s", "known_range"))
            estimated = origin.kind in ("derived", "assumed") and not is_fact
            assert not estimated or origin.uncertainty, (profile.name, key)


def test_no_figure_breaks_physics(profiles: Mapping[str, DeviceProfile]) -> None:
    for profile in profiles.values():
        assert profile.usable_memory_bytes < profile.memory_bytes
        for mode in profile.power_modes:
            assert mode.idle_w < mode.compute_w
            assert mode.idle_w < mode.transfer_w
            assert mode.effective_flop_per_s["fp32"] <= mode.effective_flop_per_s["amp"]
            assert mode.peak_memory_bytes_per_s is not None
            assert mode.memory_bytes_per_s < mode.peak_memory_bytes_per_s
            if mode.gpu_hz:
                # a multiply-add, 2 FLOP, per core and clock
                assert mode.effective_flop_per_s["fp32"] < 2 * mode.n_cuda_cores * mode.gpu_hz


@pytest.mark.parametrize("row", points("orin_gemm.csv"), ids=lambda row: f"{row['device']}-{row['mode']}")
def test_orin_rates_are_between_half_and_all_of_the_matrix_products_measured_in_the_mode(
    profiles: Mapping[str, DeviceProfile], row: Mapping[str, str]
) -> None:
    mode = profiles[row["device"]].mode(row["mode"])
    assert mode.memory_bytes_per_s == pytest.approx(1e9 * float(row["stream_gb_per_s"]), rel=0.07)
    assert mode.n_cuda_cores == 128 * int(row["n_multiprocessors"])
    if row["fp32_max_gflop_per_s"]:
        low, high = float(row["fp32_min_gflop_per_s"]), float(row["fp32_max_gflop_per_s"])
        assert 0.6 * 1e9 * low < mode.effective_flop_per_s["fp32"] < 0.95 * 1e9 * high


@pytest.mark.parametrize("row", points("agx_power_modes.csv"), ids=lambda row: f"{row['device']}-{row['mode']}")
def test_agx_boards_draw_what_was_measured(profiles: Mapping[str, DeviceProfile], row: Mapping[str, str]) -> None:
    profile = profiles[row["device"]]
    mode = profile.mode(row["mode"])
    assert (mode.idle_w, mode.compute_w) == (float(row["idle_w"]), float(row["compute_w"]))
    assert profile.provenance_of("compute_w", mode.name).kind == "measured"


def test_agx_xavier_modes_differ_in_speed_as_timed_inference_does(profiles: Mapping[str, DeviceProfile]) -> None:
    rows = {row["mode"]: float(row["latency_ms"]) for row in points("agx_power_modes.csv") if "xavier" in row["device"]}
    profile = profiles["jetson_agx_xavier"]
    for name, latency_ms in rows.items():
        measured = rows["MAXN"] / latency_ms
        stated = profile.mode(name).effective_flop_per_s["fp32"] / profile.mode("MAXN").effective_flop_per_s["fp32"]
        assert stated == pytest.approx(measured, rel=0.11)


def test_a_step_dispatches_a_hundred_operations_that_it_cannot_hide(profiles: Mapping[str, DeviceProfile]) -> None:
    for name, profile in profiles.items():
        for mode in profile.power_modes:
            if mode.gpu_hz:
                assert mode.step_overhead_s == pytest.approx(100 * mode.dispatch_s, rel=0.06), (name, mode.name)
