"""Measures what a training process holds, in a process of its own: before any model, and at the peak of its steps."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from emulator.calibration.step_settings import TARGETS, StepSetting
from emulator.errors import UserError
from emulator.forms.lora import low_rank_adapters
from emulator.records import Work, WorkKind
from emulator.shapes.catalog import model_spec_from_config
from emulator.shapes.spec import ModelSpec

_N_STEPS = 4
_LONGEST_S = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSetting:
    """The local step of a process: ``config`` is what a config.json would say, of an encoder or a decoder."""

    config: Mapping[str, Any]
    depth: int
    rank: int
    targets: str
    batch_size: int
    seq_len: int
    kind: str = WorkKind.ADAPTERS.value

    @classmethod
    def of(cls, setting: StepSetting) -> "ProcessSetting":
        """The same step as it is timed."""
        return cls(
            config=setting.config,
            depth=setting.depth,
            rank=setting.rank,
            targets=setting.targets,
            batch_size=setting.batch_size,
            seq_len=setting.seq_len,
            kind=setting.kind.value,
        )

    @property
    def model(self) -> ModelSpec:
        name = f"{self.config['num_hidden_layers']} layers of {self.config['hidden_size']}"
        return model_spec_from_config(self.config, name=name, n_labels=2, seq_len=self.seq_len, head="output")

    @property
    def work(self) -> Work:
        model, kind = self.model, WorkKind(self.kind)
        rank = 0 if kind is WorkKind.WEIGHTS else self.rank
        ranks = (0,) * (model.n_layers - self.depth) + (rank,) * self.depth
        return Work(
            n_steps=1,
            batch_size=self.batch_size,
            seq_len=self.seq_len,
            forward_layers=model.n_layers,
            backward_layers=0 if kind is WorkKind.INFERENCE else self.depth,
            adapters=low_rank_adapters(model, TARGETS[self.targets], ranks),
            kind=kind,
        )


_FIRST = ProcessSetting(
    config={
        "model_type": "roberta",
        "hidden_size": 256,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "vocab_size": 1000,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "num_labels": 2,
    },
    depth=1,
    rank=8,
    targets="qv",
    batch_size=4,
    seq_len=64,
)
"""A small step, behind which libraries have loaded and made what they make once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessPeak:
    """Resident bytes of a process, shared libraries included.

    ``imported_bytes`` once PyTorch and transformers are imported; ``runtime_bytes`` behind a first small step whose
    tensors are gone; ``built_bytes`` with the model's weights; ``peak_bytes`` at most, while it was built and stepped.
    The latter two are 0 where no setting was given.
    """

    imported_bytes: int
    runtime_bytes: int
    built_bytes: int = 0
    peak_bytes: int = 0


def process_peak(setting: ProcessSetting | None = None, n_threads: int = 1) -> ProcessPeak:
    """Measure a process on this machine's CPU, which runs some steps of ``setting``, or none but a first small one.

    Raises:
        UserError: the process failed, as it does where there is not enough memory, or where the system does not say.
    """
    asked = json.dumps({"setting": setting and asdict(setting), "n_threads": n_threads})
    command = [sys.executable, "-m", "emulator.calibration.process_peak", asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    try:
        return ProcessPeak(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(
            f"the process whose memory was to be measured ended with status {done.returncode}: {told}"
        ) from None


def _measured(setting: ProcessSetting | None, n_threads: int) -> ProcessPeak:
    """In the process itself."""
    from emulator.learning.model.probe import StepBench, peak_resident_bytes, resident_bytes, silence_libraries

    silence_libraries()
    imported_bytes = resident_bytes()
    with StepBench(_FIRST.config, "cpu", n_threads) as bench, bench.steps(_FIRST.work, "fp32") as step:
        step()
        step()
    runtime_bytes = resident_bytes()
    if setting is None:
        return ProcessPeak(imported_bytes=imported_bytes, runtime_bytes=runtime_bytes)
    with StepBench(setting.config, "cpu", n_threads) as bench:
        built_bytes, most_bytes = resident_bytes(), peak_resident_bytes()
        with bench.steps(setting.work, "fp32") as step:
            for _ in range(_N_STEPS):
                step()
            peak_bytes = max(most_bytes, peak_resident_bytes())
    return ProcessPeak(
        imported_bytes=imported_bytes, runtime_bytes=runtime_bytes, built_bytes=built_bytes, peak_bytes=peak_bytes
    )


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    found = _measured(given["setting"] and ProcessSetting(**given["setting"]), given["n_threads"])
    print(json.dumps(asdict(found)))
