"""The borders of the architecture hold in every source file, and the rules that say so can be broken."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from emulator.policy_catalog import policy_class, policy_names
from tests.architecture_rules import Source, clocks_and_chance, names_of_policies, vague_names, wrong_imports

ROOT = Path(__file__).parents[1]
SOURCES = [
    Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for package in ("device_profiles", "emulator", "policies")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def policy_words() -> set[str]:
    """The names of all shipped policies, of their modules and their classes."""
    return {*policy_names(), *(policy_class(name).__name__ for name in policy_names())}


def form_words() -> set[str]:
    """The classes that the modules of the adapter forms define, without the contract itself."""
    import emulator.forms

    names = [module.name for module in iter_modules(emulator.forms.__path__) if module.name != "base"]
    modules = [import_module(f"emulator.forms.{name}") for name in names]
    return {
        name
        for module in modules
        for name, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__
    }


def test_the_rules_see_the_whole_source() -> None:
    paths = {source.path for source in SOURCES}

    assert {"emulator/clock.py", "emulator/world/testbed.py", "policies/legend.py"} <= paths
    assert {"legend", "Legend", "fedlora", "FedLora"} <= policy_words()
    assert {"LoraForm", "LoraAssignment"} <= form_words()


def test_imports_run_one_way() -> None:
    assert [wrong for source in SOURCES for wrong in wrong_imports(source)] == []


def test_the_engine_knows_no_policy_and_no_adapter_form() -> None:
    engine = [source for source in SOURCES if source.lies_in(["emulator"]) and not source.lies_in(["emulator/testing"])]
    found = []
    for source in engine:
        may_know_forms = source.lies_in(["emulator/forms", "emulator/learning/attach"])
        found += names_of_policies(source, policy_words(), set() if may_know_forms else form_words())

    # The one name that the engine has: which policy a run has that says nothing about it.
    assert found == ["emulator/config.py names legend"]


def test_time_and_decisions_follow_from_the_seed_alone() -> None:
    assert [wrong for source in SOURCES for wrong in clocks_and_chance(source)] == []


def test_every_file_is_named_after_what_it_is_for() -> None:
    assert [source.path for source in SOURCES if vague_names(source.path)] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [s.path for s in SOURCES if s.text.strip() and not ast.get_docstring(s.tree)] == []


@pytest.mark.parametrize("module", ["emulator.execute", "emulator.cli.main", "emulator.testing", "policies.legend"])
def test_what_starts_fast_loads_neither_the_learning_libraries_nor_ray(module: str) -> None:
    code = f"import sys, {module}; print({{'torch', 'transformers', 'peft', 'datasets', 'ray'}} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("path", "text", "module"),
    [
        ("device_profiles/catalog.py", "from emulator.errors import UserError", "emulator.errors.UserError"),
        ("emulator/run.py", "import policies.legend", "policies.legend"),
        ("emulator/run.py", "def f():\n    from policies import legend", "policies.legend"),
        (
            "policies/mine.py",
            "from device_profiles.catalog import load_profile",
            "device_profiles.catalog.load_profile",
        ),
        ("emulator/coordinator.py", "def f():\n    import torch", "torch"),
        ("emulator/backends/inline.py", "from peft import LoraConfig", "peft.LoraConfig"),
        ("emulator/learning/host.py", "import ray.util", "ray.util"),
        ("emulator/coordinator.py", "import ray as r", "ray"),
        ("emulator/coordinator.py", "from emulator.learning import stacking", "emulator.learning.stacking"),
        ("emulator/learning/tasks.py", "from emulator.world.links import Links", "emulator.world.links.Links"),
        ("emulator/learning/tasks.py", "from ..world import links", "emulator.world.links"),
        ("emulator/world/testbed.py", "if TYPE_CHECKING:\n    import emulator.learning.host", "emulator.learning.host"),
        ("emulator/forms/lora.py", "import torch", "torch"),
        ("emulator/model_catalog.py", "import torch", "torch"),
    ],
)
def test_an_import_against_the_direction_is_found(path: str, text: str, module: str) -> None:
    assert wrong_imports(Source(path, text)) == [f"{path} imports {module}"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("emulator/backends/ray.py", "import ray\nfrom emulator.learning.host import DeviceHost"),
        ("emulator/learning/tasks.py", "import torch\nfrom emulator.forms.lora import LoraForm"),
        ("policies/mine.py", "from emulator.forms.lora import LoraForm"),
        ("emulator/world/links.py", "from device_profiles.records import LinkSpec"),
        ("emulator/world/rows.py", "import rayleigh, torchlight"),
    ],
)
def test_an_import_along_the_direction_is_none_of_them(path: str, text: str) -> None:
    assert wrong_imports(Source(path, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "if config.policy.path == 'legend': pass",
        "names = {'a': 'policies.legend:Legend'}",
        "message = f'use {x} or legend'",
        "def legend(): pass",
        "isinstance(policy, Legend)",
        "policies.legend.rank_law(12)",
        "isinstance(form, LoraForm)",
        "from emulator.forms.lora import LoraAssignment as Settings",
        "match form:\n    case LoraForm(): pass",
        "plan(legend=3)",
    ],
)
def test_a_policy_or_form_that_is_named_in_the_engine_is_found(text: str) -> None:
    assert names_of_policies(Source("emulator/x.py", text), {"legend", "Legend"}, {"LoraForm", "LoraAssignment"})


@pytest.mark.parametrize("text", ['"""Such as legend, with its LoraForm."""', "legendary = 'legends'", "# legend"])
def test_documentation_and_other_words_are_free(text: str) -> None:
    assert names_of_policies(Source("emulator/x.py", text), {"legend"}, {"LoraForm"}) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("emulator/world/testbed.py", "import time"),
        ("policies/mine.py", "from time import perf_counter"),
        ("policies/mine.py", "import datetime as dt"),
        ("emulator/protocols/grouped.py", "def f():\n    import random"),
        ("policies/mine.py", "import numpy as np\nx = np.random.rand(3)"),
        ("policies/mine.py", "import numpy\nrng = numpy.random.default_rng()"),
        ("emulator/forms/lora.py", "from numpy.random import default_rng"),
        ("emulator/aggregation.py", "import uuid"),
    ],
)
def test_a_clock_or_a_stream_without_the_run_s_seed_is_found(path: str, text: str) -> None:
    assert len(clocks_and_chance(Source(path, text))) == 1


def test_a_generator_may_be_named_and_hosts_may_read_the_clock() -> None:
    assert clocks_and_chance(Source("policies/mine.py", "import numpy as np\nx: np.random.Generator")) == []
    assert clocks_and_chance(Source("emulator/backends/inline.py", "import time")) == []


@pytest.mark.parametrize("path", ["emulator/utils.py", "emulator/common/x.py", "policies/_helpers.py"])
def test_a_vague_name_is_found(path: str) -> None:
    assert vague_names(path)
    assert not vague_names("emulator/commonplace.py")
