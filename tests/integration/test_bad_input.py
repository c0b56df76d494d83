"""Bad input: one clear message, exit status 2, and no folder left behind."""

from pathlib import Path

import pytest

from tests.command_line import in_process, jetbed, settings
from tests.integration.conftest import SMALL
from tests.integration.ray_cluster import RayCluster

BROKEN_POLICY = """
from dataclasses import dataclass
from emulator.forms.lora import LoraForm, lora_plan
from emulator.policy import Policy

@dataclass(kw_only=True)
class Broken(Policy):
    device: int = 0
    rank: int = 4
    from_round: int = 0

    def form(self, model):
        return LoraForm(ranks=(4,) * model.n_layers)

    def plan(self, view):
        late = view.round_index >= self.from_round
        ranks = (self.rank if late else 4,) * view.model.n_layers
        devices = [*view.available, self.device] if late else view.available
        return lora_plan(view, ranks, dict.fromkeys(devices, view.model.n_layers))
"""


TIMING_ONLY = settings([*SMALL, "training.enabled=false"])


def refused(tmp_path: Path, *arguments: str) -> str:
    """The message of a run that must be refused with exit status 2, leaving no folder behind."""
    out = tmp_path / "run"
    finished = in_process("run", "--out", str(out), "--backend", "inline", *arguments, cwd=tmp_path)
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert not out.exists()
    message = finished.stderr.strip()
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("training.local_stepz=2", ("training", "local_stepz", "local_steps?")),
        ("rounds=0", ("rounds:", "greater than 0", "got 0")),
        ("rounds=-3", ("rounds:", "greater than 0", "got -3")),
        ("rounds=many", ("rounds:", "integer", "got 'many'")),
        ("testbed.cluster=jetson08", ("testbed.cluster", "jetson08", "jetson80")),
        ("testbed.cluster=nowhere/cluster.toml", ("testbed.cluster", "nowhere/cluster.toml")),
        ("model.train=nowhere/model", ("model.train", "'nowhere/model'")),
        ("model.train=builtin:tiny-13", ("model.train", "'builtin:tiny-13'", "builtin:tiny-12")),
        ("model.price=roberta-bass", ("'roberta-bass'", "roberta-base")),
        ("data.source=nowhere.csv", ("data.source", "'nowhere.csv'")),
        ("data.source=builtin:intent", ("data.source", "'builtin:intent'", "builtin:intents")),
        ("data.n_train=50", ("50", "80 devices")),
        ("policy.path=legent", ("'legent'", "legend?")),
        ("policy.path=nowhere:Policy", ("'nowhere:Policy'",)),
        ("policy.wattage=3", ("wattage", "policies.legend:Legend", "first_rank")),
        ("policy.first_rank=two", ("policy.first_rank", "integer", "'two'")),
        ("no_equals_sign", ("'no_equals_sign'", "key.path=value")),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(tmp_path: Path, override: str, named: tuple[str, ...]) -> None:
    """The message names the setting, what is allowed, and what was given."""
    message = refused(tmp_path, "--set", override)
    assert [part for part in named if part not in message] == [], message


def test_a_depth_beyond_the_model_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "--policy", "fedlora", "--set", "policy.depth=13")
    assert [part for part in ("depth", "1 and", "12", "got 13") if part not in message] == [], message


def test_a_missing_label_column_is_refused_and_the_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,category\n" + "a b,x\nc d,y\n" * 100)
    message = refused(tmp_path, "--set", "data.source=data.csv")
    assert "'label'" in message
    assert "text, category" in message


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    (held / "thesis.tex").write_text("precious")
    finished = in_process("run", "--out", str(held), "--set", "training.enabled=false")
    assert finished.returncode == 2
    assert str(held) in finished.stderr
    assert "empty" in finished.stderr
    assert [path.name for path in held.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("parameter", "where", "what"),
    [
        ("policy.device=99", "broken:Broken, round 0, device 99: ", ("exist",)),
        ("policy.rank=5", "broken:Broken, round 0, device 0: ", ("rank", "layer 0", "between 0", "4", "got 5")),
    ],
)
def test_an_impossible_plan_names_policy_round_and_device(
    tmp_path: Path, parameter: str, where: str, what: tuple[str, ...]
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_POLICY)
    overrides = [*SMALL, "training.enabled=false", parameter]
    message = refused(tmp_path, "--policy", "broken:Broken", *settings(overrides))
    assert where in message
    assert [part for part in what if part not in message.partition(where)[2]] == [], message


def test_a_plan_that_fails_later_keeps_the_rounds_before_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_POLICY)
    overrides = [*SMALL, "training.enabled=false", "policy.rank=5", "policy.from_round=2"]
    arguments = ["run", "--policy", "broken:Broken", "--out", "run", *settings(overrides)]
    finished = in_process(*arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert "broken:Broken, round 2, device 0" in finished.stderr
    summary = in_process("summary", "run", cwd=tmp_path)
    assert summary.returncode == 0
    assert "failed" in summary.stdout
    assert "2, 8 devices" in summary.stdout


@pytest.mark.parametrize("command", [["summary", "nowhere"], ["devices", "jetson_tx3"], ["run", "nowhere.toml"]])
def test_other_commands_refuse_what_is_not_there(tmp_path: Path, command: list[str]) -> None:
    finished = in_process(*command, cwd=tmp_path)
    assert finished.returncode == 2
    assert command[1] in finished.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--out", "run", "--set", "training.local_stepz=2"],
        ["run", "--out", "run", "--policy", "broken:Broken", "--set", "policy.device=99", *TIMING_ONLY],
        ["summary", "nowhere"],
    ],
    ids=["setting", "plan", "folder"],
)
def test_a_process_says_and_leaves_what_the_same_command_does_here(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_POLICY)
    alone = jetbed(*command, cwd=tmp_path)
    here = in_process(*command, cwd=tmp_path)
    assert (alone.returncode, alone.stdout, alone.stderr) == (here.returncode, here.stdout, here.stderr)
    assert alone.returncode == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "before"),
    [("data.n_train=50", ["starting hosts, loading model and data"]), (f"data.source={'a' * 300}.csv", [])],
    ids=["by a host", "before hosts start"],
)
def test_a_mistake_is_reported_alike_on_ray(
    ray_cluster: RayCluster, tmp_path: Path, override: str, before: list[str]
) -> None:
    arguments = ("run", "--out", "run", "--set", override)
    on_ray = jetbed(*arguments, "--backend", "ray", "--hosts", "1", cwd=tmp_path, environment=ray_cluster.environment)
    assert on_ray.returncode == 2
    assert not (tmp_path / "run").exists()
    *said, message = on_ray.stderr.splitlines()
    assert said == before
    assert f"{message}\n" == in_process(*arguments, "--backend", "inline", cwd=tmp_path).stderr


@pytest.mark.parametrize("method", ["plan(self, view)", "observe(self, report)"])
def test_an_exception_in_a_policy_is_one_line_that_says_where(tmp_path: Path, method: str) -> None:
    code = (
        f"from policies.fedlora import FedLora\n\nclass Broken(FedLora):\n    def {method}:\n        {{}}['seconds']\n"
    )
    (tmp_path / "raising.py").write_text(code)
    message = refused(tmp_path, "--policy", "raising:Broken", *settings([*SMALL, "training.enabled=false"]))
    name = method.partition("(")[0]
    where = ("raising:Broken, round 0", f"{name}()", "KeyError: 'seconds'", "raising.py, line 5")
    assert [part for part in where if part not in message] == [], message
