"""A profile is written whole, with the origin of every figure, and is one like any other."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from device_profiles.catalog import GIB, load_cluster, load_link, load_profile
from device_profiles.link_kinds.constant import ConstantLink
from emulator.calibration.agreement import agreements_of, agreements_text, overall
from emulator.calibration.fit import fit_steps
from emulator.calibration.link import MeasuredLink
from emulator.calibration.machine import Machine
from emulator.calibration.profile_file import Calibration, PowerFigures, check_out, write_calibration
from emulator.calibration.step_settings import unseen
from emulator.errors import ConfigError
from tests.unit.calibration.made_up_steps import FIGURES, made_up_steps

STEPS = made_up_steps("in_turn")
CALIBRATION = Calibration(
    title="A board",
    mode_name="15W",
    machine=Machine(
        name="A board",
        processor="4 Cores",
        memory_bytes=8 * GIB,
        available_memory_bytes=6 * GIB,
        memory_source="a test",
    ),
    fit=fit_steps(STEPS, "in_turn"),
    steps=STEPS,
    amp_flop_per_s=None,
    power=PowerFigures(idle_w=3, compute_w=9.5, transfer_w=4, kind="measured", source="a meter"),
    n_threads=4,
    software="a test",
    link=MeasuredLink(download_bytes_per_s=2e6, upload_bytes_per_s=1e6, latency_s=0.005, seconds=5),
    peer="there:7000",
    runtime_memory_bytes=400 * 2**20,
    allocator="glibc",
)


def test_what_is_written_is_a_profile_with_provenance(tmp_path: Path) -> None:
    files = write_calibration(tmp_path / "board.toml", CALIBRATION)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)
    profile = load_profile(tmp_path / "board.toml")
    mode = profile.mode("15W")
    found = (mode.effective_flop_per_s["fp32"], mode.memory_bytes_per_s, mode.dispatch_s, mode.step_overhead_s)
    assert found == pytest.approx(FIGURES, rel=2e-3)
    assert (mode.step_law, mode.n_cpu_threads, mode.compute_w) == ("in_turn", 4, 9.5)
    assert (profile.memory_bytes, profile.usable_memory_bytes) == (8 * GIB, 6 * GIB)
    assert (profile.runtime_memory_bytes, profile.allocator) == (400 * 2**20, "glibc")
    for key in ("fp32_tflop_per_s", "memory_gb_per_s", "dispatch_us", "step_overhead_ms", "usable_memory_gib",
                "compute_w", "known_range", "runtime_memory_mib"):  # fmt: skip
        assert profile.provenance_of(key, "15W").kind == "measured"
    assert profile.provenance_of("amp_tflop_per_s").kind == "assumed"
    assert profile.known_range is not None
    assert profile.known_range.max_step_tokens == max(s.setting.batch_size * s.setting.seq_len for s in STEPS)


def test_a_figure_that_the_steps_do_not_determine_is_assumed_without_an_uncertainty(tmp_path: Path) -> None:
    spread = dict.fromkeys(CALIBRATION.fit.spread, 0.1)
    fit = replace(CALIBRATION.fit, memory_bytes_per_s=1e13, step_overhead_s=0.0, spread=spread | {"dispatch_s": 1.01})
    assert fit.not_determined == ("memory_bytes_per_s", "dispatch_s", "step_overhead_s")
    write_calibration(tmp_path / "board.toml", replace(CALIBRATION, fit=fit))

    profile = load_profile(tmp_path / "board.toml")
    for key in ("memory_gb_per_s", "dispatch_us", "step_overhead_ms"):
        origin = profile.provenance_of(key, "15W")
        assert (origin.kind, origin.uncertainty) == ("assumed", "")
        assert "not determined" in origin.source
    rate = profile.provenance_of("fp32_tflop_per_s", "15W")
    assert (rate.kind, rate.uncertainty) == ("measured", "±10 %")


def test_all_steps_and_the_link_are_written_beside_it(tmp_path: Path) -> None:
    write_calibration(tmp_path / "board.toml", CALIBRATION)

    with (tmp_path / "board.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step_s"]) for row in rows] == pytest.approx([step.step_s for step in STEPS], rel=1e-5)
    link = load_link(tmp_path / "board-link.toml")
    assert isinstance(link, ConstantLink)
    assert (link.download_bytes_per_s, link.upload_bytes_per_s, link.latency_s) == (2e6, 1e6, 0.005)
    assert link.provenance["latency_ms"].kind == "measured"


def test_a_cluster_takes_it_by_its_path(tmp_path: Path) -> None:
    write_calibration(tmp_path / "board.toml", CALIBRATION)
    (tmp_path / "cluster.toml").write_text(
        'link = "board-link.toml"\npower_mode_redraw_rounds = 0\ncompute_jitter_fraction = 0.0\n'
        '[[entries]]\ndevice = "board.toml"\ncount = 3\n'
        '[provenance.all]\ncovers = ["entries", "power_mode_redraw_rounds", "compute_jitter_fraction"]\n'
        'kind = "assumed"\nsource = "a test"\n'
    )
    assert [entry.profile.name for entry in load_cluster(tmp_path / "cluster.toml").entries] == ["board"]


def test_nothing_is_left_where_a_file_cannot_be_used(tmp_path: Path) -> None:
    broken = replace(CALIBRATION, machine=replace(CALIBRATION.machine, available_memory_bytes=9 * GIB))
    with pytest.raises(ValueError, match="usable_memory_gib"):
        write_calibration(tmp_path / "board.toml", broken)
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_those_of_the_price(tmp_path: Path) -> None:
    write_calibration(tmp_path / "board.toml", CALIBRATION)
    profile = load_profile(tmp_path / "board.toml")
    steps = made_up_steps("in_turn", settings=unseen())

    agreements = agreements_of(
        profile, profile.mode("15W"), [replace(step, step_s=step.step_s / 1.1) for step in steps]
    )

    errors = overall(agreements)
    assert errors.mean_error_fraction == pytest.approx(0.1, abs=0.003)
    assert errors.worst_error_fraction == pytest.approx(0.1, abs=0.005)
    assert {agreement.outside for agreement in agreements} == {None}
    heading, names, *rows = agreements_text(agreements, "what").splitlines()
    assert heading == "# what"
    assert {"step_s", "predicted_s", "error_fraction"} <= set(names.split(","))
    assert len(rows) == len(steps)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("board.csv", "board-link.toml", "board.toml"):
        (tmp_path / name).touch()
        with pytest.raises(ConfigError, match="exists"):
            check_out(tmp_path / "board.toml", with_link=True)
        (tmp_path / name).unlink()


@pytest.mark.parametrize("name", ["board.txt", "nowhere/board.toml"])
def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--out"):
        check_out(tmp_path / name, with_link=False)
