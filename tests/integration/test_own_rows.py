"""Runs in which the server's model is evaluated on rows that devices hold out of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emulator
from emulator.results import RunFrames, verify
from tests.integration.twins import Twins

SETTINGS: dict[str, Any] = {
    "policy.path": "fedlora",
    "rounds": 2,
    "testbed.n_devices": 12,
    "data.n_train": 240,
    "data.n_test": 60,
    "data.partition.alpha": 0.3,
    "evaluation.device_fraction": 0.3,
    "training.learning_rate": 1e-2,
    "backend.kind": "inline",
}
ON_IMAGES = {
    "model.train": "builtin:cnn",
    "data.source": "builtin:digits",
    "policy.path": "mergesfl",
    "training.learning_rate": 0.1,
}


@pytest.fixture(scope="module")
def on_texts(tmp_path_factory: pytest.TempPathFactory) -> RunFrames:
    return emulator.emulate(SETTINGS, tmp_path_factory.mktemp("texts") / "run")


@pytest.fixture(scope="module")
def on_images(tmp_path_factory: pytest.TempPathFactory) -> RunFrames:
    return emulator.emulate(SETTINGS | ON_IMAGES, tmp_path_factory.mktemp("images") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("given", ["on_texts", "on_images"])
def test_devices_are_told_apart_by_rows_of_their_own(given: str, request: pytest.FixtureRequest) -> None:
    run: RunFrames = request.getfixturevalue(given)

    verify(run)
    for index, rows in run.devices.groupby("round_index"):
        row = run.rounds.iloc[int(str(index))]
        scores, losses = rows["own_score"].dropna(), rows["own_loss"].dropna()
        assert len(scores) == len(losses) > 8  # but for those that hold a single row
        assert row["own_score_mean"] == pytest.approx(scores.mean())
        assert row["own_score_worst_tenth"] == pytest.approx(np.sort(scores)[:2].mean())
        assert row["own_score_spread"] == pytest.approx(scores.std(ddof=0))
        assert row["own_loss_mean"] == pytest.approx(losses.mean())
        assert row["own_loss_worst_tenth"] == pytest.approx(np.sort(losses)[-2:].mean())
        assert row["own_loss_spread"] == pytest.approx(losses.std(ddof=0))


@pytest.mark.slow
def test_rows_that_are_held_out_are_not_trained_on(on_texts: RunFrames, tmp_path: Path) -> None:
    usual = emulator.emulate(SETTINGS | {"evaluation.device_fraction": "none"}, tmp_path / "usual")
    run = on_texts

    usual_examples, own_examples = (each.devices.groupby("device_id")["n_examples"].first() for each in (usual, run))
    assert own_examples.sum() == run.info["n_train_examples"] < usual.info["n_train_examples"] == 240
    assert (own_examples <= usual_examples).all()
    assert (own_examples > 0).all()
    assert usual.rounds["own_score_mean"].isna().all()
    assert usual.devices["own_loss"].isna().all()
    assert run.info["n_test_examples"] == usual.info["n_test_examples"] == 60


@pytest.mark.slow
def test_rounds_that_are_not_evaluated_have_no_own_scores(tmp_path: Path) -> None:
    run = emulator.emulate(SETTINGS | {"evaluation.every_rounds": 2}, tmp_path / "run")

    assert run.rounds["own_loss_mean"].notna().tolist() == [False, True]
    assert run.devices.groupby("round_index")["own_loss"].count().iloc[0] == 0


@pytest.mark.slow
def test_on_ray_they_are_the_same(twins: Twins) -> None:
    inline, on_ray = (emulator.load(each["own-rows"]) for each in (twins.inline, twins.on_ray))

    assert inline.devices["own_score"].notna().sum() > 8
    assert on_ray.rounds.equals(inline.rounds)
    assert on_ray.devices["own_score"].equals(inline.devices["own_score"])
