"""Runs and sweeps whose results lie on an S3 server: the files of a local folder, to the byte, for every command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.config import load_config, parse_setting
from emulator.errors import LostError
from emulator.launch.execute import execute
from emulator.observers.base import RoundClosed, RunObserver
from emulator.storage.places import Place, RemotePath, listed, place
from tests.command_line import in_process, jetbed, settings
from tests.s3_server import BUCKET, Gate, s3_server

ROUNDS = 3
SMALL = settings(
    [
        f"rounds={ROUNDS}",
        "testbed.n_devices=4",
        "training.local_steps=1",
        "training.batch_size=2",
        "data.n_train=40",
        "data.n_test=16",
        "results.checkpoint_rounds=1",
        "backend.kind='inline'",
    ]
)
SWEEP = """
name = "two"

[base]
rounds = 2

[base.testbed]
n_devices = 4

[base.training]
enabled = false

[base.backend]
kind = "inline"

[axes]
seed = [0, 1]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def files_of(folder: Place) -> dict[str, bytes]:
    """All files below a folder by their path in it."""
    found: dict[str, bytes] = {}
    for each in listed(folder):
        if each.is_dir():
            found |= {f"{each.name}/{name}": content for name, content in files_of(each).items()}
        else:
            found[each.name] = each.read_bytes()
    return found


def what_is_the_same(files: dict[str, bytes]) -> dict[str, Any]:
    """Without what tells of the wall: the table ``host``, and some keys of ``run.json``."""
    info = json.loads(files["run.json"])
    same = {name: content for name, content in files.items() if not name.startswith("host/") and name != "run.json"}
    left_out = ("started_at", "wall_s", "n_resumed")
    return {**same, "run.json": {key: value for key, value in info.items() if key not in left_out}}


