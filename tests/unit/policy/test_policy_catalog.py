"""Finding and building policies, and what is said when that is impossible."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from emulator.errors import ConfigError
from emulator.forms.lora import LoraForm
from emulator.policy import Policy
from emulator.policy.catalog import build_policy, import_path, parameters, policy_class, policy_names
from emulator.records import ClusterView, RoundPlan
from emulator.shapes.spec import ModelSpec
from policies.fedlora import FedLora
from policies.legend import Legend


@dataclass(kw_only=True)
class Sample(Policy):
    """One parameter of each kind; the values are not looked at."""

    needed: int
    fraction: float = 0.5
    ranks: tuple[int, ...] = ()
    link: Literal["up", "down"] = "up"
    on: bool = False
    anything: Any = None
    _seen: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.fraction > 1:
            raise ValueError(f"fraction must be at most 1, got {self.fraction!r}")

    def form(self, model: ModelSpec) -> LoraForm:
        raise NotImplementedError

    def plan(self, view: ClusterView) -> RoundPlan:
        raise NotImplementedError


SAMPLE = f"{__name__}:Sample"


def build(**given: Any) -> Sample:
    policy = build_policy(SAMPLE, {"needed": 1, **given})
    assert isinstance(policy, Sample)
    return policy


def test_the_shipped_policies_are_the_files_of_their_package() -> None:
    assert policy_names() == sorted(policy_names())
    assert {"fedlora", "legend"} <= set(policy_names())


@pytest.mark.parametrize("name", policy_names())
def test_every_shipped_policy_is_built_by_its_name_with_its_defaults(name: str) -> None:
    policy = build_policy(name, {})

    assert type(policy).__module__ == f"policies.{name}"


def test_a_name_and_an_import_path_lead_to_the_same_class() -> None:
    assert policy_class("legend") is policy_class("policies.legend:Legend") is Legend
    assert policy_class(import_path(FedLora)) is FedLora


def test_parameters_are_those_that_the_class_takes() -> None:
    assert list(parameters(policy_class(SAMPLE))) == ["needed", "fraction", "ranks", "link", "on", "anything"]


def test_given_values_reach_the_policy() -> None:
    policy = build(needed=3, fraction=0.25, link="down", on=True)

    assert (policy.needed, policy.fraction, policy.link, policy.on) == (3, 0.25, "down", True)


def test_a_list_of_a_configuration_becomes_a_tuple() -> None:
    assert build(ranks=[1, 2]).ranks == (1, 2)


def test_a_whole_number_is_good_enough_for_a_float() -> None:
    assert build(fraction=1).fraction == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"needed": "8"}, r"policy\.needed of .*:Sample: .*valid integer, got '8'"),
        ({"needed": 1.0}, r"policy\.needed of .*valid integer, got 1\.0"),
        ({"needed": True}, r"policy\.needed of .*valid integer, got True"),
        ({"on": 1}, r"policy\.on of .*valid boolean, got 1"),
        ({"link": "sideways"}, r"policy\.link of .*'up' or 'down', got 'sideways'"),
        ({"ranks": 3}, r"policy\.ranks of .*valid array, got 3"),
        (
            {"fracton": 0.1},
            r"policy\.fracton is not a parameter of .*:Sample; did you mean fraction\? it takes: needed",
        ),
        (
            {"zzz": 0.1},
            r"policy\.zzz is not a parameter of .*:Sample; it takes: needed, fraction, ranks, link, on, anything$",
        ),
        ({"_seen": [1]}, r"policy\._seen is not a parameter"),
        ({"fraction": 2.0}, r"policy .*:Sample: fraction must be at most 1, got 2\.0"),
        ({"fraction": float("nan")}, r"policy\.fraction of .*:Sample: a number must be finite, got nan"),
        ({"fraction": 10**400}, r"policy\.fraction of .*:Sample: .*finite number, got 10000"),
        (
            {"anything": [1.0, [float("inf")]]},
            r"policy\.anything of .*: a number must be finite, got \[1\.0, \[inf\]\]",
        ),
    ],
)
def test_a_wrong_parameter_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**given)


def test_a_parameter_without_a_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r":Sample needs a value for policy\.needed$"):
        build_policy(SAMPLE, {})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("legnd", r"no policy 'legnd'; did you mean legend\? the policies are: .*legend.*package\.module:Class"),
        ("zzz", r"no policy 'zzz'; the policies are: "),
        ("nowhere.at_all:Mine", r"module cannot be imported .*nowhere.*got 'nowhere\.at_all:Mine'"),
        ("policies.legend:Legnd", r"the module 'policies\.legend' has no class 'Legnd'"),
        (".p:P", r"must be given by its full name, package\.module:Class, got '\.p:P'"),
        (":Legend", r"has no class 'Legend', got policy ':Legend'"),
        (
            "policies.legend:Capacities",
            r"must be a subclass of emulator\.policy\.Policy, got 'policies\.legend:Capacities'",
        ),
        ("policies.legend:rank_law", r"must be a subclass of emulator\.policy\.Policy"),
    ],
)
def test_a_policy_that_cannot_be_found_is_reported(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy_class(path)


def refusal_of_module(code: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ConfigError) as refused:
        build_policy(f"{name}:Mine", {"rank": 1} if "rank" in code else {})
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "code", "said", "line"),
    [
        ("broken_syntax", "x = 1\ndef f(:\n", "SyntaxError: invalid syntax", 2),
        ("broken_exit", "import sys\n\nsys.exit(3)\n", "SystemExit: 3", 3),
        ("broken_division", "1 / 0\n", "ZeroDivisionError: division by zero", 1),
        ("broken_library", "import json\njson.loads('{')\n", "JSONDecodeError: Expecting property name", 2),
        ("broken_import", "\nimport nowhere_at_all\n", "No module named 'nowhere_at_all'", 2),
    ],
)
def test_a_module_that_fails_is_reported_with_file_and_line(
    name: str, code: str, said: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal_of_module(code, name, tmp_path, monkeypatch)

    assert message.startswith(f"the policy's module cannot be imported ({said}")
    assert message.endswith(f", {tmp_path / name}.py line {line}), got '{name}:Mine'")


PLAIN = """
from emulator.policy import Policy


class Mine(Policy):
    def form(self, model):
        pass

    def plan(self, view):
        pass
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("policy_abstract", PLAIN.replace("def plan", "def plann"), "is abstract: it must define plan"),
        (
            "policy_raises",
            PLAIN + "\n    def __init__(self):\n        raise RuntimeError('no')\n",
            "policy_raises:Mine cannot be built (RuntimeError: no, {folder}/policy_raises.py line 13)",
        ),
        (
            "policy_mistyped",
            PLAIN + "\n    def __init__(self):\n        len(3)\n",
            "policy_mistyped:Mine cannot be built (TypeError: object of type 'int' has no len(), ",
        ),
        (
            "policy_unresolved",
            PLAIN + "\n    def __init__(self, rank: 'Nowhere' = 3):\n        pass\n",
            "the annotations of policy policy_unresolved:Mine cannot be resolved (name 'Nowhere' is not defined); ",
        ),
    ],
)
def test_a_class_that_cannot_be_built_is_reported(
    name: str, code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said.format(folder=tmp_path) in refusal_of_module(code, name, tmp_path, monkeypatch)
