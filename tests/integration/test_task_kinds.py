"""Whole runs that learn numbers and sets of labels: what they record, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import emulator
from emulator.errors import UserError

COLOURS = ("red", "green", "blue")


def write_rows(path: Path, kind: str, n_rows: int = 240) -> str:
    """Texts that name colours; the labels are these colours, or how many there are."""
    rng, rows = np.random.default_rng(2), []
    for _ in range(n_rows):
        named = [colour for colour in COLOURS if rng.random() < 0.5]
        words = rng.permutation([*named, "house", "tree"])
        label: Any = named if kind == "multi_label" else float(len(named))
        rows.append(json.dumps({"text": " ".join(words), "label": label}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def settings(folder: Path, kind: str, **changed: Any) -> dict[str, Any]:
    return {
        "task.kind": kind,
        "data.source": write_rows(folder / "rows.jsonl", kind),
        "data.test_fraction": 0.2,
        "policy.path": "fedlora",
        "rounds": 4,
        "testbed.n_devices": 4,
        "backend.kind": "inline",
        "model.train": "builtin:tiny-12",
        "model.price": "trained",
        "training.learning_rate": 1e-2,
        "training.local_steps": 8,
    } | {key.replace("__", "."): value for key, value in changed.items()}


@pytest.mark.slow
def test_a_federated_run_learns_numbers(tmp_path: Path) -> None:
    run = emulator.emulate(settings(tmp_path, "regression"), tmp_path / "run")

    rounds = run.rounds
    assert rounds["loss"].iloc[-1] < 0.5 * rounds["loss"].iloc[0]
    assert rounds["mse"].tolist() == rounds["loss"].tolist()
    assert rounds["pearson"].iloc[-1] > 0.8
    assert rounds["spearman"].iloc[-1] > 0.8
    assert rounds[["accuracy", "macro_f1", "mcc"]].isna().all(axis=None)
    assert run.info["label_names"] == []
    held = pq.read_table(tmp_path / "run" / "partition.parquet").to_pandas()
    assert set(held["label"]) == {"below 1", "1 to 2", "2 to 3", "3 or more"}
    assert held["n_examples"].sum() == run.info["n_train_examples"]
    assert run.info["data"]["numbers"] == {"least": 0.0, "most": 3.0}
    assert [head["out_features"] for head in run.info["priced_shapes"]["head"].values()] == [1]


@pytest.mark.slow
def test_a_federated_run_learns_sets_of_labels(tmp_path: Path) -> None:
    run = emulator.emulate(settings(tmp_path, "multi_label"), tmp_path / "run")

    rounds = run.rounds
    assert rounds["loss"].is_monotonic_decreasing
    assert rounds["micro_f1"].iloc[-1] > 0.8
    assert rounds["macro_f1"].iloc[-1] > 0.8
    assert rounds["exact_match"].iloc[-1] > rounds["exact_match"].iloc[0]
    assert rounds[["accuracy", "mcc", "pearson", "calibration_error"]].isna().all(axis=None)
    assert run.info["label_names"] == ["blue", "green", "red"]
    assert [len(own) for own in rounds["class_f1"]] == [3] * 4
    assert json.loads((tmp_path / "run" / "adapter" / "labels.json").read_text()) == ["blue", "green", "red"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_a_smaller_alpha_spreads_them_less_evenly(kind: str, tmp_path: Path) -> None:
    sizes = []
    for alpha in (0.1, 100.0):
        changed = settings(tmp_path, kind, rounds=1, training__local_steps=1, data__partition__alpha=alpha)
        run = emulator.emulate(changed, tmp_path / f"run-{alpha}")
        sizes.append(run.devices["n_examples"].std())
    assert sizes[0] > 2 * sizes[1]


@pytest.mark.parametrize(
    ("kind", "changed", "said"),
    [
        ("regression", {"data__label_column": "text"}, "must be two different columns"),
        ("regression", {"data__label_column": "score"}, "has no column 'score'"),
        ("multi_label", {"data__source": "builtin:intents"}, "has one label for each text"),
        (
            "regression",
            {"model__train": "builtin:cnn", "data__source": "builtin:digits", "policy__path": "mergesfl"},
            "is a convnet, which learns labels of images alone",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    kind: str, changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        emulator.emulate(settings(tmp_path, kind, **changed), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
