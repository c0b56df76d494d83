"""Runs whose payloads are compressed: the same bytes wherever they are trained and whenever they go on."""

from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator.config import Config, load_config
from emulator.errors import UserError
from emulator.launch.execute import config_to_resume, execute
from emulator.policy.catalog import policy_class, policy_names
from emulator.results import verify
from emulator.results.reader import load_run
from tests.command_line import in_process
from tests.integration.conftest import TABLES, sweep_of
from tests.integration.conftest import digests as tables_of
from tests.integration.ray_cluster import RayCluster
from tests.integration.test_resume import TROUBLE, Killed, KillsAfter, digests

TOPK = {"compression.upload": "topk", "compression.topk_fraction": 0.05, "compression.error_feedback": True}
INT8 = {"compression.upload": "int8", "compression.download": "int8", "compression.error_feedback": True}
SMALL = {**TROUBLE, "testbed.n_devices": 6, "rounds": 3}


def settings(**changes: Any) -> Config:
    return load_config(None, list({**SMALL, **changes}.items()))


@pytest.mark.slow
@pytest.mark.parametrize("asked", [TOPK, INT8])
@pytest.mark.parametrize("policy", ["legend", "fedbuff", "hierfedlora"])
def test_a_run_that_died_at_any_round_has_the_bytes_of_one_that_did_not(
    policy: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(**{"policy.path": policy}, **asked)
    whole = execute(config, tmp_path / "whole")
    for n_rounds in (2, 3):
        died = tmp_path / f"died-{n_rounds}"
        with pytest.raises(Killed):
            execute(config, died, [KillsAfter(n_rounds)])
        execute(config_to_resume(died), died, resumes=True)
        assert digests(died) == digests(whole)


@pytest.mark.slow
def test_hosts_give_the_bytes_of_one_process(ray_cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """More device ids than a block has, and updates that are so large that hosts add them up themselves."""
    overrides = (
        "testbed.n_devices=132",
        "data.n_train=600",
        "data.n_test=50",
        "training.local_steps=1",
        "training.batch_size=1",
        "data.seq_len=8",
        "data.partition.scheme=iid",
        "policy.rank=32",
        *(f"{key}={str(value).lower()}" for key, value in INT8.items()),
    )
    inline = sweep_of(("fedlora",), tmp_path_factory.mktemp("inline"), rounds=2, overrides=overrides)
    two_hosts = ("--hosts", "2", "--max-parallel", "1")
    on_ray = sweep_of(
        ("fedlora",), tmp_path_factory.mktemp("ray"), *two_hosts, rounds=2, overrides=overrides, cluster=ray_cluster
    )
    assert len(tables_of(inline["fedlora"])) == 2 * len(TABLES)
    assert tables_of(on_ray["fedlora"]) == tables_of(inline["fedlora"])
    adapters = [run["fedlora"] / "adapter" / "adapter_model.safetensors" for run in (inline, on_ray)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.parametrize(("kind", "n_bytes"), [("fp16", lambda n: 2 * n), ("topk", lambda n: 8 * -(-n // 100))])
def test_the_network_carries_what_the_encoding_takes_and_what_is_learnt_is_what_arrived(
    kind: str, n_bytes: Any, tmp_path: Path
) -> None:
    quiet = {"testbed.availability": {}, "rounds": 2, "policy.path": "fedlora"}
    plain = execute(settings(**quiet), tmp_path / "plain")
    smaller = execute(settings(**quiet, **{"compression.upload": kind}), tmp_path / "smaller")
    devices = [emulator.load(run).devices.set_index(["round_index", "device_id"]) for run in (plain, smaller)]
    assert (devices[1]["upload_bytes"] == (devices[0]["upload_bytes"] // 4).map(n_bytes)).all()
    assert (devices[1]["download_bytes"] == devices[0]["download_bytes"]).all()
    assert (devices[1]["upload_s"] < devices[0]["upload_s"]).all()
    losses = [emulator.load(run).rounds["loss"] for run in (plain, smaller)]
    assert (losses[0] != losses[1]).all()
    verify(emulator.load(smaller))
    assert load_run(smaller).info["config"]["compression"]["upload"] == kind


@pytest.mark.slow
@pytest.mark.parametrize("policy", policy_names())
def test_every_policy_takes_compression_or_says_why_not(policy: str, tmp_path: Path) -> None:
    asked = {"compression.upload": "int8", "compression.download": "fp16", "compression.error_feedback": True}
    given: dict[str, Any] = {"policy.path": policy, "rounds": 2, "testbed.availability": {}, **asked}
    if policy_class(policy).protocol.exchanges_steps:
        with pytest.raises(UserError, match=r"compression.upload encodes .* cuts the model"):
            execute(settings(**given, **{"model.train": "builtin:cnn", "data.source": "builtin:digits"}), tmp_path)
        return
    try:
        run = execute(settings(**given), tmp_path / "run")
    except UserError as error:
        assert "train adapters that begin anew within a run" in str(error)  # noqa: PT017
        run = execute(settings(**{**given, "compression.error_feedback": False}), tmp_path / "again")
    verify(load_run(run))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--policy", "splitfed", "--set", "compression.upload=fp16"), "policies.splitfed:SplitFed cuts the model"),
        (("--policy", "mergesfl", "--set", "compression.download=int8"), "compression.download encodes what devices"),
        (
            ("--policy", "flora", "--set", "compression.upload=topk", "--set", "compression.error_feedback=true"),
            "policies.flora:Flora train adapters that begin anew within a run; set it to false",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    images = ("model.train=builtin:cnn", "data.source=builtin:digits") if arguments[1] != "flora" else ()
    options = [part for each in images for part in ("--set", each)]
    told = in_process("run", *arguments, *options, "--backend", "inline", "--out", str(out))
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert message in told.stderr
    assert not out.exists()
