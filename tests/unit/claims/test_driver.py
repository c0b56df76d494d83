"""Groups are carried out side by side, each goes on where it was, and one that is refused stops no other."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims.driver import carry_out
from benchmarks.claims.figures import finished_runs
from benchmarks.claims.plan import Group


def group(name: str, **settings: Any) -> Group:
    base = {"rounds": 2, "training": {"enabled": False}, "testbed": {"n_devices": 4}, **settings}
    return Group(
        label=name,
        place=Path("a-setting", "a-claim", name),
        sweep={"name": name, "base": base, "axes": {"seed": [0, 1]}},
    )


@pytest.mark.slow
def test_groups_go_side_by_side_and_on_where_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = group("good"), group("bad", policy="no-such-policy")

    assert carry_out([bad, good], tmp_path, 2) == [bad]

    assert len(finished_runs(tmp_path / good.place)) == 2
    said = capsys.readouterr().out.splitlines()
    assert "a-setting/a-claim/good: finished" in said
    assert any(line.startswith("a-setting/a-claim/bad: ended with status 2: ") for line in said)

    written = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("rounds/*.parquet"))
    assert carry_out([good], tmp_path, 1) == []
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("rounds/*.parquet")) == written


@pytest.mark.slow
def test_an_interrupt_ends_the_sweeps_in_order_and_they_go_on(tmp_path: Path) -> None:
    long = group("long", rounds=400)

    def interrupt_once_begun() -> None:
        until_s = time.monotonic() + 120
        # Of two parts the first has a checkpoint behind it.
        while len(list(tmp_path.rglob("rounds/*.parquet"))) < 2 and time.monotonic() < until_s:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt_once_begun)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        carry_out([long, group("never")], tmp_path, 1)
    watcher.join()

    assert not (tmp_path / "a-setting/a-claim/never").exists()
    assert "interrupted" in (tmp_path / "a-setting/a-claim/long.log").read_text()
    first = min(tmp_path.rglob("rounds/*.parquet"))
    written_ns = first.stat().st_mtime_ns

    assert carry_out([long], tmp_path, 1) == []
    assert [len(run.rounds) for run in finished_runs(tmp_path / long.place)] == [400, 400]
    assert first.stat().st_mtime_ns == written_ns
