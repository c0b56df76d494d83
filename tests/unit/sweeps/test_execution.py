"""Sweeps that are started, stopped, changed and started again; eight devices without training, in this process."""

import fcntl
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.errors import UserError
from emulator.sweeps import execution
from emulator.sweeps.estimate import estimate
from emulator.sweeps.execution import run_sweep
from emulator.sweeps.folder import index_table
from tests.unit.sweeps.conftest import BASE, GRID, MakeSweep
from tests.unit.sweeps.silent import Silent

CONDITIONS = ["round_index", "device_id", "profile", "power_mode", "downlink_bytes_per_s", "uplink_bytes_per_s",
              "memory_limit_bytes"]  # fmt: skip


def statuses(folder: Path) -> dict[str, str]:
    index = pq.read_table(folder / "index.parquet")
    return dict(zip(index["run"].to_pylist(), index["status"].to_pylist(), strict=True))


def test_the_same_seed_has_the_same_conditions_under_every_policy(make_sweep: MakeSweep, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_sweep(make_sweep(base=BASE.replace("rounds = 2", "rounds = 25")), out, Silent())
    legend, other_seed, fedlora = (
        emulator.load(out / f"run={name}").devices
        for name in ("policy-legend,seed-0", "policy-legend,seed-1", "policy-fedlora-rank-4,seed-0")
    )

    pd.testing.assert_frame_equal(legend[CONDITIONS], fedlora[CONDITIONS])
    assert legend["power_mode"].groupby(legend["device_id"]).nunique().max() > 1
    assert not legend["depth"].equals(fedlora["depth"])
    assert not legend[CONDITIONS].equals(other_seed[CONDITIONS])


def test_a_finished_sweep_that_is_started_again_runs_nothing(make_sweep: MakeSweep, tmp_path: Path) -> None:
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    again = Silent()
    states = run_sweep(make_sweep(), tmp_path / "out", again)

    assert again.events == []
    assert {state.status for state in states.values()} == {"finished"}


def test_more_seeds_are_added_to_what_is_finished(make_sweep: MakeSweep, tmp_path: Path) -> None:
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    again = Silent()
    run_sweep(make_sweep(GRID.replace("[0, 1]", "[0, 1, 2]")), tmp_path / "out", again)

    assert [name for name, status in again.events if status == "running"] == [
        "policy-legend,seed-2",
        "policy-fedlora-rank-4,seed-2",
    ]
    assert list(statuses(tmp_path / "out").values()) == ["finished"] * 6


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_end_is_replaced_and_the_others_stay(
    make_sweep: MakeSweep, tmp_path: Path, status: str
) -> None:
    out = tmp_path / "out"
    run_sweep(make_sweep(), out, Silent())
    half_made = out / "run=policy-legend,seed-1"
    expected = (half_made / "devices" / "part-00000.parquet").read_bytes()
    info = json.loads((half_made / "run.json").read_text())
    (half_made / "run.json").write_text(json.dumps(info | {"status": status}))
    (half_made / "devices" / "part-00007.parquet").write_bytes(b"left behind")

    again = Silent()
    run_sweep(make_sweep(), out, again)
    assert again.events == [("policy-legend,seed-1", "running"), ("policy-legend,seed-1", "finished")]
    assert [path.read_bytes() for path in sorted((half_made / "devices").iterdir())] == [expected]


@pytest.mark.parametrize(
    ("text", "base", "expected"),
    [
        (GRID, BASE.replace("rounds = 2", "rounds = 3"), "rounds was 2 and is now 3"),
        (GRID, BASE + 'testbed.cluster = "orin-mix"\n', "testbed.cluster was 'jetson80' and is now 'orin-mix'"),
        (GRID.replace("[0, 1]", "[0]"), BASE, "holds the run policy-fedlora-rank-4,seed-1, which is not one of"),
    ],
)
def test_a_changed_sweep_does_not_mix_with_what_is_finished(
    make_sweep: MakeSweep, tmp_path: Path, text: str, base: str, expected: str
) -> None:
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}

    with pytest.raises(UserError) as caught:
        run_sweep(make_sweep(text, base=base), tmp_path / "out", Silent())
    assert expected in str(caught.value)
    assert "choose another --out" in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_where_runs_are_carried_out_is_no_change(make_sweep: MakeSweep, tmp_path: Path) -> None:
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    again = Silent()
    run_sweep(make_sweep(base=BASE + "backend.hosts = 2\n"), tmp_path / "out", again)

    assert again.events == []


def test_a_cluster_file_that_changed_is_a_change(make_sweep: MakeSweep, tmp_path: Path) -> None:
    cluster = tmp_path / "mine.toml"
    cluster.write_text('inherits = "jetson80"\n')
    base = BASE + f'testbed.cluster = "{cluster}"\n'
    run_sweep(make_sweep(base=base), tmp_path / "out", Silent())
    cluster.write_text('inherits = "jetson80"\ntitle = "Mine"\n')

    with pytest.raises(UserError, match=r"finished with other settings [(]the cluster file has changed"):
        run_sweep(make_sweep(base=base), tmp_path / "out", Silent())


