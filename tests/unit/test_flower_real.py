"""What is read out of a real federation, and what is made of it, on lines that were written by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.workload import Workload
from benchmarks.world.flower_real.__main__ import compared, payload_bytes, shown, write_cluster
from benchmarks.world.flower_real.federation import Federation, Link, Round, Turn, rounds_of
from benchmarks.world.truth_plots import flower_table
from device_profiles.catalog import load_cluster

NOTES = [
    {
        "round": number + 1,
        "start_s": 100.0 * number,
        "end_s": 100.0 * number + 30.0,
        "devices": [{"node": 0, "start_s": 100.0 * number + 8.0, "end_s": 100.0 * number + 20.0}],
    }
    for number in range(3)
]
SAID = [(2.0, "Received successfully"), (20.5, "Sending: train message (ID: 1)"), (23.0, "Sent successfully")]
LINES = [
    {"time_s": 100.0 * number + at_s, "who": who, "line": f"INFO: {line}"}
    for number in range(3)
    for who, late_s in (("device-1", 1.0), ("device-0", 0.0))
    for at_s, line in ((at_s + late_s, line) for at_s, line in SAID)
]


def federation() -> Federation:
    return Federation(rounds=rounds_of(NOTES, LINES), down_bytes=(3_000_000,), up_bytes=(1_500_000,))


def test_a_turn_is_read_from_what_its_own_device_said_around_its_training() -> None:
    second = federation().rounds[1]
    turn = Turn(node=0, received_s=102.0, start_s=108.0, end_s=120.0, sending_s=120.5, sent_s=123.0)
    assert second == Round(start_s=100.0, end_s=130.0, turns=(turn,))


def test_what_the_system_adds_is_a_mean_over_all_rounds_but_the_first() -> None:
    assert federation().launch_s() == pytest.approx(6.0)
    assert federation().reply_s() == pytest.approx(0.5)
    assert federation().server_poll_s() == pytest.approx(3.0)


def test_errors_are_those_of_the_emulation() -> None:
    emulated = pd.DataFrame(
        {
            "round_index": [0, 1, 2],
            "device_id": [0, 0, 0],
            "start_s": [0.0, 40.0, 73.0],
            "end_s": [40.0, 73.0, 103.0],
            "compute_s": [1.0, 11.4, 11.4],
            "download_bytes": [1_000_000] * 3,
            "upload_bytes": [550_000] * 3,
        }
    )
    found = compared(federation(), emulated)
    lines = "\n".join(shown(found))
    assert "| 2 | 30.00 | 33.00 | +10.0% |" in lines
    assert "| all | 60.00 | 63.00 | +5.0% (wanted: 5%) |" in lines
    assert "device 0 computes 12.00 s a round, emulated 11.40 s: -5.0%" in lines
    assert "download: 3.00 MB on the wire, emulated 3.00 MB: +0.0%" in lines
    assert "upload: 1.50 MB on the wire, emulated 1.65 MB: +10.0%" in lines
    assert flower_table(json.loads(json.dumps(asdict(found)))) == [
        ("", "Flower", "emulated", "error"),
        ("round 2", "30.00 s", "33.00 s", "+10.0%"),
        ("round 3", "30.00 s", "30.00 s", "+0.0%"),
        ("all rounds", "60.00 s", "63.00 s", "+5.0%"),
        ("device 0 computes, a round", "12.00 s", "11.40 s", "-5.0%"),
        ("download, on the wire", "3.00 MB", "3.00 MB", "+0.0%"),
        ("upload, on the wire", "1.50 MB", "1.65 MB", "+10.0%"),
    ]


def test_a_slow_device_has_a_profile_that_is_as_much_slower(tmp_path: Path) -> None:
    board = Path(__file__).parents[2] / "device_profiles" / "raspberry_pi_5.toml"
    write_cluster(tmp_path, board, [1.0, 4.0], Link(down_mbit_per_s=8.0, up_mbit_per_s=4.0))
    fast, slow = (entry.modes[0] for entry in load_cluster(str(tmp_path / "cluster.toml")).entries)
    assert slow.effective_flop_per_s["fp32"] == pytest.approx(fast.effective_flop_per_s["fp32"] / 4)
    assert slow.step_overhead_s == pytest.approx(4 * fast.step_overhead_s)


def test_the_payload_is_adapters_and_classifier() -> None:
    tiny = Workload(n_devices=1, n_steps=1, batch_size=1, seq_len=8, n_layers=2, hidden_size=8, depth=2)
    # Two layers x query and value x rank 8 x (8 + 8), and a classifier of 8 x 4 + 4.
    assert payload_bytes(tiny) == 4 * (2 * 2 * 8 * 16 + 36)
