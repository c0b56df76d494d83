"""Names of runs: short, unique, and read as text by everybody."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.sweeps.naming import MOST_CHARACTERS, label_of, run_names, short_keys

values = st.one_of(
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(-1e6, 1e6),
    st.text(max_size=60),
    st.dictionaries(st.sampled_from(["path", "rank", "alpha"]), st.integers(0, 9) | st.text(max_size=9), max_size=3),
)


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["seed", "testbed.cluster"], ["seed", "cluster"]),
        (["training.precision", "testbed.precision"], ["training-precision", "testbed-precision"]),
        (["data.partition.alpha", "policy.alpha", "alpha"], ["partition-alpha", "policy-alpha", "alpha"]),
    ],
)
def test_a_key_is_as_short_as_it_can_be_told_from_the_others(keys: list[str], short: list[str]) -> None:
    assert list(short_keys(keys).values()) == short


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"policy": "legend", "seed": 0}, "policy-legend,seed-0"),
        ({"policy": {"path": "fedlora", "rank": 4}}, "policy-fedlora-rank-4"),
        ({"policy": "my.module:Mine"}, "policy-my.module-Mine"),
        ({"testbed.cluster": "clusters/big one.toml"}, "cluster-big-one"),
        ({"training.learning_rate": 1e-4}, "learning_rate-0.0001"),
        ({"policy.shift": -2}, "shift-minus2"),
        ({"training.dropout": True}, "dropout-True"),
    ],
)
def test_a_name_says_what_distinguishes_a_run(settings: dict[str, Any], name: str) -> None:
    assert run_names([(None, settings)]) == [name]


@given(st.lists(values, min_size=1, max_size=6, unique_by=repr))
def test_names_are_unique_short_and_safe_in_paths(given_values: list[Any]) -> None:
    names = run_names([(None, {"data.source": value}) for value in given_values])

    assert len({*names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z][A-Za-z0-9,._-]*", name)
        assert len(name) <= MOST_CHARACTERS


def test_a_name_does_not_depend_on_the_other_runs_unless_it_would_be_the_same() -> None:
    first = {"testbed.cluster": "a/lab.toml"}
    alone = run_names([(None, first)])
    with_others = run_names([(None, first), (None, {"testbed.cluster": "other"})])
    with_twin = run_names([(None, first), (None, {"testbed.cluster": "b/lab.toml"})])

    assert alone == ["cluster-lab"] == with_others[:1]
    assert with_twin[0] != with_twin[1]
    assert all(re.fullmatch(r"cluster-lab-[0-9a-f]{8}", name) for name in with_twin)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (3, 3),
        (0.5, 0.5),
        (True, True),
        ("jetson80", "jetson80"),
        ({"path": "fedlora"}, "fedlora"),
        ({"path": "fedlora", "rank": 4, "depth": 2}, "fedlora(rank=4,depth=2)"),
        ({"scheme": "iid"}, "scheme=iid"),
        ({}, "base"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_labels_are_plain_values(value: Any, label: Any) -> None:
    assert label_of(value) == label
