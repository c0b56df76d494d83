"""A run is examined before it starts: what does not fit is found, and nothing is written."""

import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from emulator.cli.doctor import show_preflight
from emulator.config import Config, load_config
from emulator.errors import UserError
from emulator.launch.preflight import Preflight, examine

CLUSTER = """
link = "constant-8mbit"
power_mode_redraw_rounds = 0
compute_jitter_fraction = 0

[[entries]]
device = "jetson_nano"
count = 2

[[entries]]
device = "jetson_agx_orin_64gb"
count = 3

[provenance.all]
covers = ["entries", "power_mode_redraw_rounds", "compute_jitter_fraction"]
kind = "assumed"
source = "a test"
"""


def config(tmp_path: Path, **settings: Any) -> Config:
    path = tmp_path / "cluster.toml"
    path.write_text(CLUSTER)
    defaults = {"testbed.cluster": str(path), "policy.path": "fedlora", "training.enabled": False, "rounds": 7}
    return load_config(None, list((defaults | settings).items()))


def failed(found: Preflight) -> list[str]:
    return [check.name for check in found.checks if not check.is_fine]


def test_a_run_that_fits_is_planned_played_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = examine(config(tmp_path), tmp_path / "run")
    assert found.will_fit
    nano, orin = found.boards
    assert (nano.device, nano.n_cohort, nano.n_devices, nano.min_depth, nano.max_depth) == ("jetson_nano", 2, 2, 12, 12)
    assert nano.compute_s[0] > orin.compute_s[1] > 0
    assert nano.peak_memory_bytes == orin.peak_memory_bytes < nano.usable_memory_bytes
    assert found.rounds_s == pytest.approx([nano.compute_s[1] + nano.transfer_s[1]] * 3, rel=0.01)
    assert found.wall is not None
    assert found.wall.total_s == found.wall.start_s + 7 * found.wall.round_s
    assert not (tmp_path / "run").exists()


def warming_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: str = "") -> str:
    """The import path of a policy that tunes one layer at first, and then all of them."""
    (tmp_path / "warm.py").write_text(
        "from emulator.forms.lora import LoraForm, lora_plan\n"
        "from emulator.policy import Policy\n"
        "class WarmUp(Policy):\n"
        "    def form(self, model):\n"
        "        return LoraForm(ranks=(8,) * model.n_layers)\n"
        "    def plan(self, view):\n"
        "        depth = view.model.n_layers if view.round_index else 1\n"
        "        depths = dict.fromkeys(view.available, depth)\n"
        "        return lora_plan(view, (8,) * view.model.n_layers, depths)\n"
        "    def observe(self, report):\n"
        f"        {needed or 'pass'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "warm", raising=False)
    return "warm:WarmUp"


def test_a_round_that_only_warms_up_does_not_stand_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = warming_up(tmp_path, monkeypatch)
    first, *others = examine(config(tmp_path, **{"policy.path": path}), tmp_path / "run").rounds_s
    assert len(others) == 2
    assert min(others) > 1.5 * first
    # All layers of 64 sentences do not fit into a Nano, one does.
    full = examine(config(tmp_path, **{"policy.path": path, "training.batch_size": 64}), tmp_path / "run")
    assert failed(full) == ["device memory"]
    assert [(board.min_depth, board.max_depth, board.n_out_of_memory) for board in full.boards] == [
        (1, 12, 2),
        (1, 12, 0),
    ]
    alone = config(tmp_path, **{"policy.path": path, "training.batch_size": 64, "rounds": 1})
    assert examine(alone, tmp_path / "run").will_fit


def test_a_policy_that_needs_what_training_tells_is_examined_by_the_rounds_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "policy.path": warming_up(
            tmp_path, monkeypatch, "[each.metrics['train_loss'] for each in report.devices.values()]"
        ),
        "backend.kind": "inline",
        "data.n_train": 60,
        "data.n_test": 20,
    }
    found = examine(config(tmp_path, **settings, **{"training.enabled": True}), tmp_path / "run")
    assert (found.will_fit, len(found.rounds_s)) == (True, 1)
    with pytest.raises(UserError, match=r"observe.*train_loss"):  # as the run itself would
        examine(config(tmp_path, **settings), tmp_path / "run")


def test_devices_that_run_out_of_memory_at_the_planned_depth_are_counted(tmp_path: Path) -> None:
    found = examine(config(tmp_path, **{"training.batch_size": 64}), tmp_path / "run")
    assert failed(found) == ["device memory"]
    assert [board.n_out_of_memory for board in found.boards] == [2, 0]
    assert found.boards[0].peak_memory_bytes > found.boards[0].usable_memory_bytes


def test_a_folder_that_is_not_empty_is_found(tmp_path: Path) -> None:
    assert failed(examine(config(tmp_path), tmp_path)) == ["output folder"]


def test_more_hosts_than_this_machine_has_memory_for_are_found_before_anything_is_loaded(tmp_path: Path) -> None:
    found = examine(config(tmp_path, **{"training.enabled": True, "backend.hosts": 10**6}), tmp_path / "run")
    assert failed(found) == ["host memory"]
    assert found.boards == ()


def test_gpus_that_are_not_there_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(tmp_path, **{"training.enabled": True, "backend.gpus_per_host": 0.5, "backend.hosts": 4})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = examine(settings, tmp_path / "run")
    assert failed(found) == ["GPUs"]
    assert "4 hosts x 0.5, of 1" in next(check.detail for check in found.checks if check.name == "GPUs")


def test_fewer_examples_than_devices_are_found(tmp_path: Path) -> None:
    settings = {"training.enabled": True, "backend.kind": "inline", "data.n_train": 4}
    found = examine(config(tmp_path, **settings), tmp_path / "run")
    assert failed(found) == ["data"]
    assert "5 devices" in found.checks[-1].detail


def test_training_is_timed_on_a_stack_of_jobs(tmp_path: Path) -> None:
    settings = {"training.enabled": True, "backend.kind": "inline", "data.n_train": 60, "data.n_test": 20}
    found = examine(config(tmp_path, **settings), tmp_path / "run")
    assert found.will_fit
    assert found.wall is not None
    assert found.wall.round_s > 0


@pytest.mark.parametrize("batch_size", [8, 64])
def test_what_is_printed_fits_80_columns_and_ends_with_status_1_where_something_does_not_fit(
    batch_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    settings = config(tmp_path, **{"training.batch_size": batch_size, "testbed.precision": "amp"})
    if batch_size == 64:
        with pytest.raises(typer.Exit) as ended:
            show_preflight(settings, tmp_path / "run")
        assert ended.value.exit_code == 1
    else:
        show_preflight(settings, tmp_path / "run")
    out = capsys.readouterr().out
    assert max(map(len, out.split("jetson_nano: extra")[0].splitlines())) <= 80
    assert "…" not in out
    assert ("WILL NOT FIT" in out) == (batch_size == 64)
