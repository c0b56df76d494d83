"""Whole sweeps: killed and continued, side by side and one after another, with a run that fails."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.sweeps.folder import read_info
from tests.command_line import in_process, jetbed, started
from tests.integration.conftest import digests
from tests.integration.ray_cluster import RayCluster
from tests.integration.test_interruption import still_alive

SWEEP = """
[base]
rounds = 3
testbed.n_devices = 6
data.n_train = 200
data.n_test = 60
training.local_steps = 2
training.devices_stacked = 3

[axes]
policy = ["legend", { path = "fedlora", rank = 4 }, "fedbuff"]
seed = [0, 1]
"""
BROKEN = """
from dataclasses import dataclass
from emulator.errors import ConfigError
from emulator.forms.lora import LoraForm, lora_plan
from emulator.policy import Policy

@dataclass(kw_only=True)
class Broken(Policy):
    def form(self, model):
        return LoraForm(ranks=(4,) * model.n_layers)

    def plan(self, view):
        if view.round_index == 1:
            raise ZeroDivisionError("nobody knows why")
        return lora_plan(view, (4,) * view.model.n_layers, dict.fromkeys(view.available, view.model.n_layers))
"""


def statuses(sweep_dir: Path) -> Mapping[str, str]:
    index = pq.read_table(sweep_dir / "index.parquet")
    return dict(zip(index["run"].to_pylist(), index["status"].to_pylist(), strict=True))


def finished_at(sweep_dir: Path) -> dict[str, int]:
    """When the runs that are finished were, by their folders."""
    found = {}
    for folder in sweep_dir.glob("run=*"):
        info = read_info(folder)
        if info and info["status"] == "finished":
            found[folder.name] = (folder / "run.json").stat().st_mtime_ns
    return found


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "study.toml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(sweep_file: Path) -> Path:
    """The sweep in one process, run after run."""
    out = sweep_file.parent / "undisturbed"
    done = in_process("sweep", str(sweep_file), "--backend", "inline", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def lines_until(process: subprocess.Popen[str], n_finished: int) -> Iterator[str]:
    """What a sweep says until so many of its runs are finished."""
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        n_finished -= ": finished in " in line
        if not n_finished:
            return


def until_one_is_finished_and_another_runs(process: subprocess.Popen[str]) -> None:
    """Reads what a sweep says until then."""
    assert process.stderr is not None
    running, n_finished = set(), 0
    while not (n_finished and running):
        name, _, state = process.stderr.readline().partition(": ")
        if state.startswith("running"):
            running.add(name)
        elif state.startswith("finished"):
            running.discard(name)
            n_finished += 1


def test_bad_input_is_one_message_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SWEEP.replace("seed =", "sede ="), encoding="utf-8")
    done = in_process("sweep", str(path), "--out", str(tmp_path / "out"))

    assert done.returncode == 2
    assert done.stderr.startswith(f"jetbed: {path}, [axes]: sede ")
    assert "seed?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_same_seed_has_the_same_partition_and_start_under_every_policy(undisturbed: Path) -> None:
    runs = {path.name.removeprefix("run="): emulator.load(path) for path in undisturbed.glob("run=*")}

    def of(name: str) -> tuple[list[int], list[str]]:
        devices = runs[name].devices.groupby("device_id")
        return devices["n_examples"].max().tolist(), devices["power_mode"].first().tolist()

    for seed in range(2):
        n_examples, modes = of(f"policy-legend,seed-{seed}")
        assert of(f"policy-fedlora-rank-4,seed-{seed}") == (n_examples, modes)
        buffered, buffered_modes = of(f"policy-fedbuff,seed-{seed}")
        assert buffered_modes == modes
        # A device that is not heard of in so few rounds has no examples in the table.
        assert all(seen in (0, held) for seen, held in zip(buffered, n_examples, strict=True))
        assert sum(buffered) > 0
    assert len({tuple(of(f"policy-legend,seed-{seed}")[0]) for seed in range(2)}) == 2


@dataclass(frozen=True)
class KilledSweep:
    """A sweep that was killed after two runs, on a Ray of its own."""

    out: Path
    processes: list[psutil.Process]


@pytest.fixture(scope="module")
def killed(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> KilledSweep:
    out = tmp_path_factory.mktemp("killed") / "out"
    with started("sweep", str(sweep_file), "--out", str(out)) as process:
        list(lines_until(process, n_finished=2))
        processes = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    return KilledSweep(out, processes)


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_that_is_killed_goes_on_where_it_was(sweep_file: Path, undisturbed: Path, killed: KilledSweep) -> None:
    out, before = killed.out, finished_at(killed.out)
    assert 2 <= len(before) < 6

    again = in_process("sweep", str(sweep_file), "--out", str(out), "--backend", "inline")
    assert again.returncode == 0, again.stderr
    assert set(statuses(out).values()) == {"finished"}
    assert {name: finished_at(out)[name] for name in before} == before
    for name in before:
        assert f"run {name.removeprefix('run=')}: running" not in again.stderr
    assert digests(out) == digests(undisturbed)

    third = in_process("sweep", str(sweep_file), "--out", str(out))
    assert (third.returncode, third.stderr) == (0, "6 runs: 6 finished\n")


@pytest.mark.slow
@pytest.mark.ray
def test_an_interrupted_sweep_stops_and_keeps_what_is_finished(sweep_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with started("sweep", str(sweep_file), "--out", str(out), "--hosts", "1") as process:
        until_one_is_finished_and_another_runs(process)
        processes = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    found = list(statuses(out).values())
    assert {"finished", "interrupted", "planned"} <= set(found)
    assert "running" not in found
    assert still_alive(processes, within_s=60) == []


@pytest.mark.slow
def test_a_run_that_fails_is_kept_and_stops_no_other(
    undisturbed: Path, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(BROKEN, encoding="utf-8")
    (tmp_path / "study.toml").write_text(
        SWEEP.replace('"legend", ', "").replace('"fedbuff"', '"mine:Broken"'), encoding="utf-8"
    )
    arguments = ("sweep", "study.toml", "--out", "out", "--max-parallel", "2")
    done = jetbed(*arguments, cwd=tmp_path, environment=ray_cluster.environment)

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    index = pq.read_table(tmp_path / "out" / "index.parquet").to_pylist()
    failed = [run for run in index if run["status"] == "failed"]
    assert [run["policy"] for run in failed] == ["mine:Broken"] * 2
    for run in failed:
        assert "ZeroDivisionError: nobody knows why" in run["error"]
        assert run["n_rounds"] == 1
    assert sum(run["status"] == "finished" for run in index) == 2
    expected = digests(undisturbed)
    found = {path: part for path, part in digests(tmp_path / "out").items() if "Broken" not in path}
    assert found == {path: part for path, part in expected.items() if "fedlora" in path}


@pytest.mark.slow
@pytest.mark.ray
def test_of_a_sweep_that_is_killed_nothing_goes_on_running(killed: KilledSweep) -> None:
    assert still_alive(killed.processes, within_s=30) == []
