"""A disk that takes nothing more: a run waits for it, goes on by itself, or ends so that it can be resumed."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from emulator.config import load_config
from emulator.errors import LostError
from emulator.launch.execute import config_to_resume, execute
from emulator.observers.base import Progress, RoundClosed, RunObserver
from emulator.results import verify
from emulator.results.reader import load_run
from emulator.storage.places import Place
from emulator.sweeps.execution import run_sweep
from emulator.sweeps.expansion import expand
from emulator.sweeps.folder import RunState
from emulator.sweeps.spec import read_spec
from tests.command_line import jetbed, settings, started
from tests.integration.conftest import SMALL, digests, small_run
from tests.integration.ray_cluster import RayCluster
from tests.small_disk import SmallDisk, small_disk, why_no_disk

N_ROUNDS = 4
TIMING_ONLY: dict[str, Any] = {
    "rounds": N_ROUNDS,
    "policy.path": "fedlora",
    "testbed.n_devices": 8,
    "training.enabled": False,
    "results.rounds_per_part": 1,
    "results.checkpoint_rounds": 1,
    "backend.kind": "inline",
}
TRAINED = {
    **TIMING_ONLY,
    "rounds": 2,
    "training.enabled": True,
    "training.local_steps": 1,
    "data.n_train": 40,
    "data.n_test": 16,
}
OFTEN_KEPT = (*SMALL, "results.checkpoint_rounds=1")
NOT_FOR_LONG = {"results.wait_s": 0.6}
TROUBLES = {
    "full": (SmallDisk.fill, SmallDisk.free, "No space left on device"),
    "read-only": (SmallDisk.forbid, SmallDisk.permit, "Read-only file system"),
}

pytestmark = pytest.mark.skipif(bool(why_no_disk()), reason=why_no_disk())


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with small_disk() as mounted:
        yield mounted


class Watches(RunObserver):
    """Does ``after_round`` once, when so many rounds are written, and ``on_warning`` at the first word of writing."""

    def __init__(
        self, n_rounds: int, after_round: Callable[[], object], on_warning: Callable[[], object] = lambda: None
    ) -> None:
        self.texts: list[str] = []
        self._n_rounds = n_rounds
        self._after_round = after_round
        self._on_warning = on_warning

    def round_closed(self, closed: RoundClosed) -> None:
        if closed.report.round_index + 1 == self._n_rounds:
            self._after_round()

    def warned(self, text: str) -> None:
        if " write " in text or " written " in text:
            self.texts.append(text)
            if len(self.texts) == 1:
                self._on_warning()


def run(given: Mapping[str, Any], out: Path, *observers: RunObserver) -> Place:
    return execute(load_config(None, list(given.items())), out, observers)


def files_of(folder: Path) -> dict[str, bytes]:
    """Tables and adapter of a run, without what tells of the wall."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    left_out = ("run.json", "host/", "checkpoint/")
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(left_out)}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("n_rounds", [1, N_ROUNDS])
def test_a_run_goes_on_by_itself_when_it_can_write_again(
    trouble: str, n_rounds: int, disk: SmallDisk, tmp_path: Path
) -> None:
    begin, end, reason = TROUBLES[trouble]
    out, watches = disk.folder / "run", Watches(n_rounds, lambda: begin(disk), lambda: end(disk))
    run(TIMING_ONLY, out, watches)

    waits, goes_on = watches.texts
    assert waits.startswith("cannot write ")
    assert f"({reason})" in waits
    assert str(out) in waits
    assert "can be written again" in goes_on
    assert files_of(out) == files_of(run(TIMING_ONLY, tmp_path / "undisturbed"))
    info = load_run(out).info
    assert (info["status"], info["n_rounds"], info.get("warning")) == ("finished", N_ROUNDS, None)
    verify(load_run(out))


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("n_rounds", [1, 3])
def test_a_run_that_waited_in_vain_says_why_and_is_resumed_to_the_same_bytes(
    trouble: str, n_rounds: int, disk: SmallDisk, tmp_path: Path
) -> None:
    begin, end, reason = TROUBLES[trouble]
    out, watches = disk.folder / "run", Watches(n_rounds, lambda: begin(disk))
    with pytest.raises(LostError) as ended:
        run(TIMING_ONLY | NOT_FOR_LONG, out, watches)
    end(disk)

    assert f"({reason}) for 1 s" in str(ended.value)
    assert f"'jetbed resume {out}' goes on" in str(ended.value)
    assert len(watches.texts) == 1
    execute(config_to_resume(out), out, resumes=True)
    assert files_of(out) == files_of(run(TIMING_ONLY, tmp_path / "undisturbed"))


def test_a_run_that_is_not_to_wait_ends_at_once(disk: SmallDisk) -> None:
    watches = Watches(2, disk.fill)
    with pytest.raises(LostError, match=r"\(No space left on device\): .*; free the disk, then 'jetbed resume"):
        run({**TIMING_ONLY, "results.wait_s": 0.0}, disk.folder / "run", watches)
    assert watches.texts == []


