"""The power law is fitted to some of the published loads and within 10 % on those that the fit does not know."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from device_profiles.catalog import load_profile
from emulator.calibration.power_law import LoadPoint, drawn_w, fit_awake_share, power_law
from emulator.records import NO_ADAPTERS, Work, WorkKind
from emulator.shapes.catalog import model_spec
from emulator.world.price.price_bands import price_step

FOLDER = Path(__file__).parents[3] / "device_profiles"
MOST_ERROR_FRACTION = 0.1
STATED_SHARE = 0.27  # in the profiles' notes and in README.md


def rows(name: str, use: str) -> Sequence[Mapping[str, str]]:
    with (FOLDER / name).open(encoding="utf-8") as file:
        found = csv.DictReader(line for line in file if not line.startswith("#"))
        return [row for row in found if row["use"] == use]


def point(row: Mapping[str, str]) -> LoadPoint:
    query_s = float(row["query_ms"]) / 1e3
    return LoadPoint(
        idle_w=float(row["idle_w"]),
        full_w=float(row["full_w"]),
        arithmetic_share=int(row["n_per_query"]) / query_s / float(row["full_per_s"]),
        bytes_per_s=1e9 * float(row["weight_gb"]) / query_s,
        power_w=float(row["power_w"]),
    )


def awake_share() -> float:
    return fit_awake_share([point(row) for row in rows("agx_orin_power.csv", "fit")])


def bert_large_w(row: Mapping[str, str]) -> float:
    seq_len = int(row["seq_len"])
    model = model_spec("bert-large", n_labels=2, seq_len=seq_len, head="output")
    work = Work(
        n_steps=1,
        batch_size=int(row["batch_size"]),
        seq_len=seq_len,
        forward_layers=model.n_layers,
        backward_layers=0,
        adapters=NO_ADAPTERS,
        kind=WorkKind.INFERENCE,
    )
    profile = load_profile(row["device"])
    return price_step(profile, profile.mode(row["mode"]), model, work, row["precision"]).compute_w.value


def test_the_share_of_a_closed_form_is_found_again() -> None:
    loads = [
        LoadPoint(idle_w=5, full_w=25, arithmetic_share=share, bytes_per_s=1e10, power_w=0.0) for share in (0.1, 0.6, 1)
    ]
    # 5 W at rest, 20 W of load of which 0.3 at once, and 0.54 W for 10 GB/s
    watts = [5 + 20 * (0.3 + 0.7 * share) + 0.54 for share in (0.1, 0.6, 1)]
    measured = [
        LoadPoint(
            idle_w=load.idle_w,
            full_w=load.full_w,
            arithmetic_share=load.arithmetic_share,
            bytes_per_s=load.bytes_per_s,
            power_w=power_w,
        )
        for load, power_w in zip(loads, watts, strict=True)
    ]
    assert fit_awake_share(measured) == pytest.approx(0.3)
    assert [drawn_w(load, 0.3) for load in loads] == pytest.approx(watts)


def test_full_loads_alone_tell_no_share() -> None:
    with pytest.raises(ValueError, match="below the full one"):
        fit_awake_share([LoadPoint(idle_w=5, full_w=25, arithmetic_share=1, bytes_per_s=0, power_w=25)])


def test_the_profiles_have_the_share_that_fits() -> None:
    share = awake_share()
    assert share == pytest.approx(STATED_SHARE, abs=0.005)
    for name in ("jetson_agx_orin_64gb", "jetson_agx_orin_32gb", "jetson_agx_xavier"):
        for mode in load_profile(name).power_modes:
            assert mode.power_law is not None
            load_w = {p: mode.power_law.awake_w + w - mode.idle_w for p, w in mode.power_law.arithmetic_w.items()}
            expected = power_law(mode.idle_w, load_w, share, mode.memory_bytes_per_s)
            assert mode.power_law.awake_w == pytest.approx(expected.awake_w, abs=0.15), (name, mode.name)
            assert mode.power_law.memory_w == pytest.approx(expected.memory_w, abs=0.06), (name, mode.name)


@pytest.mark.parametrize("row", rows("bert_large_power.csv", "fit"), ids=lambda row: f"batch {row['batch_size']}")
def test_the_profile_draws_what_it_is_fitted_to(row: Mapping[str, str]) -> None:
    assert bert_large_w(row) == pytest.approx(float(row["power_w"]), rel=0.01)


@pytest.mark.parametrize("row", rows("agx_orin_power.csv", "check"), ids=lambda row: row["workload"])
def test_loads_that_the_share_is_not_fitted_to_are_within_a_tenth(row: Mapping[str, str]) -> None:
    load = point(row)
    assert abs(drawn_w(load, awake_share()) / load.power_w - 1) <= MOST_ERROR_FRACTION


@pytest.mark.parametrize("row", rows("bert_large_power.csv", "check"), ids=lambda row: f"batch {row['batch_size']}")
def test_a_batch_that_the_profile_is_not_fitted_to_is_within_a_tenth(row: Mapping[str, str]) -> None:
    measured_w = float(row["power_w"])
    assert abs(bert_large_w(row) / measured_w - 1) <= MOST_ERROR_FRACTION


def test_every_watt_of_full_tensor_load_is_what_the_board_was_measured_at() -> None:
    for name in ("jetson_agx_orin_64gb", "jetson_agx_xavier"):
        for mode in load_profile(name).power_modes:
            assert mode.computing_w("amp", 1.0, 0.0) == pytest.approx(mode.compute_w, abs=0.11), (name, mode.name)


def test_readme_shows_the_errors_that_come_out() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    share = awake_share()
    shown = []
    for use in ("fit", "check"):
        for row in rows("agx_orin_power.csv", use):
            shown.append((row["workload"], row["mode"], float(row["power_w"]), drawn_w(point(row), share), use))
        for row in rows("bert_large_power.csv", use):
            name = f"BERT-large fp32, batch {row['batch_size']}"
            shown.append((name, row["mode"], float(row["power_w"]), bert_large_w(row), use))
    for name, mode, measured_w, law_w, use in shown:
        error = law_w / measured_w - 1
        assert f"| {name} | {mode} | {measured_w:g} | {law_w:.1f} | {error:+.1%} | {use} |" in text
