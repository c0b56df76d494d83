"""The page's figures of what really ran, drawn from files as the programs write them."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

from benchmarks.world.page import page_text
from benchmarks.world.truth_plots import draw_flower, draw_live, flower_table, live_table, read_found

mpl.use("Agg")
import matplotlib.pyplot as plt

LIVE = {
    "what": "benchmarks.world.live",
    "n_cores": 2,
    "n_devices": 2,
    "speed": 3.0,
    "policies": [
        {
            "policy": "fedlora",
            "rounds": [{"virtual_s": 4.0, "live_s": 4.1}],
            "activities": [
                {"device_id": 0, "kind": "download", "virtual_s": 1.0, "live_s": 1.02},
                {"device_id": 1, "kind": "compute", "virtual_s": 2.0, "live_s": 2.5},
            ],
            "is_same_sequence": True,
            "has_same_loss": False,
        }
    ],
}
FLOWER = {
    "what": "benchmarks.world.flower_real",
    "rounds": [{"round": 2, "flower_s": 20.0, "emulated_s": 21.0}, {"round": 3, "flower_s": 20.0, "emulated_s": 18.0}],
    "devices": [{"device_id": 0, "flower_s": 8.0, "emulated_s": 8.4}],
    "bytes": [{"way": "download", "flower_bytes": 2_000_000, "emulated_bytes": 1_900_000}],
}


def test_each_activity_is_a_point_of_its_error() -> None:
    _, axes = plt.subplots()
    draw_live(axes, LIVE)
    (points,) = axes.get_lines()
    assert points.get_xydata().tolist() == [[1.0, pytest.approx(2.0)], [2.0, pytest.approx(25.0)]]


def test_each_round_has_two_bars() -> None:
    _, axes = plt.subplots()
    draw_flower(axes, FLOWER)
    assert [bar.get_height() for bar in axes.patches] == [20.0, 20.0, 21.0, 18.0]
    assert [text.get_text() for text in axes.texts] == ["+5.0%", "-10.0%"]
    assert "in all -2.5%" in axes.get_title()


def test_tables_lie_below_their_figures(tmp_path: Path) -> None:
    for name in ("live", "flower"):
        (tmp_path / f"{name}.png").write_bytes(b"")
    text = page_text(tmp_path, ["live", "flower"], {"live": live_table(LIVE), "flower": flower_table(FLOWER)})
    assert text.index('id="live"') < text.index("<td>fedlora</td>") < text.index('id="flower"')
    assert text.index('id="flower"') < text.index("<td>all rounds</td><td>40.00 s</td><td>39.00 s</td><td>-2.5%</td>")
    assert "<table>" not in page_text(tmp_path, ["live"], {})


@pytest.mark.parametrize("content", ["", "[]", json.dumps(FLOWER)])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match=r"found\.json"):
        read_found(path, "benchmarks.world.live")