def test_a_disk_that_is_full_as_the_first_round_ends_leaves_nothing_to_resume(disk: SmallDisk) -> None:
    class Fills(RunObserver):
        def progressed(self, progress: Progress) -> None:
            disk.fill()

    given = {**TRAINED, **NOT_FOR_LONG}
    with pytest.raises(LostError, match="free the disk, then start it again"):
        run(given, disk.folder / "run", Fills())
    disk.free()
    assert not (disk.folder / "run" / "run.json").exists()
    run(TRAINED, disk.folder / "run")


@pytest.mark.slow
def test_the_adapter_waits_as_well(disk: SmallDisk, tmp_path: Path) -> None:
    out, watches = disk.folder / "run", Watches(N_ROUNDS, lambda: None, on_warning=disk.free)
    run(TRAINED, tmp_path / "undisturbed")
    run(TRAINED, out)
    # As if it had died behind its last round.
    for path in (out / "adapter").iterdir():
        path.unlink()
    (out / "run.json").write_text((out / "run.json").read_text().replace('"finished"', '"running"'))
    disk.fill()
    execute(config_to_resume(out), out, [watches], resumes=True)

    assert watches.texts[0].startswith("cannot write the adapter (No space left on device)")
    assert files_of(out) == files_of(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("send", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_wait_and_the_run_can_be_resumed(send: int, disk: SmallDisk, tmp_path: Path) -> None:
    out = disk.folder / "run"
    given = {**TIMING_ONLY, "rounds": 30, "pace": "realtime(40)"}
    command = ("run", *settings([f"{key}={_toml(value)}" for key, value in given.items()]), "--out", str(out))
    with started(*command) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round 3/"):
                disk.fill()
            if "cannot write" in line:
                os.kill(process.pid, send)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=20) == 130, rest
    assert "what was written is whole" in rest
    disk.free()

    assert jetbed("resume", str(out)).returncode == 0
    assert files_of(out) == files_of(run({**given, "pace": "virtual"}, tmp_path / "undisturbed"))


def _toml(value: Any) -> str:
    return repr(value).lower() if isinstance(value, bool) else repr(value)


@pytest.fixture(scope="module")
def undisturbed_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("undisturbed") / "run", rounds=4, overrides=OFTEN_KEPT)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("comes_back", [True, False])
def test_on_ray_the_coordinator_waits_and_the_terminal_says_so(
    comes_back: bool, ray_cluster: RayCluster, disk: SmallDisk, undisturbed_small: Path
) -> None:
    out = disk.folder / "run"
    wait_s = 60 if comes_back else 1
    told: list[str] = []
    overrides = settings((*OFTEN_KEPT, f"results.wait_s={wait_s}"))
    command = ("run", "--rounds", "4", "--out", str(out), "--backend", "ray", "--hosts", "1", *overrides)
    with started(*command, environment=ray_cluster.environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round 1/"):
                disk.fill()
            if line.startswith("jetbed: "):
                told.append(line)
                if comes_back and "cannot write" in line:
                    disk.free()
        status = process.wait(timeout=120)

    assert "(No space left on device)" in told[0]
    if comes_back:
        assert (status, "can be written again" in told[-1]) == (0, True)
    else:
        assert (status, "jetbed resume" in told[-1]) == (2, True)
        disk.free()
        small_run(out, rounds=4, overrides=OFTEN_KEPT)  # which goes on, in this process
    assert digests(out) == digests(undisturbed_small)


class SweepDisplay:
    """Fills the disk as the first run is finished, and does ``on_warning`` at each warning."""

    def __init__(self, disk: SmallDisk, on_warning: Callable[[], object]) -> None:
        self.texts: list[str] = []
        self._disk = disk
        self._on_warning = on_warning
        self._is_filled = False

    def show(self, states: Mapping[str, RunState], progress: Mapping[str, Progress]) -> None:
        if not self._is_filled and any(state.status == "finished" for state in states.values()):
            self._is_filled = True
            self._disk.fill()

    def warned(self, text: str) -> None:
        self.texts.append(text)
        self._on_warning()


def test_a_sweep_waits_for_its_index_and_its_runs(disk: SmallDisk, tmp_path: Path) -> None:
    base = {key: value for key, value in TIMING_ONLY.items() if key != "policy.path"}
    (tmp_path / "two.toml").write_text("[axes]\nseed = [0, 1]\n")
    sweep = expand(read_spec(tmp_path / "two.toml"), list(base.items()), {})
    display = SweepDisplay(disk, on_warning=lambda: len(display.texts) == 1 and disk.free())
    states = run_sweep(sweep, disk.folder / "two", display)

    assert display.texts[0].startswith("cannot write the sweep's folder (No space left on device)")
    assert [state.status for state in states.values()] == ["finished", "finished"]
    assert {path.name for path in (disk.folder / "two").glob("*")} >= {"index.parquet", "run=seed-0", "run=seed-1"}
