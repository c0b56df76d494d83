"""What a run's configuration asks of the numeric plane: its settings, and the model and data to load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from emulator.backends.stack_size import devices_stacked
from emulator.config import Config
from emulator.errors import ConfigError
from emulator.forms.base import FrozenWeights, Site
from emulator.learning.settings import NO_TF32, NumericSettings
from emulator.records import Arrays, Prepared
from emulator.running.compression import compression_of
from emulator.running.objectives import run_objective
from emulator.running.optimizers import local_optimizer
from emulator.running.resolve import cluster_of, device_speeds
from emulator.seeds import Seeds
from emulator.shapes.catalog import check_hub_id
from emulator.shapes.model_folder import check_tokenizer_files
from emulator.shapes.names import ModelName

if TYPE_CHECKING:
    from emulator.learning.cut.convnet import ConvNetContent
    from emulator.learning.data.partition import Rows
    from emulator.learning.data.source import DataSource
    from emulator.learning.data.spread import Partition
    from emulator.learning.host import HostContent

    Content = HostContent | ConvNetContent
    """What hosts hold: a transformer with texts, or a convnet with images."""


def numeric_settings(config: Config) -> NumericSettings:
    """How hosts compute. It follows from the configuration alone, never from the number of hosts.

    Raises:
        ConfigError: the arithmetic that is asked for is not that of a CPU, or there is no such model.
    """
    training = config.training
    per_actor, on_gpu = config.backend.devices_per_actor, bool(config.backend.gpu_share)
    if training.precision == "tf32" and config.backend.gpus_per_host == 0:
        raise ConfigError(NO_TF32)
    stacked = devices_stacked(config, on_gpu)
    return NumericSettings(
        run_seed=config.seed,
        threads=training.threads_per_host,
        precision=training.precision,
        optimizer=local_optimizer(config),
        weight_decay=training.weight_decay,
        dropout=training.dropout,
        accumulation_steps=training.accumulation_steps,
        checkpointing=training.checkpointing,
        compression=compression_of(config),
        prefix_cache_bytes=training.prefix_cache_bytes,
        devices_stacked=min(stacked, per_actor) if per_actor else stacked,
        eval_batch_size=config.evaluation.batch_size,
        device="cuda" if on_gpu else "cpu",
    )


def check_content(config: Config) -> None:
    """Find what is wrong with model and data of a run that trains, as far as that can be told in a moment.

    Nothing is loaded that computes, and nothing is asked of a network.

    Raises:
        UserError: something is.
    """
    name = ModelName(config.model.train)
    if name.is_convnet:
        return
    from emulator.learning.model.places import locate

    data, train = config.data, name.text
    if name.is_builtin or name.folder:
        place = locate(train)
        check_tokenizer_files(place.folder, train)
        # Before weights of gigabytes are loaded.
        run_objective(config).spec(train, n_labels=2, seq_len=data.seq_len, head=config.model.head, config=place.config)
    else:
        check_hub_id(train, "model.train")
    source = _data_source(config)
    if source.can_be_read_early():
        read = _imported(run_objective(config).reader)(source, config.seed)
        _check_owned(config, read.owners, read.train_rows)


def _check_owned(config: Config, owners: Sequence[str] | None, rows: Rows) -> None:
    """Find what is wrong with a partition that the data bring with them; ``rows`` are those that are trained on."""
    from emulator.learning.data.owners import read_given, whole_owners

    partition, n_devices = config.data.partition, cluster_of(config).n_devices
    if owners is not None:
        whole_owners(owners, n_devices, partition.min_examples, Seeds(config.seed).rng("partition"))
    if partition.file is not None:
        read_given(partition.file, rows, n_devices, partition.min_examples)


def content_key(config: Config, n_devices: int) -> str:
    """All that :func:`load_content` depends on: runs with the same key share what is loaded."""
    model = {
        "train": config.model.train,
        "head": config.model.head,
        "base_precision": config.model.base_precision,
        "task": config.task.model_dump(),
    }
    held_out, speeds = config.evaluation.device_fraction, _speeds(config)
    return json.dumps([config.seed, n_devices, model, config.data.model_dump(), held_out, speeds], sort_keys=True)


def without_weights(content: Content) -> tuple[Content, Arrays]:
    """``content`` without the pre-trained weights, and these: the same whatever the seed, the data and the labels."""
    if not content.is_pretrained:
        return content, {}
    model = content.model
    base = f"{model.layer_paths()[0].partition('.')[0]}."
    weights = {
        name: array
        for name, array in model.arrays.items()
        if (name.startswith(base) or not model.role.has_new_head) and name not in model.initialised
    }
    own = {name: array for name, array in model.arrays.items() if name not in weights}
    return replace(content, model=replace(model, arrays=own)), weights


def with_weights(content: Content, weights: Arrays) -> Content:
    """The inverse of :func:`without_weights`; nothing is copied."""
    if not content.is_pretrained:
        return content
    return replace(content, model=replace(content.model, arrays={**weights, **content.model.arrays}))


def weights_of(content: Content, sites: Sequence[Site]) -> FrozenWeights:
    """The pre-trained weights of these matrices; a model that is not pre-trained has none."""
    return content.model.weights(sites) if content.is_pretrained else {}


def own_arrays_of(content: Content, names: Sequence[str]) -> Arrays:
    """The pre-trained weights of the model as these arrays of a form that trains them."""
    from emulator.learning.model.parts import own_arrays

    if not content.is_pretrained:
        raise AssertionError("a form that holds a model's weights is for models that have some")
    return own_arrays(content.model, names)


def load_content(config: Config, n_devices: int) -> tuple[Content, Prepared]:
    """Load what hosts need, and tell the coordinator about it. Imports torch.

    Raises:
        DataError: the model or the data cannot be used.
    """
    data = config.data
    if ModelName(config.model.train).is_convnet:
        from emulator.learning.prepare import prepare_images

        return prepare_images(
            source=data.source,
            test_source=data.test_source,
            test_fraction=data.test_fraction,
            n_train=data.n_train,
            n_test=data.n_test,
            n_devices=n_devices,
            partition=_partition(config),
            run_seed=config.seed,
            device_fraction=config.evaluation.device_fraction,
        )
    from emulator.learning.prepare import prepare

    return prepare(
        train_model=config.model.train,
        data=_data_source(config),
        seq_len=data.seq_len,
        n_devices=n_devices,
        partition=_partition(config),
        run_seed=config.seed,
        head=config.model.head,
        objective=run_objective(config),
        device_fraction=config.evaluation.device_fraction,
        base_precision=config.model.base_precision,
    )


def _partition(config: Config) -> Partition:
    from emulator.learning.data.spread import Partition

    return Partition(**config.data.partition.model_dump(), speeds=_speeds(config))


def _speeds(config: Config) -> tuple[float, ...]:
    """How fast each device computes at its best, where the partition goes by that."""
    return device_speeds(config) if config.data.partition.scheme == "speed" else ()


def _data_source(config: Config) -> DataSource:
    from emulator.learning.data.source import DataSource
    from emulator.learning.data.tables import FileLayout

    data = config.data
    return DataSource(
        source=data.source,
        text_column=data.text_column,
        label_column=data.label_column,
        test_source=data.test_source,
        test_fraction=data.test_fraction,
        n_train=data.n_train,
        n_test=data.n_test,
        layout=FileLayout(
            header=None if data.header == "auto" else data.header,
            separator=data.separator,
            is_quoted=None if data.quoting == "auto" else data.quoting == "minimal",
            streams=None if data.streaming == "auto" else data.streaming,
        ),
        configuration=data.configuration,
        text_pair_column=data.text_pair_column,
        prompt_column=data.prompt_column,
        response_column=data.response_column,
        template=data.template,
        messages_column=data.messages_column,
        options_column=data.options_column,
        answer_column=data.answer_column,
        label_separator=data.label_separator,
        owner_column=data.partition.column,
    )


def _imported(path: str) -> Any:
    """The object at an import path ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
