"""Observers are named in the configuration, with parameters that are checked before anything is started."""

from pathlib import Path

import pytest

from emulator.cli.print_config import as_toml
from emulator.config import load_config
from emulator.errors import ConfigError
from emulator.observers.catalog import observers_of
from emulator.running.compose import check_settings
from tests.unit.observers.recording import LinesOfJson, Recorder

OWN = "tests.unit.observers.recording:LinesOfJson"
SHIPPED = ("tensorboard:TensorBoard", "mlflow:MLflow", "wandb:WandB")


def test_a_file_names_observers_by_path_or_with_parameters(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(
        f'observers = ["tests.unit.observers.recording:Recorder", {{path = "{OWN}", name = "a.jsonl"}}]\n'
    )
    config = load_config(tmp_path / "run.toml")

    assert [type(observer) for observer in observers_of(config)] == [Recorder, LinesOfJson]
    assert [named.parameters for named in config.observers] == [{}, {"name": "a.jsonl"}]


def test_there_are_none_unless_they_are_asked_for() -> None:
    assert observers_of(load_config(None)) == ()


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ("x:Y", r"observers must be a list of import paths and of tables with a path, .* got 'x:Y'"),
        ([{"name": "a"}], r"observers must be .*tables with a path, .* got \[{'name': 'a'}\]"),
        ([3], r"observers must be .*, got \[3\]"),
        ([{"path": 3}], r"observers must be .*, got \[{'path': 3}\]"),
        (["no_such_module_of_anybody:Y"], r"the observer's module cannot be imported \(No module named"),
        (["emulator.observers.base:Nobody"], r"the module 'emulator.observers.base' has no class 'Nobody'"),
        (["emulator.config:Config"], r"an observer must be a subclass of emulator.observers.RunObserver"),
        ([".recording:Recorder"], r"an observer's module must be given by its full name"),
        (["tensorboard"], r"an observer is named by its import path, package.module:Class, got 'tensorboard'"),
        ([{"path": OWN, "nam": "a"}], r"observers.0.nam is not a parameter of .*did you mean name"),
        ([OWN, {"path": OWN, "fails_at": "x"}], r"observers.1.fails_at of .*LinesOfJson: .*integer, got 'x'"),
        ([{"path": OWN, "name": ""}], r"observer .*LinesOfJson: name must not be empty"),
    ],
)
def test_what_is_wrong_is_one_sentence(observers: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_settings(load_config(None, [("observers", observers)]))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_missing_library_is_said_before_anything_is_started(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = name.partition(":")[0]
    monkeypatch.setattr("emulator.observers.libraries.find_spec", lambda library: None)
    with pytest.raises(ConfigError, match=rf"needs the package '{extra}'; .* pip install 'jetbed\[{extra}\]'"):
        check_settings(load_config(None, [("observers", [f"emulator.observers.{name}"])]))


@pytest.mark.parametrize("observers", [[], [OWN], [OWN, {"path": OWN, "name": "a" * 100, "fails_at": 3}]])
def test_a_printed_configuration_can_be_given_again(observers: list[object], tmp_path: Path) -> None:
    config = load_config(None, [("observers", observers)])
    (tmp_path / "run.toml").write_text(as_toml(config))

    assert load_config(tmp_path / "run.toml").observers == config.observers
