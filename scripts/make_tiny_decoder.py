"""Make the weights of "builtin:tiny-llama-12" from nothing: next-word pre-training on sentences of "builtin:intents".

Run it as `python scripts/make_tiny_decoder.py emulator/learning/builtin/tiny-llama-12`; it takes minutes on one
core. The same seed gives the same weights on the same versions and number of threads.

A first stage shows single clauses with what they cause ("raise my lamp so it gets brighter") and with their answer
("raise my lamp => light up lamp"). A second stage mixes in whole commands with what they cause, but never with their
answer: which clause counts and how to answer are known, and adapters learn to answer about the clause that counts.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emulator.learning.builtin import intents

MAX_TOKENS = 40  # More than the longest command with its consequence or answer, <s> and </s> included.
MAX_POSITIONS = 256
SPECIAL_TOKENS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
PAD = SPECIAL_TOKENS["<pad>"]
# Words that many others could take the place of would drown what consequences and answers teach.
OTHER_WEIGHT = 0.1
# Near 1 / sqrt(hidden size) = 0.125; transformers' 0.02 is meant for layers of thousands.
INITIALIZER_RANGE = 0.08
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}{% generation %}"
    " {{ message['content'] }} {{ eos_token }}{% endgeneration %}{% else %} {{ message['content'] }} "
    + intents.CALL
    + "{% endif %}{% endfor %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lower-case words: the special tokens, then the words of commands and answers."""
    words = sorted({*intents.vocabulary(), *intents.answer_words(), intents.CALL})
    ids = SPECIAL_TOKENS | {word: len(SPECIAL_TOKENS) + i for i, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_POSITIONS,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="right",
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def make_config(vocabulary_size: int) -> LlamaConfig:
    """Return the shape of the decoder: 12 thin layers, as many as the encoder's."""
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=176,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=SPECIAL_TOKENS["<s>"],
        eos_token_id=SPECIAL_TOKENS["</s>"],
    )


def make_texts(n_sentences: int, clause_fraction: float, seed: int) -> list[str]:
    """Return clauses, `clause_fraction` of all, half of them with their answer; the rest are whole commands.

    What follows a text, a consequence or an answer, stands behind it and is ended by `</s>`.
    """
    commands = intents.generate_commands(n_sentences, seed)
    kinds = np.random.default_rng([seed, 1]).random(n_sentences).tolist()
    return [
        f"{command.text} {command.consequence} </s>"
        if kind >= clause_fraction
        else f"{command.operative.text} {command.consequence} </s>"
        if kind < clause_fraction / 2
        else f"{command.operative.text} {intents.CALL} {command.answer} </s>"
        for command, kind in zip(commands, kinds, strict=True)
    ]


def weights_of(ids: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return `(n, MAX_TOKENS)` float32: how much each token is learnt; all of an answer and of a consequence's end."""
    call, end = tokenizer.convert_tokens_to_ids([intents.CALL, "</s>"])
    words = tokenizer.convert_tokens_to_ids(sorted(intents.consequence_words()))
    in_answer = (ids == call).long().cumsum(dim=1) - (ids == call).long() > 0
    weights = torch.full(ids.shape, OTHER_WEIGHT)
    weights[in_answer | torch.isin(ids, torch.tensor([*words, end]))] = 1.0
    weights[ids == PAD] = 0.0
    return weights


def pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stages: Sequence[tuple[list[str], int]],
    batch_size: int,
    learning_rate: float,
    schedule_steps: int,
    seed: int,
) -> None:
    """Train all weights to foretell the next word, on each stage's `(texts, n_steps)` in turn.

    AdamW with a one-cycle learning rate that peaks at `learning_rate`; `schedule_steps` is the length of the cycle.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=schedule_steps, pct_start=0.1)
    n_steps = sum(stage_steps for _, stage_steps in stages)
    model.train()
    for step, (ids, weights) in enumerate(_batches(tokenizer, stages, batch_size, generator), start=1):
        logits = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        loss = (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step} of {n_steps}: loss {loss.item():.3f}", flush=True)


def _batches(
    tokenizer: PreTrainedTokenizerFast,
    stages: Sequence[tuple[list[str], int]],
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    corpora = []
    for texts, _ in stages:
        ids = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")["input_ids"]
        corpora.append((ids, weights_of(ids, tokenizer)))
    for ids, weights in chain.from_iterable(
        repeat(corpus, n_steps) for corpus, (_, n_steps) in zip(corpora, stages, strict=True)
    ):
        rows = torch.randint(len(ids), (batch_size,), generator=generator)
        length = int((ids[rows] != PAD).sum(dim=1).max())
        yield ids[rows, :length], weights[rows, :length]


def exact_matches(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> float:
    """Return the share of 500 commands that are answered right, greedily."""
    commands = intents.generate_commands(500, seed)
    given = [tokenizer(f"{command.text} {intents.CALL}")["input_ids"] for command in commands]
    wanted = [tokenizer(f"{command.answer} </s>", add_special_tokens=False)["input_ids"] for command in commands]
    n_right = 0
    model.eval()
    with torch.no_grad():
        for before, after in zip(given, wanted, strict=True):
            logits = model(input_ids=torch.tensor([before + after])).logits[0]
            n_right += logits[len(before) - 1 : -1].argmax(dim=1).tolist() == after
    return n_right / len(commands)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write float16 weights, and the tokenizer beside them."""
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Read the arguments, pre-train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where config, weights and tokenizer are written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clause-steps", type=int, default=250, help="of the first stage")
    parser.add_argument("--command-steps", type=int, default=500, help="of the second stage")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak of the one-cycle schedule")
    parser.add_argument("--schedule-steps", type=int, default=1_500, help="length of the learning rate's cycle")
    parser.add_argument("--sentences", type=int, default=40_000, help="in the corpus of each stage")
    parser.add_argument("--clause-fraction", type=float, default=0.4, help="of the second stage: single clauses")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number may change last bits")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(make_config(len(tokenizer)))
    pretrain(
        model,
        tokenizer,
        [
            (make_texts(arguments.sentences, 1.0, arguments.seed + 1), arguments.clause_steps),
            (make_texts(arguments.sentences, arguments.clause_fraction, arguments.seed), arguments.command_steps),
        ],
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        schedule_steps=arguments.schedule_steps,
        seed=arguments.seed,
    )
    print(f"commands answered right: {exact_matches(model, tokenizer, arguments.seed + 2):.3f}")
    save(model, tokenizer, arguments.folder)


if __name__ == "__main__":
    main()