def test_a_folder_that_holds_something_else_is_refused(make_sweep: MakeSweep, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()

    with pytest.raises(UserError, match=r"holds 'thesis\.tex'; choose another --out"):
        run_sweep(make_sweep(), tmp_path / "out", Silent())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_two_sweeps_do_not_write_into_the_same_folder(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "PATIENCE_S", 0.1)
    run_sweep(make_sweep(), tmp_path / "out", Silent())
    # A run of a killed sweep that still goes on holds this one.
    with (tmp_path / "out" / execution.RUNS_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="another sweep is writing into this folder"):
            run_sweep(make_sweep(), tmp_path / "out", Silent())


def test_a_sweep_that_has_to_wait_leaves_the_folder_as_it_is(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "PATIENCE_S", 0.1)
    out = tmp_path / "out"
    run_sweep(make_sweep(), out, Silent())
    before = (out / "sweep.json").read_bytes()
    with (out / execution.SWEEP_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another sweep is writing into this folder"):
            run_sweep(make_sweep(GRID.replace("[0, 1]", "[0, 1, 2]")), out, Silent())
    assert (out / "sweep.json").read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [{"n_rounds": "x", "wall_s": "y"}, {"n_rounds": 2**40}, {"n_rounds": -1}, {"error": 3}, {"status": ["finished"]}],
)
def test_a_damaged_run_is_run_again(make_sweep: MakeSweep, tmp_path: Path, damage: dict[str, Any]) -> None:
    out = tmp_path / "out"
    run_sweep(make_sweep(), out, Silent())
    path = out / "run=policy-legend,seed-1" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))

    again = Silent()
    states = run_sweep(make_sweep(), out, again)
    assert again.events == [("policy-legend,seed-1", "running"), ("policy-legend,seed-1", "finished")]
    assert states["policy-legend,seed-1"].n_rounds == 2


def test_whatever_ends_one_run_does_not_end_the_others(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*given: object, **named: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(execution, "execute", leave)
    states = run_sweep(make_sweep(), tmp_path / "out", Silent())
    assert [(state.status, state.error) for state in states.values()] == [("failed", "SystemExit: 3")] * 4


def test_a_run_of_a_later_version_is_not_removed(make_sweep: MakeSweep, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_sweep(make_sweep(), out, Silent())
    path = out / "run=policy-legend,seed-1" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))

    with pytest.raises(UserError, match=r"later version of jetbed.*99"):
        run_sweep(make_sweep(), out, Silent())
    assert json.loads(path.read_text())["schema_version"] == 99


def test_a_policy_that_wants_to_end_the_process_ends_its_run(make_sweep: MakeSweep, tmp_path: Path) -> None:
    text = '[axes]\npolicy = ["tests.unit.sweeps.failing:Leaving", "fedlora"]\n'
    states = run_sweep(make_sweep(text), tmp_path / "out", Silent())

    assert [state.status for state in states.values()] == ["failed", "finished"]
    assert "plan() raised SystemExit: 3" in str(next(iter(states.values())).error)


def test_a_run_that_fails_says_why_in_the_index(make_sweep: MakeSweep, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = '[axes]\npolicy = ["legend", "tests.unit.sweeps.failing:Failing", "fedlora"]\n'
    states = run_sweep(make_sweep(text), out, Silent())

    assert [state.status for state in states.values()] == ["finished", "failed", "finished"]
    row = pq.read_table(out / "index.parquet").to_pylist()[1]
    assert (row["status"], row["n_rounds"]) == ("failed", 0)
    assert "nobody knows why" in row["error"]


def test_an_interrupt_keeps_what_is_finished_and_marks_what_was_under_way(
    make_sweep: MakeSweep, tmp_path: Path
) -> None:
    class Impatient(Silent):
        def warned(self, text: str) -> None: ...

        def show(self, states: object, progress: object) -> None:
            super().show(states, progress)  # type: ignore[arg-type]
            if self.events[-1:] == [("policy-legend,seed-1", "running")]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(make_sweep(), tmp_path / "out", Impatient())
    assert list(statuses(tmp_path / "out").values()) == ["finished", "interrupted", "planned", "planned"]

    run_sweep(make_sweep(), tmp_path / "out", Silent())
    assert list(statuses(tmp_path / "out").values()) == ["finished"] * 4


def test_inline_runs_are_not_asked_to_go_side_by_side(make_sweep: MakeSweep, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got --max-parallel 2"):
        run_sweep(make_sweep(), tmp_path / "out", Silent(), max_parallel=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("axis", "kind"),
    [("rounds = [2, 3]", "int64"), ("training.dropout = [true, false]", "bool"),
     ("training.learning_rate = [1, 0.5]", "double"), ('testbed.link = ["none", "home-wifi"]', "string")],
)  # fmt: skip
def test_a_column_of_the_index_has_the_type_of_its_axis(make_sweep: MakeSweep, axis: str, kind: str) -> None:
    table = index_table(make_sweep(f"[axes]\n{axis}\n").runs, {})

    assert str(table.schema.field(axis.partition(" ")[0]).type) == kind
    assert table["status"].to_pylist() == ["planned"] * 2


def test_an_estimate_leaves_out_what_is_finished_and_writes_nothing(make_sweep: MakeSweep, tmp_path: Path) -> None:
    found = estimate(make_sweep(), tmp_path / "out", 0)
    assert not (tmp_path / "out").exists()
    assert len(found.wall_s) == 4
    assert 0 < found.total_s < 10
    assert (found.n_hosts, found.n_parallel) == (0, 1)

    run_sweep(make_sweep(), tmp_path / "out", Silent())
    found = estimate(make_sweep(), tmp_path / "out", 0)
    assert (len(found.finished), dict(found.wall_s), found.total_s) == (4, {}, 0)