@pytest.fixture(scope="module")
def local(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in a folder of this machine."""
    out = tmp_path_factory.mktemp("local") / "run"
    assert jetbed("run", *SMALL, "--out", str(out)).returncode == 0
    return out


def killed_after_a_checkpoint(out: str) -> None:
    """Start the run and kill it where it cannot notice."""
    process = subprocess.Popen([sys.executable, "-m", "emulator.cli", "run", *SMALL, "--out", out])
    try:
        index = place(out) / "checkpoint" / "checkpoint.json"
        while not index.exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_run_on_a_storage_has_the_files_and_bytes_of_a_local_one(local: Path) -> None:
    url = f"s3://{BUCKET}/runs/whole"

    ended = in_process("run", *SMALL, "--out", url)

    assert ended.returncode == 0, ended.stderr
    assert what_is_the_same(files_of(place(url))) == what_is_the_same(files_of(local))
    assert "adapter/adapter_config.json" in files_of(place(url))


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(local: Path) -> None:
    url = f"s3://{BUCKET}/runs/killed"
    killed_after_a_checkpoint(url)

    ended = in_process("resume", url)

    assert ended.returncode == 0, ended.stderr
    assert "another process has been writing here" in ended.stderr
    assert what_is_the_same(files_of(place(url))) == what_is_the_same(files_of(local))


@pytest.mark.slow
def test_every_command_reads_and_writes_as_it_does_here(local: Path, tmp_path: Path) -> None:
    url, pages = f"s3://{BUCKET}/runs/read", f"s3://{BUCKET}/pages"
    for name, content in files_of(local).items():
        remote = place(f"{url}/{name}")
        assert isinstance(remote, RemotePath)
        remote.write_bytes(content)

    for command, name in (("timeline", "t.json"), ("report", "page.html"), ("compare", "c.csv")):
        for run, out in ((url, f"{pages}/{name}"), (str(local), str(tmp_path / name))):
            ended = in_process(command, run, "--out", out)
            assert ended.returncode == 0, ended.stderr
    assert in_process("summary", url).stdout == in_process("summary", str(local)).stdout.replace(str(local), url)
    assert place(f"{pages}/t.json").read_bytes() == (tmp_path / "t.json").read_bytes()
    assert place(f"{pages}/c.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()
    assert place(f"{pages}/page.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert emulator.load(url).devices.equals(emulator.load(local).devices)


@pytest.mark.slow
def test_a_sweep_runs_goes_on_and_is_compared(server: str, tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(SWEEP)
    url = f"s3://{BUCKET}/sweep"
    for out in (url, str(tmp_path / "two")):
        ended = in_process("sweep", str(tmp_path / "two.toml"), "--out", out)
        assert ended.returncode == 0, ended.stderr

    remote, here = files_of(place(url)), files_of(tmp_path / "two")
    place(f"{url}/run=seed-1/run.json").unlink()
    again = in_process("sweep", str(tmp_path / "two.toml"), "--out", url)

    assert {name for name in here if not name.endswith(".lock")} == set(remote) == set(files_of(place(url)))
    assert again.stderr.count("running") == 2, again.stderr  # of the run that lacked its end, in two counts
    assert "2 finished" in again.stdout
    assert in_process("sweep", str(tmp_path / "two.toml"), "--out", url, "--dry-run").returncode == 0
    assert in_process("compare", url).stdout == in_process("compare", str(tmp_path / "two")).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://nowhere/run", "there is no such bucket"),
        ("ftp://host/run", "begins with file://, s3://, gs:// or hdfs://"),
        ("s3://results/run?endpoint_override=127.0.0.1:1&scheme=http", "the storage cannot be reached"),
    ],
)
def test_what_cannot_be_reached_is_one_sentence_before_anything_starts(url: str, message: str, server: str) -> None:
    for command in (("run", *SMALL, "--out", url), ("resume", url), ("summary", url)):
        ended = in_process(*command)

        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
        assert message in ended.stderr


@pytest.mark.slow
def test_an_observer_that_writes_files_of_its_own_is_refused_by_name(server: str) -> None:
    url = f"s3://{BUCKET}/runs/observed"
    ended = in_process(
        "run", *SMALL, "--set", "observers=[{path='emulator.observers.tensorboard:TensorBoard'}]", "--out", url
    )

    assert ended.returncode == 2
    assert "TensorBoard writes files of its own" in ended.stderr
    assert files_of(place(url)) == {}


TIMING_ONLY = settings(
    [
        "rounds=4",
        "policy.path='fedlora'",
        "testbed.n_devices=4",
        "training.enabled=false",
        "results.rounds_per_part=1",
        "results.checkpoint_rounds=1",
    ]
)


class ShutsAfterTwoRounds(RunObserver):
    """Lets the storage be away from the second round on, and, if it is to come back, until the run waits."""

    def __init__(self, gate: Gate, comes_back: bool) -> None:
        self.texts: list[str] = []
        self._gate = gate
        self._comes_back = comes_back

    def round_closed(self, closed: RoundClosed) -> None:
        if closed.report.round_index == 1:
            self._gate.shut()

    def warned(self, text: str) -> None:
        self.texts.append(text)
        if self._comes_back and len(self.texts) == 1:
            self._gate.open()


@pytest.mark.slow
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_run_waits_for_a_storage_that_is_away(
    comes_back: bool, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, url = Gate(server), f"s3://{BUCKET}/runs/away-{comes_back}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.endpoint)
    watches = ShutsAfterTwoRounds(gate, comes_back)
    given = [parse_setting(text) for text in TIMING_ONLY[1::2]]
    config = load_config(None, [*given, ("results.wait_s", 60.0 if comes_back else 0.1)])
    try:
        if comes_back:
            execute(config, place(url), [watches])
        else:
            with pytest.raises(LostError) as ended:
                execute(config, place(url), [watches])
            gate.open()
            assert "(the storage cannot be reached; is the network up" in str(ended.value)
            assert f"see to the storage, then 'jetbed resume {url}' goes on" in str(ended.value)
            resumed = in_process("resume", url)
            assert resumed.returncode == 0, resumed.stderr
        remote = what_is_the_same(files_of(place(url)))
    finally:
        gate.shut()

    assert "the storage cannot be reached" in watches.texts[0]
    local = what_is_the_same(files_of(execute(load_config(None, given), tmp_path / "run")))
    for info in (remote["run.json"], local["run.json"]):
        del info["config"]["results"]["wait_s"]
    assert remote == local
