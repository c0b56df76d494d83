"""Sweep files: which runs they come to, and what is said about a mistake."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emulator.config import load_config
from emulator.errors import ConfigError
from emulator.sweeps.expansion import check_runs, expand
from emulator.sweeps.spec import read_spec
from tests.unit.sweeps.conftest import BASE, GRID, MakeSweep


def names(sweep: Any) -> list[str]:
    return [run.name for run in sweep.runs]


def test_axes_are_combined_as_a_grid_whose_last_axis_varies_fastest(make_sweep: MakeSweep) -> None:
    sweep = make_sweep("[axes]\nrounds = [3, 5]\nseed = [0, 1, 2]\n")

    assert [(run.config.rounds, run.config.seed) for run in sweep.runs] == [
        (rounds, seed) for rounds in (3, 5) for seed in (0, 1, 2)
    ]
    assert names(sweep)[:2] == ["rounds-3,seed-0", "rounds-3,seed-1"]
    assert sweep.axes == ("rounds", "seed")
    assert all(run.config.testbed.n_devices == 8 for run in sweep.runs)


def test_a_run_of_a_sweep_is_what_the_same_settings_are_by_themselves(make_sweep: MakeSweep, tmp_path: Path) -> None:
    alone = tmp_path / "alone.toml"
    alone.write_text(BASE.replace("[base]", "") + "seed = 1\npolicy = { path = 'fedlora', rank = 4 }\n")

    assert make_sweep(GRID).runs[3].config == load_config(alone)


def test_a_policy_with_parameters_keeps_them_from_other_policies(make_sweep: MakeSweep) -> None:
    base = BASE + 'policy = { path = "fedlora", rank = 2 }\n'
    sweep = make_sweep('[axes]\npolicy = ["legend", "fedlora", { path = "fedlora", rank = 4 }]\n', base=base)

    assert [run.config.policy.parameters for run in sweep.runs] == [{}, {"rank": 2}, {"rank": 4}]
    assert [run.labels["policy"] for run in sweep.runs] == ["legend", "fedlora", "fedlora(rank=4)"]


def test_a_table_of_settings_sets_its_keys_and_leaves_the_others(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(
        '[axes]\ndata.partition = [{ scheme = "iid" }, { alpha = 0.1 }, {}]\n',
        base=BASE + "data.partition.alpha = 5.0\n",
    )

    partitions = [(run.config.data.partition.scheme, run.config.data.partition.alpha) for run in sweep.runs]
    assert partitions == [("iid", 5.0), ("dirichlet", 0.1), ("dirichlet", 5.0)]
    assert [run.labels["data.partition"] for run in sweep.runs] == ["scheme=iid", "alpha=0.1", "base"]
    assert names(sweep) == ["partition-scheme-iid", "partition-alpha-0.1", "partition-base"]


def test_every_case_is_combined_with_the_grid_and_the_base_says_what_it_leaves_open(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(
        "[axes]\nseed = [0, 1]\n"
        '[[cases]]\nname = "slow"\ntestbed.link = "constant-8mbit"\n'
        '[[cases]]\npolicy = { path = "fedlora", rank = 4 }\nrounds = 7\n'
    )

    assert names(sweep) == [
        "slow,seed-0",
        "slow,seed-1",
        "policy-fedlora-rank-4,rounds-7,seed-0",
        "policy-fedlora-rank-4,rounds-7,seed-1",
    ]
    assert sweep.runs[0].labels == {"policy": "legend", "seed": 0, "testbed.link": "constant-8mbit", "rounds": 2}
    assert sweep.runs[3].labels == {"policy": "fedlora(rank=4)", "seed": 1, "testbed.link": "none", "rounds": 7}


def test_the_base_is_a_file_beside_the_sweep_with_changes_and_options_over_it(tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text("rounds = 9\ntraining.batch_size = 3\ntestbed.n_devices = 5\n")
    path = tmp_path / "study.toml"
    path.write_text('[base]\nfile = "plain.toml"\nrounds = 4\n[axes]\nseed = [1]\n')
    [run] = expand(read_spec(path), [("testbed.n_devices", 6)]).runs
    assert (run.config.rounds, run.config.training.batch_size, run.config.testbed.n_devices) == (4, 3, 6)

    path.write_text('base = "plain.toml"\n[axes]\nseed = [1]\n')
    [run] = expand(read_spec(path)).runs
    assert (run.config.rounds, run.config.seed) == (9, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[axes]\ntraining.local_step = [1]\n",
            "[axes]: training.local_step is not a setting; did you mean local_steps?",
        ),
        ("[axes]\nsede = [1]\n", "[axes]: sede is not a setting; did you mean seed?"),
        ("[[cases]]\ntestbed.clutser = 'x'\n", "case 1: testbed.clutser is not a setting; did you mean cluster?"),
        ("[axes]\nseed = []\n", "axes.seed has no values"),
        ("[axes]\npolicy.margin = [1.0, nan]\n", "axes.policy.margin must be made of finite numbers, got nan"),
        ("[[cases]]\npolicy = { path = 'legend', x = [[-inf]] }\n", "cases.policy.x must be made of finite"),
        ("[axes]\nseed = 3\n", "axes.seed is a list of the values that seed takes, got 3"),
        ("", "there is nothing to vary"),
        ("[axes]\n", "there is nothing to vary"),
        ("[axis]\nseed = [1]\n", "axis is not a key of a sweep file; did you mean axes?"),
        ("[axes]\nseed = [0, 1, 0]\n", "have the same settings; remove"),
        ("[[cases]]\nname = 'a'\n[[cases]]\nname = 'a'\nseed = 1\n", "two of [[cases]] have the same name"),
        ('[axes]\npolicy = ["legend", { path = "legend" }]\n', "have the same settings"),
        ("[axes]\nrounds = [3, 0]\n", "run rounds-0: rounds: input should be greater than 0, got 0"),
        ("[axes]\nseed = [1]\n[[cases]]\nseed = 2\n", "seed is both an axis and a key of a case"),
        ("[[cases]]\nname = '0'\n", "a name is made of letters"),
        ("[[cases]]\n", "case 1 of [[cases]] is empty"),
        ("[axes]\npolicy.rank = [1]\n", "run rank-1: policy.rank is not a parameter of"),
        ('[axes]\npolicy = ["legent"]\n', "did you mean legend?"),
        ('[axes]\npolicy = ["tests.unit.sweeps.failing:Formless"]\n', "form() raised SystemExit: 4"),
        ('[axes]\npolicy = ["legend", { path = "fedlora", rank = "x" }]\n', "run policy-fedlora-rank-x: policy.rank"),
        ('[axes]\ntestbed.cluster = ["nowhere"]\n', "run cluster-nowhere: testbed.cluster"),
        ('[axes]\ntestbed.link = ["nowhere"]\n', "run link-nowhere: testbed.link"),
    ],
)
def test_a_mistake_is_named_where_it_was_made(make_sweep: MakeSweep, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_runs(make_sweep(text))

    assert expected in str(caught.value)
    assert "study.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("[base]\nroudns = 3\n", "[base]: roudns is not a setting; did you mean rounds?"),
        ("[base]\nrounds = 0\n", "[base]: rounds: input should be greater than 0, got 0"),
        ("base = 3\n", "base is the path of a configuration file or a table of settings, got 3"),
        ("base = 'nowhere.toml'\n", "study.toml, base: there is no configuration file"),
        ("[base]\nfile = 'nowhere.toml'\n", "study.toml, base: there is no configuration file"),
        ("base = '.'\n", "is a folder, not a file"),
        ("base = ''\n", "base is the path of a configuration file or a table of settings, got ''"),
        ("[base]\nfile = ''\n", "base.file is the path of a configuration file, got ''"),
        ("[base]\npolicy = { path = 'legend', x = inf }\n", "base.policy.x must be made of finite numbers, got inf"),
        ("name = '1'\n", "begins with a letter, got '1'"),
        ("base = [\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_base_is_named(make_sweep: MakeSweep, base: str, expected: str) -> None:
    with pytest.raises(ConfigError, match="toml") as caught:
        make_sweep(GRID, base=base)

    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([("seed", 3)], "--set seed: the sweep varies seed"),
        ([("policy.rank", 3)], "--set policy.rank: the sweep varies policy"),
        ([("rounds", 0)], "--set: rounds: input should be greater than 0, got 0"),
    ],
)
def test_an_option_cannot_contradict_the_sweep(
    make_sweep: MakeSweep, overrides: Sequence[tuple[str, Any]], expected: str
) -> None:
    with pytest.raises(ConfigError, match="^" + expected.replace(".", r"\.")):
        expand(make_sweep(GRID).spec, overrides)


def test_there_is_a_message_for_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"there is no sweep file 'nowhere\.toml'"):
        read_spec(Path("nowhere.toml"))
