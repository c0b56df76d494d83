"""Reads model and data once, before any host exists, and shares the data out over the devices."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emulator.errors import DataError
from emulator.learning.cut.convnet import ConvNetContent
from emulator.learning.data.images import load_images
from emulator.learning.data.on_disk import rows_of
from emulator.learning.data.partition import Rows, label_histograms
from emulator.learning.data.source import DataSource
from emulator.learning.data.split import hold_out_of_each
from emulator.learning.data.spread import Partition, TrainingRows, spread
from emulator.learning.data.token_parts import tokens_of
from emulator.learning.data.tokens import Cut
from emulator.learning.host import HostContent, imported
from emulator.learning.model.base_weights import in_precision
from emulator.learning.model.decoder import is_fast_decoder
from emulator.learning.model.embeddings import mean_pooled
from emulator.learning.model.encoder import is_fast_encoder
from emulator.learning.model.loading import FrozenModel, load_model
from emulator.learning.model.places import Place, locate
from emulator.learning.model.tokenizer import load_tokenizer
from emulator.learning.model.weights_digest import weights_digest
from emulator.learning.objective.base import Examples, Learning
from emulator.objective.base import Objective
from emulator.objective.classification import Classification
from emulator.records import BasePrecision, Prepared
from emulator.seeds import Seeds
from emulator.shapes.catalog import Head
from emulator.shapes.convnet_catalog import builtin_convnet


def prepare(
    *,
    train_model: str,
    data: DataSource,
    seq_len: int,
    n_devices: int,
    partition: Partition,
    run_seed: int,
    head: Head = "output",
    objective: Objective | None = None,
    device_fraction: float | None = None,
    base_precision: BasePrecision = "float32",
) -> tuple[HostContent, Prepared]:
    """Loads ``train_model`` and ``data``, tokenises, and partitions over ``n_devices``.

    Args:
        train_model: ``builtin:mini-12``, a local directory, or a hub id.
        data: where the texts are.
        seq_len: tokens after which texts are cut off.
        n_devices: number of devices.
        partition: how the rows are spread over them.
        run_seed: for the new parts of the model, the split and the partition.
        head: which linear maps of a new head are trained.
        objective: what is learnt; without, classification.
        device_fraction: share of its rows that each device holds out; without, none does.
        base_precision: what the frozen weights are stored in.

    Raises:
        DataError: model or data cannot be used, the rows do not have what the partition goes by, or there are fewer
            than devices.
    """
    seeds, objective = Seeds(run_seed), objective or Classification()
    learning: Learning = imported(objective.learning)(objective)
    if partition.scheme == "natural":
        data = replace(data, owner_column=partition.owner_column)
    examples = learning.read(data, run_seed)
    names = examples.label_names

    @cache
    def loaded() -> tuple[Place, Any, FrozenModel]:
        place = locate(train_model)
        tokenizer = load_tokenizer(place)
        learning.check(examples.train, place, tokenizer)
        seed = seeds.integer("model_initialisation")
        n_outputs = objective.n_outputs(len(names))
        frozen = load_model(place, n_outputs, seed, head, tokenizer.pad_token_id, learning.role)
        return place, tokenizer, in_precision(frozen, base_precision)

    def embeddings() -> NDArray[np.float64]:
        _, tokenizer, frozen = loaded()
        tokens, _ = tokens_of(
            examples.train,
            examples.train_labels,
            lambda own, labels: learning.tokens(own, labels, tokenizer, seq_len),
        )
        return mean_pooled(frozen, tokens)

    rows = TrainingRows(
        labels=examples.train_labels,
        has_labels=bool(examples.train_labels.any()),
        source_rows=examples.train_rows,
        owners=lambda: examples.owners or (),
        embeddings=embeddings,
    )
    # Where the partition does not need it, the model is loaded behind: it may be large, and the data wrong.
    parts = spread(partition, rows, n_devices, seeds.rng("partition"))
    place, tokenizer, frozen = loaded()
    if names:
        classes = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
        frozen = replace(frozen, config={**frozen.config, **classes})
    own = hold_out_of_each(parts, device_fraction, seeds.rng("device_held_out"))
    content, prepared = _prepared(learning, frozen, examples, own, seq_len, head, tokenizer)
    return content, replace(prepared, base_model=_base_facts(place, frozen))


def _prepared(
    learning: Learning,
    frozen: FrozenModel,
    examples: Examples,
    own: tuple[Sequence[Rows], Sequence[Rows]],
    seq_len: int,
    head: Head,
    tokenizer: Any,
) -> tuple[HostContent, Prepared]:
    n_known = int(frozen.config["vocab_size"])
    if len(tokenizer) > n_known:
        raise DataError(
            f"model.train: the tokenizer of {frozen.name!r} has {len(tokenizer)} words, the model knows {n_known}; "
            "save the tokenizer that the model was trained with beside its weights"
        )
    n_labels, objective, strata = len(examples.label_names), learning.objective, examples.names_of_strata
    spec = objective.spec(frozen.name, n_labels=n_labels, seq_len=seq_len, head=head, config=frozen.config)
    parts, held_out = own
    rows, own_rows = np.concatenate(parts), np.concatenate(held_out)
    train, train_cut = tokens_of(
        rows_of(examples.train, rows),
        examples.train_labels[rows],
        lambda own, labels: learning.tokens(own, labels, tokenizer, seq_len),
    )
    train, offsets = learning.arranged(train, np.cumsum([0, *map(len, parts)]))
    counts = np.diff(offsets)
    own_examples = rows_of(examples.train, own_rows)
    test, test_cut = learning.held_out(
        [*examples.test, *own_examples],
        np.concatenate([examples.test_labels, examples.train_labels[own_rows]]),
        tokenizer,
        seq_len,
    )
    n_test_rows = sum(map(learning.n_rows, examples.test))
    own_sizes = [sum(learning.n_rows(examples.train[row]) for row in part) for part in held_out]
    content = HostContent(
        model=frozen,
        train=train,
        test=test,
        offsets=offsets,
        objective=objective,
    )
    cut = train_cut + test_cut
    padding = {
        "token": str(tokenizer.pad_token),
        "id": int(tokenizer.pad_token_id),
        "from": "tokenizer",
        "id_in_config": frozen.stated_padding,
    }
    return content, Prepared(
        model=learning.measured(spec, train),
        head=frozen.head_arrays(),
        label_names=examples.label_names,
        # Rows that texts share have no label of their own.
        label_histograms=counts[:, None]
        if len(train.labels) < len(rows)
        else label_histograms(examples.train_labels, parts, max(len(strata), 1)),
        strata=strata,
        n_examples=counts,
        n_test_examples=len(examples.test_labels),
        n_test_rows=n_test_rows,
        majority_accuracy=examples.majority_accuracy,
        understood={**examples.understood, "cut": _cut_facts(cut, seq_len), "padding": padding},
        remarks=(
            *examples.read_as,
            *_cut_remarks(cut, learning.limits(seq_len)),
            *examples.remarks,
            *_pace_remarks(frozen),
        ),
        own_test_offsets=_offsets(own_sizes, n_test_rows),
    )


def _base_facts(place: Place, frozen: FrozenModel) -> dict[str, Any]:
    return {
        "name": place.base,
        "revision": place.revision,
        "weights_sha256": weights_digest(place.weights),
        "task_type": frozen.role.peft_task,
        "problem_type": frozen.role.settings.get("problem_type"),
        "n_labels": frozen.n_labels,
    }


def _offsets(sizes: Sequence[int], start: int) -> NDArray[np.int64]:
    """``(n_devices + 1,)``: where the rows of each device begin and end, one device after the other from ``start``."""
    offsets: NDArray[np.int64] = start + np.cumsum([0, *sizes])
    return offsets


def _cut_facts(cut: Cut, seq_len: int) -> dict[str, Any]:
    return {
        "seq_len": seq_len,
        "n_texts": cut.n_texts,
        "n_texts_cut": cut.n_texts_cut,
        "n_tokens": cut.n_tokens,
        "n_tokens_cut": cut.n_tokens_cut,
    }


def _cut_remarks(cut: Cut, limits: str) -> tuple[str, ...]:
    if not cut.n_texts_cut:
        return ()
    return (
        f"{cut.n_texts_cut} of {cut.n_texts} texts are cut at {limits}, which leaves out "
        f"{cut.n_tokens_cut / cut.n_tokens:.0%} of all tokens",
    )


def _pace_remarks(frozen: FrozenModel) -> tuple[str, ...]:
    if is_fast_decoder(frozen) or is_fast_encoder(frozen.class_name, frozen.config):
        return ()
    return (
        f"training: the layers of {frozen.name!r}, a {frozen.class_name}, are computed by transformers "
        "as they are, with all padding; it takes longer than other models do",
    )


def prepare_images(
    *,
    source: str,
    test_source: str | None,
    test_fraction: float,
    n_train: int | None,
    n_test: int | None,
    n_devices: int,
    partition: Partition,
    run_seed: int,
    device_fraction: float | None = None,
) -> tuple[ConvNetContent, Prepared]:
    """Loads images and partitions them over ``n_devices``; the built-in convnet takes on their shape.

    Each device holds out ``device_fraction`` of its own, or nothing without it.

    Raises:
        DataError: the data cannot be used, or there are fewer training samples than devices.
    """
    images = load_images(
        source,
        test_source=test_source,
        test_fraction=test_fraction,
        n_train=n_train,
        n_test=n_test,
        owner_column=partition.owner_column if partition.scheme == "natural" else None,
        seed=run_seed,
    )
    labels, n_labels = images.train.labels, len(images.label_names)
    rows = TrainingRows(
        labels=labels,
        has_labels=True,
        source_rows=images.train_rows,
        owners=lambda: images.owners or (),
        embeddings=lambda: images.train.pixels.reshape(len(labels), -1).astype(np.float64),
    )
    seeds = Seeds(run_seed)
    parts = spread(partition, rows, n_devices, seeds.rng("partition"))
    parts, held_out = hold_out_of_each(parts, device_fraction, seeds.rng("device_held_out"))
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    channels, height, width = images.train.pixels.shape[1:]
    content = ConvNetContent(
        model=builtin_convnet((channels, height, width), n_labels),
        train=images.train.rows(np.concatenate(parts)),
        test=images.test.with_rows_of(images.train, np.concatenate(held_out)),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
    )
    return content, Prepared(
        model=content.model,
        head={},
        label_names=images.label_names,
        label_histograms=label_histograms(labels, parts, n_labels),
        strata=images.label_names,
        n_examples=sizes,
        n_test_examples=len(images.test.labels),
        n_test_rows=len(images.test.labels),
        majority_accuracy=float(np.bincount(images.test.labels).max() / len(images.test.labels)),
        remarks=images.remarks,
        own_test_offsets=_offsets([len(part) for part in held_out], len(images.test.labels)),
    )
