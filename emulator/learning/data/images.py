"""Reads labelled images from a file or the built-in set, and splits them for training and evaluation."""

import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_profiles.text_files import FileError, size_of, user_path
from emulator.errors import DataError
from emulator.learning.data.split import at_most, hold_out
from emulator.learning.data.tables import Column
from emulator.learning.data.texts import remarks_of
from emulator.seeds import Seeds
from emulator.shapes.convnet_catalog import BUILTIN_IMAGES

Pixels = NDArray[np.float32]
OWNERS = "data.partition.column"
LEAST_SIDE = 2
"""Pixels that an image has in height and width at least, since it is pooled by two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageData:
    """Labelled images: ``pixels (n, channels, height, width)`` float32 and ``labels (n,)`` int64."""

    pixels: Pixels
    labels: NDArray[np.int64]

    def rows(self, rows: NDArray[np.int64]) -> "ImageData":
        """The images with these numbers."""
        return ImageData(pixels=self.pixels[rows], labels=self.labels[rows])

    def with_rows_of(self, other: "ImageData", rows: NDArray[np.int64]) -> "ImageData":
        """These images, and then those of ``other`` with these numbers."""
        added = other.rows(rows)
        return ImageData(
            pixels=np.concatenate([self.pixels, added.pixels]), labels=np.concatenate([self.labels, added.labels])
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """A data set of images. Labels are indices into ``label_names``.

    ``train_rows (n,)`` are the numbers of the training images in the source, from 0, and ``owners (n,)`` who owns them,
    where an array says so.
    """

    train: ImageData
    test: ImageData
    label_names: tuple[str, ...]
    train_rows: NDArray[np.int64]
    owners: tuple[str, ...] | None = None
    remarks: tuple[str, ...] = ()


def load_images(
    source: str,
    *,
    test_source: str | None = None,
    test_fraction: float = 0.1,
    n_train: int | None = None,
    n_test: int | None = None,
    owner_column: Column | None = None,
    seed: int = 0,
) -> Images:
    """Reads a data set of labelled images; pixels have mean 0 and deviation 1 over those for training.

    Args:
        source: ``builtin:digits``, the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn; or an npz
            file with the arrays ``images``, ``(n, height, width)`` or ``(n, height, width, channels)``, and ``labels``,
            ``(n,)``, whole numbers or texts.
        test_source: an npz file with the held-out images; without it a stratified part of ``source`` is drawn.
        test_fraction: size of that part.
        n_train, n_test: at most so many images, drawn from ``seed``.
        owner_column: name of the array of ``source``, ``(n,)`` numbers or texts, that says who owns an image; without,
            nobody is asked.
        seed: the run's seed.

    Raises:
        DataError: a missing file or array, shapes that do not fit, fewer than two labels, or numbers that
            are not finite.
    """
    seeds = Seeds(seed)
    if source == BUILTIN_IMAGES:
        pixels, texts, owners = _digits(owner_column)
    else:
        pixels, texts, owners = _read(source, "data.source", owner_column)
    names = np.unique(texts)
    if len(names) < 2:
        raise DataError(f"data.source: {source!r} has fewer than two different labels: {names.tolist()}")
    whole = ImageData(pixels=pixels, labels=np.searchsorted(names, texts).astype(np.int64))
    kept_rows = np.arange(len(whole.labels))
    if test_source is None:
        kept_rows, test_rows = hold_out(whole.labels, test_fraction, seeds.rng("data_split"), source)
        train, test = whole.rows(kept_rows), whole.rows(test_rows)
    else:
        train, test = whole, _held_out(test_source, whole, names)
    train_rows = at_most(train.labels, n_train, seeds.rng("data_train"))
    train = train.rows(train_rows)
    test = test.rows(at_most(test.labels, n_test, seeds.rng("data_test")))
    mean, deviation = train.pixels.mean(dtype=np.float64), train.pixels.std(dtype=np.float64) or 1.0

    def scaled(images: ImageData) -> ImageData:
        return ImageData(pixels=((images.pixels - mean) / deviation).astype(np.float32), labels=images.labels)

    label_texts = tuple(map(str, names))
    return Images(
        train=scaled(train),
        test=scaled(test),
        label_names=label_texts,
        train_rows=kept_rows[train_rows],
        owners=None if owners is None else tuple(map(str, owners[kept_rows[train_rows]])),
        remarks=remarks_of(train.labels, test.labels, label_texts),
    )


Read = tuple[Pixels, NDArray[Any], NDArray[Any] | None]
"""Images as ``(n, channels, height, width)``, labels, and owners where they are asked for."""


def _digits(owner_column: Column | None) -> Read:
    if owner_column is not None:
        raise DataError(f"{OWNERS}: {BUILTIN_IMAGES!r} does not say who owns an image; give an npz file as data.source")
    try:
        from sklearn.datasets import load_digits  # wanted for this one data set alone
    except ImportError:
        raise DataError(
            f"data.source: {BUILTIN_IMAGES!r} comes with scikit-learn, which is not installed; install"
            " jetbed[images], or give an npz file"
        ) from None
    digits = load_digits()
    return digits.images[:, None].astype(np.float32), digits.target.astype(np.int64), None


def _read(source: str, key: str, owner_column: Column | None = None) -> Read:
    """What an npz file has, ``key``'s value."""
    path = user_path(source)
    try:
        size_of(path)
    except FileError as error:
        raise DataError(f"{key}: there is no file {source!r} ({error})") from None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("images", "labels") if name in arrays}
            owners = arrays.get(str(owner_column))
            there = ", ".join(arrays.files)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{key}: cannot read {source!r} as npz: {str(error).splitlines()[0]}") from error
    if len(found) < 2:
        raise DataError(f"{key}: {source!r} needs the arrays images and labels, it has: {there}")
    images, labels = found["images"], found["labels"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise DataError(
            f"{key}: {source!r} needs images (n, height, width) or (n, height, width, channels) and labels (n,), got"
            f" {found['images'].shape} and {labels.shape}"
        )
    if min(images.shape[1:3]) < LEAST_SIDE:
        raise DataError(f"{key}: images need at least {LEAST_SIDE} pixels in height and width, got {images.shape[1:3]}")
    if images.dtype.kind not in "uif" or labels.dtype.kind not in "uiU":
        raise DataError(
            f"{key}: {source!r} needs images of numbers and labels of whole numbers or texts, got {images.dtype} and"
            f" {labels.dtype}"
        )
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    if not np.isfinite(pixels).all():
        raise DataError(f"{key}: images of {source!r} hold numbers that are not finite")
    if owner_column is None:
        return pixels, labels, None
    if owners is None:
        raise DataError(f"{OWNERS}: {source!r} has no array {owner_column!r}; it has: {there}")
    if owners.shape != labels.shape:
        raise DataError(
            f"{OWNERS}: {source!r} needs one owner for each of its {len(labels)} images in {owner_column!r}, got"
            f" {owners.shape}"
        )
    return pixels, labels, owners


def _held_out(test_source: str, whole: ImageData, names: NDArray[Any]) -> ImageData:
    pixels, texts, _ = _read(test_source, "data.test_source")
    if pixels.shape[1:] != whole.pixels.shape[1:]:
        raise DataError(
            f"data.test_source: images of {test_source!r} have another shape than those of data.source,"
            f" {pixels.shape[1:]} instead of {whole.pixels.shape[1:]} (channels, height, width)"
        )
    if unknown := sorted(set(texts.tolist()) - set(names.tolist()), key=str):
        raise DataError(f"data.test_source: {test_source!r} has labels that data.source has not: {unknown[0]!r}")
    return ImageData(pixels=pixels, labels=np.searchsorted(names, texts).astype(np.int64))
