"""Images from files and from the built-in set: shapes, splits, scaling, and what is said about broken ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.errors import DataError
from emulator.learning.data.images import load_images


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return str(path)


def made_up(n: int = 20, *shape: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"images": rng.integers(0, 256, (n, *(shape or (5, 4)))).astype(np.uint8), "labels": np.arange(n) % 4}


def test_the_built_in_digits_are_scaled_and_split() -> None:
    images = load_images("builtin:digits")

    assert images.train.pixels.shape == (1617, 1, 8, 8)
    assert images.test.pixels.shape == (180, 1, 8, 8)
    assert images.label_names == tuple("0123456789")
    assert images.train.pixels.mean() == pytest.approx(0, abs=1e-5)
    assert images.train.pixels.std() == pytest.approx(1, abs=1e-5)


def test_channels_come_first_and_held_out_images_are_not_trained_on(tmp_path: Path) -> None:
    images = load_images(saved(tmp_path, **made_up(40, 5, 4, 3)), test_fraction=0.25)

    assert images.train.pixels.shape == (30, 3, 5, 4)
    assert images.test.pixels.shape == (10, 3, 5, 4)
    rows = {array.tobytes() for array in images.train.pixels} | {array.tobytes() for array in images.test.pixels}
    assert len(rows) == 40


def test_labels_may_be_texts_and_sizes_may_be_limited(tmp_path: Path) -> None:
    arrays = made_up(40) | {"labels": np.array(["cat", "dog"] * 20)}
    images = load_images(saved(tmp_path, **arrays), n_train=8, n_test=2)

    assert images.label_names == ("cat", "dog")
    assert (len(images.train.labels), len(images.test.labels)) == (8, 2)
    assert np.bincount(images.train.labels).tolist() == [4, 4]


def test_a_file_of_its_own_may_hold_the_held_out_images(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    images = load_images(saved(tmp_path, **made_up(20)), test_source=saved(tmp_path / "test", **made_up(6)))

    assert (len(images.train.labels), len(images.test.labels)) == (20, 6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "needs the arrays images and labels, it has: pixels"),
        (made_up() | {"labels": np.zeros(3, int)}, r"got \(20, 5, 4\) and \(3,\)"),
        (made_up() | {"labels": np.zeros(20, int)}, r"fewer than two different labels: \[0\]"),
        (made_up(20, 1, 4), "images need at least 2 pixels in height and width"),
        (made_up() | {"labels": np.zeros(20)}, "got uint8 and float64"),
        (made_up() | {"images": np.full((20, 5, 4), np.nan)}, "hold numbers that are not finite"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_images(saved(tmp_path, **arrays))


def test_files_that_are_missing_or_no_npz_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.source: there is no file 'nowhere.npz'"):
        load_images("nowhere.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(DataError, match="as npz"):
        load_images(str(tmp_path / "broken.npz"))


def test_held_out_images_must_fit(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    source = saved(tmp_path, **made_up(20))
    with pytest.raises(DataError, match=r"data.test_source: images of .* have another shape"):
        load_images(source, test_source=saved(tmp_path / "test", **made_up(6, 5, 5)))
    with pytest.raises(DataError, match=r"has labels that data.source has not: 9"):
        load_images(source, test_source=saved(tmp_path / "test", **made_up(6) | {"labels": np.full(6, 9)}))
