"""The observers that ship with jetbed, each against the real library, offline: what it reads back is what was run."""

import os
import re
import struct
from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.results.reader import RunFrames

# Two groups in each round, of which some figures are drawn by themselves.
SETTINGS: dict[str, Any] = {
    "training.enabled": False,
    "rounds": 3,
    "testbed.n_devices": 4,
    "policy.path": "tests.unit.observers.made_policies:TwoGroups",
}

BLOCK, WHOLE, LAST = 32_768, 1, 4
"""Of an offline file of wandb."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library looks for a server, tells its makers anything, or takes settings from whoever runs the tests."""
    for name in filter(re.compile("MLFLOW_|WANDB_").match, tuple(os.environ)):
        monkeypatch.delenv(name)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")


def observed(out: Path, path: str, **parameters: Any) -> RunFrames:
    named = {"path": f"emulator.observers.{path}", **parameters}
    run = emulator.emulate({**SETTINGS, "observers": [named]}, out=out)
    assert "observer_failures" not in run.info
    return run


def test_tensorboard_has_each_round_at_its_emulated_second(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    run = observed(tmp_path / "run", "tensorboard:TensorBoard")
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    scalars = events.Tensors("mean_waiting_s")

    assert [scalar.step for scalar in scalars] == [0, 1, 2]
    assert [scalar.wall_time for scalar in scalars] == run.rounds["end_s"].tolist()
    drawn = [float(make_ndarray(scalar.tensor_proto)) for scalar in scalars]
    assert drawn == pytest.approx(run.rounds["mean_waiting_s"].tolist(), rel=1e-6)  # stored in single precision
    assert {"energy_j", "n_bytes", "emulated_s", "group_0/waiting_s"} <= set(events.Tags()["tensors"])


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [False, True])
def test_mlflow_has_settings_metrics_and_how_the_run_ended(tmp_path: Path, is_shared: bool) -> None:
    from mlflow import MlflowClient

    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    run = observed(tmp_path / "run", "mlflow:MLflow", tracking_uri=shared if is_shared else "", experiment="boards")
    client = MlflowClient(tracking_uri=shared if is_shared else f"sqlite:///{run.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("boards")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])

    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    assert found.data.params["testbed.n_devices"] == "4"
    history = client.get_metric_history(found.info.run_id, "energy_j")
    assert [metric.value for metric in history] == run.rounds["energy_j"].tolist()
    assert [metric.step for metric in history] == [0, 1, 2]
    assert [metric.timestamp for metric in history] == [round(end_s * 1000) for end_s in run.rounds["end_s"]]
    assert "group_1/waiting_s" in found.data.metrics


@pytest.mark.slow
def test_the_offline_file_of_wandb_has_every_round_and_its_axis(tmp_path: Path) -> None:
    import wandb

    run = observed(tmp_path / "run", "wandb:WandB", project="boards")
    wandb.teardown()  # a process of wandb's own writes the file, and may not have come to its end
    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    records = read_wandb(file)

    (described,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (described.project, described.display_name) == ("boards", "run")
    history = [record.history for record in records if record.WhichOneof("record_type") == "history"]
    rows = [{item.key or item.nested_key[0]: float(item.value_json) for item in each.item} for each in history]
    assert [row["_step"] for row in rows] == [0, 1, 2]
    assert [row["emulated_s"] for row in rows] == run.rounds["end_s"].tolist()
    assert [row["energy_j"] for row in rows] == run.rounds["energy_j"].tolist()
    metrics = [record.metric for record in records if record.WhichOneof("record_type") == "metric"]
    assert ("*", "emulated_s") in [(metric.glob_name, metric.step_metric) for metric in metrics]
    (exit_record,) = [record.exit for record in records if record.WhichOneof("record_type") == "exit"]
    assert exit_record.exit_code == 0


def read_wandb(file: Path) -> list[Any]:
    """The records of an offline file, each parsed by wandb's own protocol.

    It is a log as of LevelDB: 7 bytes that say that it is of W&B, then blocks of 32,768 bytes. Each piece in them has
    a checksum (4 bytes), its length (2) and whether it is a whole record, or the first, a middle or the last of one.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, offset, records, pieces = file.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while offset + 7 <= len(data):
        if BLOCK - offset % BLOCK < 7:
            offset += BLOCK - offset % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, offset)
        pieces += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (WHOLE, LAST):
            records.append(Record.FromString(pieces))
            pieces = b""
    return records
