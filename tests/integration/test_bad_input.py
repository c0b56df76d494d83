"""Bad input: one clear message, exit status 2, and no folder left behind."""

from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, jetbed, settings

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


def refused(tmp_path: Path, *arguments: str) -> str:
    """The message of a run that must be refused with exit status 2, leaving no folder behind."""
    out = tmp_path / "run"
    finished = jetbed("run", "--out", str(out), "--backend", "inline", *arguments, cwd=tmp_path)
    assert finished.returncode == 2, finished.stdout + finished.stderr
    assert not out.exists()
    assert "Traceback" not in finished.stderr
    message = finished.stderr.strip()
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.local_stepz=2", "did you mean local_steps?"),
        ("rounds=0", "rounds: input should be greater than 0, got 0"),
        ("rounds=-3", "rounds: input should be greater than 0, got -3"),
        ("rounds=many", "rounds: input should be a valid integer, got 'many'"),
        ("testbed.cluster=jetson08", "jetson80"),
        ("testbed.cluster=nowhere/cluster.toml", "nowhere/cluster.toml"),
        ("model.train=nowhere/model", "'nowhere/model'"),
        ("model.train=builtin:tiny-13", "builtin:tiny-12"),
        ("model.price=roberta-bass", "roberta-base"),
        ("data.source=nowhere.csv", "'nowhere.csv'"),
        ("data.source=builtin:intent", "builtin:intents"),
        ("data.n_train=50", "80"),
        ("policy.path=legent", "did you mean legend?"),
        ("policy.path=nowhere:Policy", "nowhere"),
        ("policy.wattage=3", "is not a parameter of policies.legend:Legend; it takes: first_rank"),
        ("policy.first_rank=two", "policy.first_rank"),
        ("no_equals_sign", "key.path=value"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in refused(tmp_path, "--set", override)


def test_a_depth_beyond_the_model_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "--policy", "fedlora", "--set", "policy.depth=13")
    assert "depth must be between 1 and the model's 12 layers, got 13" in message


def test_a_missing_label_column_is_refused_and_the_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,category\n" + "a b,x\nc d,y\n" * 100)
    message = refused(tmp_path, "--set", "data.source=data.csv")
    assert "'label'" in message
    assert "text, category" in message


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.mkdir()
    (held / "thesis.tex").write_text("precious")
    finished = jetbed("run", "--out", str(held), "--set", "training.enabled=false")
    assert finished.returncode == 2
    assert "must be new or empty" in finished.stderr
    assert [path.name for path in held.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (["policy.device=99"], "broken:Broken, round 0, device 99: does not exist"),
        (
            ["policy.rank=5"],
            "broken:Broken, round 0, device 0: rank at layer 0 must be between 0 and the server's 4, got 5",
        ),
    ],
)
def test_an_impossible_plan_names_policy_round_and_device(tmp_path: Path, parameters: list[str], expected: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_POLICY)
    overrides = [*SMALL, "training.enabled=false", *parameters]
    assert expected in refused(tmp_path, "--policy", "broken:Broken", *settings(overrides))


def test_a_plan_that_fails_later_keeps_the_rounds_before_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN_POLICY)
    overrides = [*SMALL, "training.enabled=false", "policy.rank=5", "policy.from_round=2"]
    arguments = ["run", "--policy", "broken:Broken", "--out", "run", *settings(overrides)]
    finished = jetbed(*arguments, cwd=tmp_path)
    assert finished.returncode == 2
    assert "broken:Broken, round 2, device 0" in finished.stderr
    summary = jetbed("summary", "run", cwd=tmp_path)
    assert summary.returncode == 0
    assert "failed" in summary.stdout
    assert "2, 8 devices" in summary.stdout


@pytest.mark.parametrize("command", [["summary", "nowhere"], ["devices", "jetson_tx3"], ["run", "nowhere.toml"]])
def test_other_commands_refuse_what_is_not_there(tmp_path: Path, command: list[str]) -> None:
    finished = jetbed(*command, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize("override", ["data.n_train=50", f"data.source={'a' * 300}.csv"])
def test_a_mistake_found_on_a_ray_host_is_reported_alike(tmp_path: Path, override: str) -> None:
    out = tmp_path / "run"
    finished = jetbed("run", "--out", str(out), "--backend", "ray", "--set", override)
    assert finished.returncode == 2
    assert len(finished.stderr.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize("method", ["plan(self, view)", "observe(self, report)"])
def test_an_exception_in_a_policy_is_one_line_that_says_where(tmp_path: Path, method: str) -> None:
    code = (
        f"from policies.fedlora import FedLora\n\nclass Broken(FedLora):\n    def {method}:\n        {{}}['seconds']\n"
    )
    (tmp_path / "raising.py").write_text(code)
    message = refused(tmp_path, "--policy", "raising:Broken", *settings([*SMALL, "training.enabled=false"]))
    name = method.partition("(")[0]
    assert f"raising:Broken, round 0: {name}() raised KeyError: 'seconds' (" in message
    assert message.endswith("raising.py, line 5)")
