"""The borders of the architecture hold in every source file, and the rules that say so can be broken."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from emulator.policy.catalog import policy_class, policy_names
from tests.architecture_rules import (
    Source,
    clocks_and_chance,
    import_circles,
    names_of_policies,
    vague_names,
    wrong_imports,
)
from tests.floors import FLOORS

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

    names = [module.name for module in iter_modules(emulator.forms.__path__) if module.name not in ("base", "cut")]
    modules = [import_module(f"emulator.forms.{name}") for name in names]
    return {
        name
        for module in modules
        for name, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__
    }


def test_the_rules_see_the_whole_source() -> None:
    paths = {source.path for source in SOURCES}

    assert {"emulator/world/clock.py", "emulator/world/testbed.py", "policies/legend.py"} <= paths
    assert {"legend", "Legend", "fedlora", "FedLora"} <= policy_words()
    assert {"LoraForm", "LoraAssignment"} <= form_words()


FORMS_ARE_KNOWN = (
    "emulator/forms",
    "emulator/learning/attach",
    "emulator/learning/tasks",
    "emulator/learning/model/compact.py",
    "emulator/policy/__init__.py",
)


def test_a_room_imports_only_what_its_floor_allows() -> None:
    assert [wrong for source in SOURCES for wrong in wrong_imports(source)] == []


def test_every_room_is_below_those_that_import_it_and_there() -> None:
    floors = [room.path for room in FLOORS]

    assert [
        (room.path, low) for number, room in enumerate(FLOORS) for low in room.imports if low not in floors[:number]
    ] == []
    assert [path for path in floors if not ((ROOT / path).is_dir() or (ROOT / f"{path}.py").is_file())] == []


def test_the_engine_knows_no_policy_and_no_adapter_form() -> None:
    engine = [source for source in SOURCES if source.lies_in(["emulator"]) and not source.lies_in(["emulator/testing"])]
    policies, forms, found = policy_words(), form_words(), []
    for source in engine:
        found += names_of_policies(source, policies, set() if source.lies_in(FORMS_ARE_KNOWN) else forms)

    # The one name that the engine has: which policy a run has that says nothing about it.
    assert found == ["emulator/config/plugins.py names legend"]


def test_time_and_decisions_follow_from_the_seed_alone() -> None:
    assert [wrong for source in SOURCES for wrong in clocks_and_chance(source)] == []


def test_every_file_is_named_after_what_it_is_for() -> None:
    assert [source.path for source in SOURCES if vague_names(source.path)] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [s.path for s in SOURCES if s.text.strip() and not ast.get_docstring(s.tree)] == []


def test_what_starts_fast_loads_neither_the_learning_libraries_nor_ray() -> None:
    starts = "emulator.launch.execute, emulator.cli.main, emulator.testing, policies.legend"
    code = f"import sys, {starts}; print({{'torch', 'transformers', 'peft', 'datasets', 'ray'}} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_a_run_waits_for_no_library_of_tables_or_training_before_it_begins() -> None:
    """A process that starts and follows a run reads tables when it is over, and trains nothing itself."""
    starts = "emulator.cli.main, emulator.cli.progress, emulator.launch.execute, emulator.backends.ray_run"
    code = f"import sys, {starts}; print({{'pandas', 'torch', 'transformers', 'peft', 'plotly'}} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("path", "text", "module"),
    [
        ("emulator/protocols/mine.py", "from emulator.results.reader import load", "emulator.results.reader.load"),
        ("emulator/world/testbed.py", "import emulator.report", "emulator.report"),
        ("emulator/world/testbed.py", "from emulator.results.rows import x", "emulator.results.rows.x"),
        ("emulator/results/reader.py", "from emulator.analysis import compare", "emulator.analysis.compare"),
        ("emulator/running/compose.py", "import emulator.backends.ray_run", "emulator.backends.ray_run"),
        ("emulator/protocols/grouped.py", "from emulator.policy.base import Policy", "emulator.policy.base.Policy"),
        ("emulator/world/testbed.py", "from emulator.cli import main", "emulator.cli.main"),
        ("emulator/world/testbed.py", "import pydantic", "pydantic"),
        ("emulator/forms/lora.py", "import emulator.running.coordinator", "emulator.running.coordinator"),
        ("device_profiles/catalog.py", "from emulator.errors import UserError", "emulator.errors.UserError"),
        ("emulator/running/compose.py", "import policies.legend", "policies.legend"),
        ("emulator/running/compose.py", "def f():\n    from policies import legend", "policies.legend"),
        (
            "policies/mine.py",
            "from device_profiles.catalog import load_profile",
            "device_profiles.catalog.load_profile",
        ),
        ("emulator/running/coordinator.py", "def f():\n    import torch", "torch"),
        ("emulator/backends/inline.py", "from peft import LoraConfig", "peft.LoraConfig"),
        ("emulator/learning/host.py", "import ray.util", "ray.util"),
        ("emulator/running/coordinator.py", "import ray as r", "ray"),
        ("emulator/running/coordinator.py", "from emulator.learning import host", "emulator.learning.host"),
        ("emulator/learning/tasks/local.py", "from ...world import clock", "emulator.world.clock"),
        ("emulator/world/testbed.py", "if TYPE_CHECKING:\n    import emulator.learning.host", "emulator.learning.host"),
        ("emulator/forms/lora.py", "import torch", "torch"),
        ("emulator/shapes/catalog.py", "import torch", "torch"),
        ("emulator/results/writer.py", "import emulator", "emulator"),
    ],
)
def test_an_import_that_no_floor_allows_is_found(path: str, text: str, module: str) -> None:
    assert wrong_imports(Source(path, text)) == [f"{path} imports {module}"]


def test_a_file_outside_every_room_is_found() -> None:
    assert wrong_imports(Source("emulator/plugins/mine.py", "")) == ["emulator/plugins/mine.py lies in no room"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("emulator/backends/ray.py", "import ray\nfrom emulator.learning.host import DeviceHost"),
        ("emulator/learning/tasks/local.py", "import torch\nfrom emulator.forms.lora import LoraForm"),
        ("policies/mine.py", "from emulator.forms.lora import LoraForm"),
        ("emulator/world/network/links.py", "from device_profiles.records import LinkSpec"),
        ("emulator/analysis/costs.py", "from emulator.results.reader import load"),
        ("emulator/world/ledger.py", "import itertools, numpy"),
    ],
)
def test_an_import_that_a_floor_allows_is_none_of_them(path: str, text: str) -> None:
    assert wrong_imports(Source(path, text)) == []


def test_no_files_import_one_another() -> None:
    assert import_circles(SOURCES) == []


@pytest.mark.parametrize(
    "back", ["from emulator.a import x", "if TYPE_CHECKING:\n    import emulator.a", "from . import a"]
)
def test_a_circle_is_found(back: str) -> None:
    circle = [Source("emulator/a.py", "from emulator.b import f"), Source("emulator/b.py", back)]

    assert import_circles(circle) == [["emulator/a.py", "emulator/b.py"]]


def test_a_circle_of_rooms_is_found_that_leads_through_a_third_file() -> None:
    circle = [
        Source("emulator/a/x.py", "from emulator.b import y"),
        Source("emulator/b/y.py", "def f():\n    import emulator.c.z"),
        Source("emulator/c/z.py", "from ..a import x"),
    ]

    assert import_circles(circle) == [["emulator/a/x.py", "emulator/b/y.py", "emulator/c/z.py"]]


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
        *(
            (f"emulator/algorithms/{name}.py", "import random, time")
            for name in ("balancing", "bandits", "estimation", "genetic", "grouping", "ranks")
        ),
        ("emulator/records/work.py", "import uuid"),
        ("emulator/learning/attach/lora.py", "import time"),
    ],
)
def test_a_clock_or_a_stream_without_the_run_s_seed_is_found(path: str, text: str) -> None:
    assert clocks_and_chance(Source(path, text))


def test_a_generator_may_be_named_and_hosts_may_read_the_clock() -> None:
    assert clocks_and_chance(Source("policies/mine.py", "import numpy as np\nx: np.random.Generator")) == []
    assert clocks_and_chance(Source("emulator/backends/inline.py", "import time")) == []


@pytest.mark.parametrize("path", ["emulator/utils.py", "emulator/common/x.py", "policies/_helpers.py"])
def test_a_vague_name_is_found(path: str) -> None:
    assert vague_names(path)
    assert not vague_names("emulator/commonplace.py")
