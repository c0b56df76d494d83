"""The policies of policies/README.md and docs/own-policy.md are what they are said to be."""

import re
import runpy
import sys
from pathlib import Path

import pytest

import emulator
from emulator.policy import Policy
from emulator.policy.catalog import policy_class
from emulator.testing import PolicyConformance, small_testbed

ROOT = Path(__file__).parents[3]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


FIRST = python_blocks("policies/README.md")[0]
LARGE_BOARDS, NOBODY_WAITS, CONFORMANCE, BY_HAND = python_blocks("docs/own-policy.md")


@pytest.fixture(autouse=True)
def _mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is one in which ``mine.py`` is the first policy."""
    (tmp_path / "mine.py").write_text(FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def shown(code: str, path: Path) -> type[Policy]:
    """The policy that ``code`` defines."""
    path.write_text(code)
    [policy] = [
        found
        for found in runpy.run_path(str(path)).values()
        if isinstance(found, type) and issubclass(found, Policy) and found is not Policy
    ]
    return policy


@pytest.mark.parametrize("code", [FIRST, LARGE_BOARDS, NOBODY_WAITS])
def test_what_a_policy_needs_comes_from_one_place(code: str) -> None:
    assert set(re.findall(r"from (emulator\S*)", code)) == {"emulator.policy"}
    assert "getattr" not in code


def test_the_first_policy_has_as_many_lines_as_are_said() -> None:
    body = FIRST.partition("rank: int")[2]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


def test_the_first_policy_runs_by_its_import_path(tmp_path: Path) -> None:
    settings = {"policy.path": "mine:HalfDepth", "policy.rank": 4, "training.enabled": False, "rounds": 3}
    run = emulator.emulate({**settings, "testbed.n_devices": 8}, out=tmp_path / "run")

    depths = run.devices[run.devices["round_index"] == 2]["depth"]
    assert sorted(depths) == [6, 6, 6, 6, 12, 12, 12, 12]


def test_it_passes_its_conformance_suite_in_the_way_that_is_shown() -> None:
    names: dict[str, object] = {}
    exec(CONFORMANCE, names)
    suite = names["TestHalfDepth"]
    assert isinstance(suite, type)
    assert issubclass(suite, PolicyConformance)
    for check in suite.checks():
        getattr(suite(), check)()


def test_a_round_is_played_by_hand_in_the_way_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(BY_HAND, {})
    assert "'ok'" in capsys.readouterr().out


@pytest.mark.parametrize("code", [LARGE_BOARDS, NOBODY_WAITS])
def test_the_other_policies_of_the_tutorial_play(code: str, tmp_path: Path) -> None:
    played = small_testbed(shown(code, tmp_path / "other.py")(), n_devices=12).play(2)
    assert all(one.report.devices for one in played)


def test_a_policy_s_module_is_found_in_the_working_folder() -> None:
    assert policy_class("mine:HalfDepth").__name__ == "HalfDepth"
