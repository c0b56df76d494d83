"""Logs of tegrastats and of jtop tell what a board drew at rest and at work, by the rails of the whole board."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from emulator.calibration.power_log import power_of_log
from emulator.errors import ConfigError

# A line of JetPack 6 on AGX Orin, one of JetPack 4 on Jetson Nano, one of AGX Xavier with JetPack 4.
AGX_ORIN = (
    "09-02-2025 10:11:12 RAM 4063/62841MB (lfb 3x4MB) SWAP 0/31420MB (cached 0MB) CPU [1%@729,0%@729,off,off] "
    "EMC_FREQ 0%@2133 GR3D_FREQ {load}%@[305,305] cpu@48.9C tj@48.9C VDD_GPU_SOC {a}mW/2402mW VDD_CPU_CV {b}mW/400mW "
    "VIN_SYS_5V0 {c}mW/2919mW"
)
AGX_ORIN_WITH_MEMORY = AGX_ORIN + " VDDQ_VDD2_1V8AO 900mW/900mW"
NANO = (
    "RAM 1042/3956MB (lfb 490x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [3%@102,1%@102] "
    "EMC_FREQ 0%@1600 GR3D_FREQ {load}%@76 APE 25 PLL@22C POM_5V_IN {a}/1521 POM_5V_GPU 40/20 POM_5V_CPU 162/142"
)
AGX_XAVIER = (
    "RAM 2448/31920MB (lfb 6x4MB) CPU [1%@1190] EMC_FREQ 0% GR3D_FREQ {load}% GPU {a}/0 CPU {b}/311 SOC {c}/932 CV 0/0 "
    "VDDRQ 155/155 SYS5V 1474/1474"
)


def tegrastats(line: str, rows: Sequence[Mapping[str, int]]) -> str:
    return "\n".join(line.format(**{"b": 0, "c": 0, **row}) for row in rows) + "\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "board.log"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("line", "idle_w", "compute_w", "rails"),
    [
        (AGX_ORIN, 2.0 + 0.5 + 3.0, 30.0 + 5.0 + 6.0, "sum of the rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"),
        (AGX_ORIN_WITH_MEMORY, 5.5, 41.0, "sum of the rails VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"),
        (NANO, 2.0, 30.0, "rail POM_5V_IN"),
        (AGX_XAVIER, 5.5 + 1.629, 41.0 + 1.629, "sum of the rails GPU, CPU, SOC, CV, VDDRQ, SYS5V"),
    ],
)
def test_a_log_of_tegrastats_is_read_by_the_rails_of_its_board(
    tmp_path: Path, line: str, idle_w: float, compute_w: float, rails: str
) -> None:
    at_rest = {"load": 0, "a": 2000, "b": 500, "c": 3000}
    at_work = {"load": 99, "a": 30000, "b": 5000, "c": 6000}
    between = {"load": 30, "a": 9999, "b": 9999, "c": 9999}
    found = power_of_log(written(tmp_path, tegrastats(line, [at_rest] * 5 + [between] + [at_work] * 6)))
    assert (found.idle_w, found.compute_w, found.transfer_w) == pytest.approx((idle_w, compute_w, idle_w))
    assert found.kind == "measured"
    assert found.source == f"jetbed calibrate: the log board.log, {rails}"


def jtop(rows: Sequence[Mapping[str, object]]) -> str:
    head = "time,uptime,CPU1,RAM,GPU,Temp CPU," + ",".join(key for key in rows[0] if key.startswith("Power"))
    lines = [
        f"2025-09-02 10:11:{n:02d},1:02:03,12,0.1,{row['GPU']},48.9,"
        + ",".join(str(value) for key, value in row.items() if key.startswith("Power"))
        for n, row in enumerate(rows)
    ]
    return "\n".join([head, *lines]) + "\n"


def test_jtops_total_is_taken_where_the_board_has_a_rail_of_its_own_for_it(tmp_path: Path) -> None:
    # jtop has moved VDD_IN out of the rails into the total
    idle = {"GPU": 0, "Power VDD_CPU_GPU_CV": 500, "Power VDD_SOC": 1400, "Power TOT": 5000}
    busy = {"GPU": 97.5, "Power VDD_CPU_GPU_CV": 8000, "Power VDD_SOC": 2400, "Power TOT": 14000}
    found = power_of_log(written(tmp_path, jtop([idle] * 5 + [busy] * 5)))
    assert (found.idle_w, found.compute_w) == pytest.approx((5.0, 14.0))


def test_jtops_total_is_not_taken_on_agx_orin_where_it_counts_the_memory_twice(tmp_path: Path) -> None:
    idle = {"GPU": 0, "Power VDDQ_VDD2_1V8AO": 800, "Power VDD_CPU_CV": 500, "Power VDD_GPU_SOC": 2000}
    idle |= {"Power VIN_SYS_5V0": 3000, "Power 1-00081": 0, "Power TOT": 6300}
    busy = {key: 3 * value for key, value in idle.items()} | {"GPU": 80}
    found = power_of_log(written(tmp_path, jtop([idle] * 5 + [busy] * 5)))
    assert (found.idle_w, found.compute_w) == pytest.approx((5.5, 16.5))


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    idle, busy = {"GPU": 0, "Power TOT": 5000}, {"GPU": 99, "Power TOT": 9000}
    text = jtop([idle] * 5 + [busy] * 5) + "2025-09-02 10:12:01,1:02:1"
    assert power_of_log(written(tmp_path, text)).compute_w == 9.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no log of tegrastats"),
        ("time,GPU\n1,2\n", "is no log of tegrastats"),
        ("hello\n", "nor of jtop's logger"),
        (tegrastats(NANO, [{"load": 0, "a": 1}] * 9), "has 9 samples at rest .* and 0 at work .* needs 5 of each"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        power_of_log(written(tmp_path, text))
