"""A device host: the resident frozen model and data of a shard of devices, and what it can be asked to compute."""

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.compression.payloads import sent
from emulator.errors import ConfigError
from emulator.forms.base import AdapterForm
from emulator.learning.attach.base import StackedAdapters
from emulator.learning.data.batches import Batch, ResidentTokens
from emulator.learning.data.partition import Rows
from emulator.learning.data.tokens import TokenData
from emulator.learning.model.decoder import speed_up_decoder
from emulator.learning.model.encoder import speed_up
from emulator.learning.model.loading import FrozenModel
from emulator.learning.model.prefix import Around, PrefixCache, SkippableLayers
from emulator.learning.model.uniform import make_uniform
from emulator.learning.objective.base import Learning
from emulator.learning.settings import NO_TF32, NumericSettings
from emulator.objective.base import Objective
from emulator.objective.classification import Classification
from emulator.records import Arrays, EvaluationShard, Job, Update
from emulator.seeds import Seeds

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MOST_KEPT_BYTES, LARGEST_KEPT_BYTES = 2**31 - 1, 32 * 2**20  # the largest that glibc takes
DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True, slots=True)
class HostContent:
    """All that goes once into the object store: plain arrays, the same for every host.

    The training data is in the order of the devices: device ``d`` holds the rows from ``offsets[d]`` up to
    ``offsets[d + 1]``.
    """

    is_pretrained: ClassVar[Literal[True]] = True

    model: FrozenModel
    train: TokenData
    test: TokenData
    offsets: NDArray[np.int64]
    objective: Objective = field(default_factory=Classification)

    def local_rows(self, device_id: int) -> Rows:
        """The training rows of one device, in ascending order."""
        return np.arange(self.offsets[device_id], self.offsets[device_id + 1])

    def start(self, settings: NumericSettings) -> "DeviceHost":
        """A host for this content."""
        return DeviceHost(self, settings)


class Task(Protocol):
    """Trains the devices of one stack on a host, and returns their updates in the order of ``jobs``."""

    def __call__(self, host: "DeviceHost", form: AdapterForm, jobs: Sequence[Job]) -> list[Update]: ...


