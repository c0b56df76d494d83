"""Options and greedy answers are told as by a plain loop over AutoModelForCausalLM."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from emulator.forms.lora import LoraForm
from emulator.learning.data.source import DataSource
from emulator.learning.data.spread import Partition
from emulator.learning.host import DeviceHost, HostContent
from emulator.learning.prepare import prepare
from emulator.learning.settings import NumericSettings
from emulator.objective.causal import Causal
from emulator.records import Prepared
from tests.unit.learning.tiny_decoders import COLOURS, THINGS, save_tiny_decoder, write_rows

SETTINGS = NumericSettings(run_seed=7, weight_decay=0.0, eval_batch_size=16)
FORM = LoraForm(ranks=(4, 4, 4))
N_HELD_OUT = 200


def choices(n: int) -> list[dict[str, Any]]:
    """Questions with two to four options of several lengths."""
    return [
        {
            "ask": f"what is the colour of the {THINGS[row % 5]} number {row}",
            "choices": [
                f"{COLOURS[(row + each) % 4]} {THINGS[row % 3]}"[: 4 + 4 * each] for each in range(2 + row % 3)
            ],
            "right": row * 7 % 2,
        }
        for row in range(n)
    ]


def prepared(folder: Path, source: DataSource, device_fraction: float | None = None) -> tuple[HostContent, Prepared]:
    return prepare(
        train_model=save_tiny_decoder("llama", folder / "model"),
        data=source,
        seq_len=64,
        n_devices=3,
        partition=Partition(),
        run_seed=7,
        objective=Causal(),
        device_fraction=device_fraction,
    )


def log_likelihood(model: Any, given: list[int], said: list[int]) -> float:
    """Of what is said after what is given, summed over its tokens."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([given + said])).logits[0]
    log_shares = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(log_shares[len(given) - 1 + place, token]) for place, token in enumerate(said))


def test_options_are_chosen_as_in_a_plain_loop_over_200_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in choices(20)), encoding="utf-8")
    held_out = tmp_path / "test.jsonl"
    held_out.write_text("".join(f"{json.dumps(row)}\n" for row in choices(N_HELD_OUT)), encoding="utf-8")
    content, described = prepared(
        tmp_path,
        DataSource(
            source=str(path),
            test_source=str(held_out),
            prompt_column="ask",
            options_column="choices",
            answer_column="right",
            template="Q: {prompt} A: ",
        ),
    )
    assert described.n_test_examples == N_HELD_OUT
    assert described.n_test_rows == sum(len(row["choices"]) for row in choices(N_HELD_OUT))
    host, half = DeviceHost(content, SETTINGS), described.n_test_rows // 2
    # The two shards part the options of one question.
    shards = [host.evaluate(FORM, {}, rows) for rows in (range(half), range(half, described.n_test_rows))]
    evaluation = Causal().evaluation(shards)

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    right, right_norm, loss, n_tokens, found = 0, 0, 0.0, 0, []
    for row in choices(N_HELD_OUT):
        given = tokenizer(f"Q: {row['ask']} A:")["input_ids"]
        options = [tokenizer(f" {option}", add_special_tokens=False)["input_ids"] for option in row["choices"]]
        likely = [log_likelihood(model, given, option) for option in options]
        right += int(np.argmax(likely)) == row["right"]
        per_character = [each / len(option) for each, option in zip(likely, row["choices"], strict=True)]
        right_norm += int(np.argmax(per_character)) == row["right"]
        loss -= likely[row["right"]]
        n_tokens += len(options[row["right"]])
        found += likely
    scores = sorted((score.choice, score.log_likelihood) for shard in shards for score in shard.options)
    numbers = [number for number, row in enumerate(choices(N_HELD_OUT)) for _ in row["choices"]]
    expected = sorted(zip(numbers, found, strict=True))
    assert [one for one, _ in scores] == [one for one, _ in expected]
    assert [one for _, one in scores] == pytest.approx([one for _, one in expected], abs=1e-4)
    assert evaluation.option_accuracy == right / N_HELD_OUT
    assert evaluation.option_accuracy_norm == right_norm / N_HELD_OUT
    assert right != right_norm  # so that one in the place of the other would show
    assert evaluation.loss == pytest.approx(loss / n_tokens, abs=1e-5)
    assert evaluation.n_examples == N_HELD_OUT


def test_questions_that_devices_hold_out_stay_whole_behind_those_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in choices(60)), encoding="utf-8")
    source = DataSource(source=str(path), prompt_column="ask", options_column="choices", answer_column="right")
    content, described = prepared(tmp_path, source, device_fraction=0.5)

    assert content.test.options is not None
    choice, offsets = content.test.options.choice, described.own_test_offsets
    assert (offsets[0], offsets[-1]) == (described.n_test_rows, len(choice))
    # Where a device's rows begin, a question begins.
    assert all(choice[start] != choice[start - 1] for start in offsets[:-1])
    n_held_out = [len(set(choice[start:stop])) for start, stop in itertools.pairwise(offsets)]
    assert described.n_test_examples + sum(n_held_out) + described.n_examples.sum() == 60
    assert min(n_held_out) > 0
    own = DeviceHost(content, SETTINGS).evaluate(FORM, {}, range(offsets[0], offsets[1]))
    assert Causal().evaluation([own]).n_examples == n_held_out[0]


def test_an_exact_match_is_what_greedy_generation_gives(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl")
    content, _ = prepared(tmp_path, DataSource(source=source, prompt_column="prompt", response_column="response"))
    data = replace(content.train, input_ids=content.train.input_ids.copy())
    assert data.scored is not None
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    n_exact = 0
    for row, length in enumerate(data.lengths):
        first = int(data.scored[row].argmax())
        given = torch.from_numpy(data.input_ids[row : row + 1, :first].astype(np.int64))
        n_new = int(length) - first
        generated = model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=n_new,
            eos_token_id=-1,
        )[0, first:]
        if row % 3:  # these are what the model says, but for the last token of every second one
            said = generated.numpy().copy()
            said[-1] += row % 2
            data.input_ids[row, first:length] = said
        n_exact += (generated.numpy() == data.input_ids[row, first:length]).all()
    shard = DeviceHost(replace(content, test=data), SETTINGS).evaluate(FORM, {}, range(len(data.lengths)))
    assert 0 < n_exact < len(data.lengths)
    assert Causal().evaluation([shard]).exact_match == n_exact / len(data.lengths)
