"""Real training steps of one model with random weights, timed one by one: what calibration measures a machine with."""

import ctypes
import gc
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig
from transformers import AutoModelForSequenceClassification as TypedAutoClassifier

from emulator.learning.model.sites import find_sites
from emulator.records import Work, WorkKind

AutoClassifier: Any = TypedAutoClassifier  # transformers ships types, but not for its auto classes

_FIRST_WORD = 3  # the numbers below stand for padding and the like
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSeconds:
    """What one step took by the wall, and by the CPU clock of all of the process's threads."""

    wall_s: float
    cpu_s: float


class StepBench:
    """A sequence classifier of given shapes whose training steps can be timed.

    The weights are random, since what they are makes no difference to a step's time. Attention is eager and nothing is
    dropped out, as the cost model counts.

    Args:
        config: what a config.json would say: ``model_type`` and sizes.
        device: torch's name of where to compute, ``cpu`` or ``cuda``.
        n_threads: of torch, for the whole process.
    """

    def __init__(self, config: Mapping[str, Any], device: str, n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._memory = _PeakMemory(device)
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._model: Any = AutoClassifier.from_config(AutoConfig.for_model(**config), attn_implementation="eager")
        self._model.requires_grad_(False).to(device)

    @contextmanager
    def steps(self, work: Work, precision: str) -> "Iterator[Callable[[], StepSeconds]]":
        """A function that does one step of ``work`` each time it is called; adapters are there while the block lasts.

        ``precision`` is ``fp32``, or ``amp`` on a GPU: autocast to half precision with a scaled loss.
        """
        self._memory.start()
        model = self._adapted(work)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(_is_trained(name, work))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        is_amp = precision == "amp"
        scaler = torch.amp.GradScaler(self._device, enabled=is_amp)
        # Fused, AdamW touches each array once, as the cost model counts.
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True) if trained else None
        ids = torch.randint(_FIRST_WORD, model.config.vocab_size, (work.batch_size, work.seq_len), device=self._device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.new_zeros(work.batch_size)}
        model.train()

        def step() -> None:
            with torch.autocast(self._device, torch.float16) if is_amp else nullcontext():
                loss = model(**inputs).loss
            if optimizer is not None:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()

        def timed_step() -> StepSeconds:
            with torch.set_grad_enabled(work.kind is not WorkKind.INFERENCE):
                self._wait()
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                step()
                self._wait()
                return StepSeconds(wall_s=time.perf_counter() - wall_s, cpu_s=time.process_time() - cpu_s)

        try:
            yield timed_step
        finally:
            for parameter in trained:
                parameter.grad = None
            if isinstance(model, PeftModel):
                self._model = model.unload()

    def peak_memory_bytes(self) -> int | None:
        """The most that was held at once in the last block of :meth:`steps` beyond what was there before this bench.

        None where the system does not say.
        """
        return self._memory.peak_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._model
        gc.collect()
        if self._device == "cuda":
            torch.cuda.empty_cache()

    def _adapted(self, work: Work) -> Any:
        layers = enumerate(work.adapters.layers)
        ranks = {(layer, adapter.place): rank for layer, held in layers for adapter, rank in held}
        if not ranks:
            return self._model
        paths = [path for site, path in find_sites(self._model, "random weights").items() if site in ranks]
        rank = max(ranks.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_peft_model(self._model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=paths))

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def usable_devices() -> tuple[str, ...]:
    """Where PyTorch can compute here: ``cuda`` first where there is one, and ``cpu``."""
    return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)


def default_threads() -> int:
    """How many threads PyTorch uses unless told."""
    return torch.get_num_threads()


def torch_version() -> str:
    return str(torch.__version__)


def cuda_name_and_memory() -> tuple[str, int, int]:
    """The GPU's name, its memory and what of it is free (bytes)."""
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    return torch.cuda.get_device_name(), total_bytes, free_bytes


def silence_libraries() -> None:
    """Keep the libraries' notices about new models to themselves."""
    for name in ("transformers", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch|transformers|peft")


def resident_bytes() -> int:
    """What this process holds at present; what was freed is given back first.

    Raises:
        OSError: the system does not say.
    """
    gc.collect()
    with _without_os_errors():
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _told_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """The most that this process held, since its start or since a bench asked anew; errors as above."""
    return _told_bytes("VmHWM")


def _told_bytes(key: str) -> int:
    n_bytes = _status_bytes(key)
    if n_bytes is None:
        raise OSError(f"this system does not say what a process holds: there is no {key} in {_STATUS}")
    return n_bytes


def _is_trained(name: str, work: Work) -> bool:
    """Whether a parameter is trained: of an adapter or the output map; with full fine-tuning, more."""
    if work.kind is WorkKind.INFERENCE:
        return False
    if "lora_" in name:
        return True
    if "score." in name:  # a decoder's output map
        return True
    if "classifier" in name:
        return "out_proj" in name or work.kind is WorkKind.WEIGHTS
    if work.kind is not WorkKind.WEIGHTS:
        return False
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    n_frozen = work.forward_layers - work.backward_layers
    return numbers[0] >= n_frozen if numbers else n_frozen == 0


class _PeakMemory:
    """The most memory that this process, or its part of the GPU, held since :meth:`start`."""

    def __init__(self, device: str) -> None:
        self._is_cuda = device == "cuda"
        self._release()
        self._base_bytes = self._now_bytes()

    def start(self) -> None:
        self._release()
        if self._is_cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            with _without_os_errors():
                _CLEAR_REFS.write_text("5")  # proc_pid_clear_refs(5): resets the peak of the resident set

    def peak_bytes(self) -> int | None:
        if self._is_cuda:
            return torch.cuda.max_memory_reserved() - (self._base_bytes or 0)
        peak_bytes = _status_bytes("VmHWM")
        return None if peak_bytes is None or self._base_bytes is None else peak_bytes - self._base_bytes

    def _now_bytes(self) -> int | None:
        return torch.cuda.memory_reserved() if self._is_cuda else _status_bytes("VmRSS")

    def _release(self) -> None:
        """Give back what was freed, so that it is not counted again."""
        gc.collect()
        if self._is_cuda:
            torch.cuda.empty_cache()
        else:
            with _without_os_errors():
                ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextmanager
def _without_os_errors() -> Iterator[None]:
    """Other systems lack what Linux with glibc has; a peak is then measured less exactly, or not at all."""
    with suppress(OSError, AttributeError):
        yield


def _status_bytes(key: str) -> int | None:
    with _without_os_errors():
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{key}:"):
                return 1024 * int(line.split()[1])
    return None
