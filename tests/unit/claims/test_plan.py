"""Sweeps of claims: which settings override which, and where they lie."""

import argparse
import tomllib
from pathlib import Path

import pytest
import tomli_w

from benchmarks.claims.__main__ import SYSTEMS, planned
from benchmarks.claims.options import given
from benchmarks.claims.plan import (
    HERE,
    SIZES,
    WORLDS,
    Group,
    Setting,
    groups,
    merged,
    own_world,
    policies,
    search_groups,
    slug,
)
from emulator.errors import ConfigError
from emulator.sweeps.expansion import Sweep, expand
from emulator.sweeps.spec import read_spec

REAL = {"model": {"train": "/a/model"}, "data": {"source": "/a/train.tsv", "test_source": "/a/dev.tsv"}}


def expanded(group: Group, folder: Path) -> Sweep:
    file = folder / "sweep.toml"
    file.write_text(tomli_w.dumps(dict(group.sweep)), encoding="utf-8")
    return expand(read_spec(file))


def test_tables_are_merged_key_by_key() -> None:
    lower = {"rounds": 20, "data": {"source": "a", "alpha": 1.0}}

    assert merged(lower, {"data": {"alpha": 0.1}}) == {"rounds": 20, "data": {"source": "a", "alpha": 0.1}}
    assert lower["data"] == {"source": "a", "alpha": 1.0}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("world", WORLDS)
def test_every_group_of_every_claim_is_a_sweep_over_its_seeds(world: str, size: str, tmp_path: Path) -> None:
    for system in SYSTEMS:
        setting = Setting(world=own_world(system, world), size=size)
        for group in groups(system, setting, REAL if setting.world == "real" else None):
            runs = expanded(group, tmp_path).runs
            assert [run.config.seed for run in runs] == [0, 1, 2]
            assert group.place == Path(f"{setting.world}-{size}-common", system, slug(group.label))


def test_a_claim_overrides_the_world_and_that_the_size(tmp_path: Path) -> None:
    [fedlora, *_] = groups("fedara", Setting(world="real", size="laptop"), REAL)

    config = expanded(fedlora, tmp_path).runs[0].config

    assert config.rounds == tomllib.loads((HERE / "laptop.toml").read_text())["rounds"]
    assert (config.model.train, config.model.price) == ("/a/model", "distilbert")
    assert (config.data.source, config.data.text_column) == ("/a/train.tsv", 0)
    assert config.data.partition.alpha == 0.1  # the claim's, not the world's


def test_a_claim_with_a_model_of_its_own_is_in_no_other_world() -> None:
    assert own_world("mergesfl", "real") == "images"
    assert own_world("legend", "real") == "real"


def test_variants_of_a_policy_have_its_tuned_rate(tmp_path: Path) -> None:
    rates = dict.fromkeys((str(policy["path"]) for policy in policies("legend").values()), 0.001) | {"legend": 0.003}

    found = {
        group.label: expanded(group, tmp_path).runs[0].config.training.learning_rate
        for group in groups("legend", Setting(world="builtin", size="small", rates="tuned"), rates=rates)
    }

    assert found["legend"] == found["legend(downlink=tuned)"] == 0.003
    assert found["fedlora"] == 0.001


def test_a_policy_without_a_tuned_rate_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"no tuned learning rate of 'fedlora' in the world 'builtin'.*--rates common"
    ):
        groups("legend", Setting(world="builtin", size="small", rates="tuned"), rates={"legend": 0.003})


@pytest.mark.parametrize(("file", "is_on_images"), [("tuning.toml", False), ("tuning-images.toml", True)])
def test_the_search_has_every_policy_of_the_claims_and_no_seed_of_theirs(file: str, is_on_images: bool) -> None:
    world = "images" if is_on_images else "builtin"
    search = search_groups(HERE / file, Setting(world=world, size="small"))
    systems = [system for system in SYSTEMS if own_world(system, "builtin") == world]

    assert {group.label for group in search} == {
        str(policy["path"]) for system in systems for policy in policies(system).values()
    }
    assert {seed for group in search for seed in group.seeds} == {10, 11, 12}


def test_a_search_is_a_sweep_over_rates_and_seeds(tmp_path: Path) -> None:
    [first, *_] = search_groups(HERE / "tuning.toml", Setting(world="builtin", size="brief"))

    runs = expanded(first, tmp_path).runs

    found = {(run.config.training.learning_rate, run.config.seed) for run in runs}
    assert found == {(rate, seed) for rate in (3e-4, 1e-3, 3e-3, 1e-2) for seed in (10, 11, 12)}
    assert {run.config.model.train for run in runs} == {"builtin:mini-12"}


def test_what_gates_look_at_is_run_first_and_controls_can_be_left_out() -> None:
    options = argparse.Namespace(
        world="builtin", model=None, data=None, test_data=None, device="cpu", precision=None, no_controls=False
    )
    setting = Setting(world="builtin", size="small")

    every = [group.label for group in planned("fedara", setting, options)]
    options.no_controls = True
    alone = [group.label for group in planned("fedara", setting, options)]

    assert alone == ["fedara", "fedlora(rank=12)", "fedlora"]
    assert every == [*alone, "ffalora"]


def test_files_are_wanted_in_the_real_world_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__)
    lacking = argparse.Namespace(world="real", model=here, data=None, test_data=here, device="cpu", precision=None)
    with pytest.raises(SystemExit, match="2"):
        given(lacking, "real")
    assert "missing: --data" in capsys.readouterr().err

    unwanted = argparse.Namespace(world="builtin", model=here, data=None, test_data=None, device="cpu", precision=None)
    with pytest.raises(SystemExit, match="2"):
        given(unwanted, "builtin")
    assert "are for --world real, got --world builtin with --model" in capsys.readouterr().err


def test_a_claim_with_a_model_of_its_own_is_not_given_another() -> None:
    here = Path(__file__)
    options = argparse.Namespace(world="real", model=here, data=here, test_data=here, device="cuda", precision=None)

    assert given(options, "images") == {"backend": {"gpus_per_host": 1}, "training": {"precision": "tf32"}}
    assert given(options, "real")["model"] == {"train": str(here)}


@pytest.mark.parametrize(("device", "gpus_per_host"), [("cpu", 0), ("cuda", 1)])
def test_models_are_trained_in_the_precision_that_was_asked_for(device: str, gpus_per_host: int) -> None:
    options = argparse.Namespace(
        world="builtin", model=None, data=None, test_data=None, device=device, precision="bfloat16"
    )

    found = given(options, "builtin")

    assert found == {"backend": {"gpus_per_host": gpus_per_host}, "training": {"precision": "bfloat16"}}