class DeviceHost:
    """Trains and evaluates on behalf of devices. It knows no clock, and keeps nothing of a device between calls."""

    def __init__(self, content: HostContent, settings: NumericSettings) -> None:
        begin_process(settings)
        self.content, self.settings = content, settings
        model: Any = content.model.build()
        self.model = model.to(settings.device, DTYPES[settings.precision])
        self.learning: Learning = imported(content.objective.learning)(content.objective)
        self.learning.fit(self.model)
        make_uniform(self.model, content.model)
        speed_up(self.model, content.model)
        decoder = speed_up_decoder(self.model, content.model)
        self.train_tokens = ResidentTokens(content.train, settings.device)
        self.test_tokens = ResidentTokens(content.test, settings.device)
        self._layers = SkippableLayers(self.model, content.model, decoder)
        self._layers.checkpointing = settings.checkpointing
        width, budget = self.model.config.hidden_size, settings.prefix_cache_bytes
        if self.model.config.is_encoder_decoder:  # whose decoder needs what the encoder gives beside its own input
            budget = 0
        # Held-out data comes first: evaluation uses all of it, training a part of its data in each round.
        self._test_prefix = PrefixCache(self._layers, self.test_tokens, width, budget)
        self._train_prefix = PrefixCache(self._layers, self.train_tokens, width, budget - self._test_prefix.n_bytes)
        self._attached: tuple[AdapterForm, StackedAdapters] | None = None
        self.on_step: Callable[[int], None] = lambda step: None
        """Called after each local step of a stack, with its number from 0: for whoever sets the pace of training."""

    def train(self, task: "Task | str", form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
        """Runs ``task`` (a function, or its import path ``module:function``) over the jobs of one stack.

        Updates are as the server reads them, behind whatever encodes them on their way.
        """
        function: Task = imported(task) if isinstance(task, str) else task
        compression, seeds = self.settings.compression, Seeds(self.settings.run_seed)
        updates = zip(jobs, function(self, form, jobs), strict=True)
        return [sent(form, job, update, compression, seeds) for job, update in updates]

    def evaluate(self, form: AdapterForm, state: Arrays, rows: range) -> EvaluationShard:
        """The server ``state`` on the held-out ``rows``. Rows of like length share a batch."""
        adapters = self.attach(form)
        adapters.load([state], assignments=None)
        data = self.content.test
        size = self.learning.rows_at_once(data, self.settings.eval_batch_size)
        ordered = np.array(rows)[np.argsort(data.lengths[rows.start : rows.stop], kind="stable")]
        first_layer, total = adapters.lowest_layer(state), EvaluationShard(0.0, 0, 0)
        with torch.no_grad():
            for start in range(0, len(ordered), size):
                batch = self.test_tokens.batch(ordered[start : start + size])
                total += self.learning.score(self.logits(batch, data, first_layer), batch)
        return total

    def attach(self, form: AdapterForm) -> StackedAdapters:
        """The learning side of ``form``, attached to the resident model; it stays attached until another form comes."""
        if self._attached is None or self._attached[0] != form:
            if self._attached is not None:
                self._attached[1].detach()
            self._attached = (form, imported(form.attachment)(self.model, self.content.model, form))
            self._layers.virtual_keys = self._attached[1].virtual_keys
        return self._attached[1]

    def logits(self, batch: Batch, data: TokenData, first_layer: int = 0) -> Tensor:
        """What the model gives for what the loss is about, float32: ``(rows, n_labels)``, or a row for each token.

        Args:
            batch: rows of ``data``.
            data: the training or the held-out data of this host's content.
            first_layer: the lowest layer whose output can differ from the frozen model's; those below it are computed
                once per sample.
        """
        if not self._layers.is_fast:
            batch = replace(batch, unpadded=None)
        if self._attached is not None:
            batch = self._attached[1].given(batch)
        layer = min(first_layer, self.content.model.n_layers - 1)
        prefix = self._train_prefix if data is self.content.train else self._test_prefix

        def run() -> Tensor:
            logits: Tensor = self._layers.run(batch, layer, prefix.hidden(batch, layer)).logits
            return logits

        return self.learning.logits(run, batch).float()

    def below(self, batch: Batch, layer: int) -> Tensor:
        """What the layers below ``layer`` give, ``(rows, length, hidden)``, with gradients."""
        return self._layers.input_of(layer, batch, has_gradients=True)

    @contextmanager
    def training_mode(self, seed: int) -> Iterator[None]:
        """Turns the model's dropout on, drawn from ``seed``; torch's global generators are left as they were."""
        devices = [torch.cuda.current_device()] if self.settings.device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            self.model.train()
            try:
                yield
            finally:
                self.model.eval()

    @contextmanager
    def layers_within(self, around: Around) -> Iterator[None]:
        """Lets every layer compute within ``around(layer, hidden, others)``: its input, and what else it is given."""
        self._layers.around = around
        try:
            yield
        finally:
            self._layers.around = None

    @contextmanager
    def row_by_row(self) -> Iterator[None]:
        """Within the block, layers are given whole rows, so that what is seen of them can be told apart by example."""
        self._layers.by_rows = True
        try:
            yield
        finally:
            self._layers.by_rows = False

    def prefix(self) -> tuple[int, int]:
        """How many layers below the lowest adapter are not computed again, and the bytes that are kept instead."""
        caches = (self._train_prefix, self._test_prefix)
        return max(cache.n_layers for cache in caches), sum(cache.n_used_bytes for cache in caches)


def begin_process(settings: NumericSettings) -> None:
    """Sets up this process for what ``settings`` ask of it.

    Raises:
        ConfigError: they ask for a GPU and there is none, or for what only a GPU can.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("backend.gpus_per_host asks for a GPU, but torch finds none here; set it to 0 for the CPU")
    if settings.precision == "tf32" and settings.device == "cpu":
        raise ConfigError(NO_TF32)
    torch.set_num_threads(settings.threads)
    # For convolutions torch allows it unless told otherwise.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = settings.precision == "tf32"
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Asks glibc to keep freed memory: activations come back in each step, and fresh pages cost a tenth of the time."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have no such knob
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def imported(path: str) -> Any:
    """The object at an import path ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
