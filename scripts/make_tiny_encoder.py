"""Make the weights of "builtin:tiny-12" from nothing: masked-language pre-training on sentences of "builtin:intents".

Run it as `python scripts/make_tiny_encoder.py emulator/learning/builtin/tiny-12`; it takes about
five minutes on one core. The same seed gives the same weights on the same versions and number of threads.

A first stage shows single clauses with what they cause ("raise my lamp so it gets brighter"): what the words mean. A
second stage mixes in whole commands, bare or followed by what they cause. To predict that masked cause takes knowing
which clause is operative, so the number of steps of the second stage and its share of causes set how much of the task
the encoder already knows, hence how fast adapters learn it.
"""

import argparse
from collections.abc import Sequence
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
from transformers import (
    PreTrainedTokenizerFast,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormForMaskedLM,
    RobertaPreLayerNormForSequenceClassification,
)

from emulator.learning.builtin import intents

MAX_TOKENS = 32  # The longest command with its consequence, <s> and </s> included.
SPECIAL_TOKENS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
PAD, MASK = SPECIAL_TOKENS["<pad>"], SPECIAL_TOKENS["<mask>"]
# Few words are hidden besides the causes: their many possible values would drown what the causes teach.
MASKED_FRACTION = 0.045
CONSEQUENCE_MASKED_FRACTION = 1.0
# Near 1 / sqrt(hidden size) = 0.125; transformers' 0.02 is meant for layers of 768.
PRETRAINING_INITIALIZER_RANGE = 0.08


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole lower-case words: the special tokens, then the task's vocabulary in sorted order."""
    ids = SPECIAL_TOKENS | {word: len(SPECIAL_TOKENS) + i for i, word in enumerate(intents.vocabulary())}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def make_config(vocabulary_size: int) -> RobertaPreLayerNormConfig:
    """Return the shape of the encoder: 12 thin layers, without dropout so that training on it is deterministic."""
    return RobertaPreLayerNormConfig(
        vocab_size=vocabulary_size,
        hidden_size=64,
        num_hidden_layers=12,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=MAX_TOKENS + PAD + 1,  # RoBERTa counts positions from PAD + 1.
        type_vocab_size=1,
        initializer_range=PRETRAINING_INITIALIZER_RANGE,
        # The output matrix is not shipped, so that tying it to the input words would save nothing.
        tie_word_embeddings=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
        layer_norm_eps=1e-5,
        pad_token_id=PAD,
        bos_token_id=SPECIAL_TOKENS["<s>"],
        eos_token_id=SPECIAL_TOKENS["</s>"],
        id2label=dict(enumerate(intents.LABELS)),
        label2id={label: i for i, label in enumerate(intents.LABELS)},
    )


def make_corpus(
    tokenizer: PreTrainedTokenizerFast, n_sentences: int, clause_fraction: float, consequence_fraction: float, seed: int
) -> torch.Tensor:
    """Return `(n_sentences, MAX_TOKENS)` int64 token ids.

    `clause_fraction` of the sentences are single clauses with their consequence, `consequence_fraction` are whole
    commands with their consequence, and the rest are bare commands.
    """
    commands = intents.generate_commands(n_sentences, seed)
    kinds = np.random.default_rng([seed, 1]).random(n_sentences).tolist()
    texts = []
    for command, kind in zip(commands, kinds, strict=True):
        if kind < clause_fraction:
            texts.append(f"{command.operative.text} {command.consequence}")
        elif kind < clause_fraction + consequence_fraction:
            texts.append(f"{command.text} {command.consequence}")
        else:
            texts.append(command.text)
    encoded = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    ids: torch.Tensor = encoded["input_ids"]
    return ids


def masking_probability(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return `(vocabulary,)` float32: how often each token is hidden; special tokens never, consequences most."""
    probability = torch.full((len(tokenizer),), MASKED_FRACTION)
    probability[: len(SPECIAL_TOKENS)] = 0.0
    probability[tokenizer.convert_tokens_to_ids(sorted(intents.consequence_words()))] = CONSEQUENCE_MASKED_FRACTION
    return probability


def pretrain(
    model: RobertaPreLayerNormForMaskedLM,
    stages: Sequence[tuple[torch.Tensor, int]],
    probability: torch.Tensor,
    batch_size: int,
    learning_rate: float,
    schedule_steps: int,
    seed: int,
) -> None:
    """Train all weights to predict hidden words, on each stage's `(corpus, n_steps)` in turn.

    AdamW with a one-cycle learning rate that peaks at `learning_rate`. `schedule_steps` is the length of the cycle;
    training ends before it, while the encoder is still learning which clause counts, to leave work to the adapters.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    n_steps = sum(stage_steps for _, stage_steps in stages)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=schedule_steps, pct_start=0.1)
    step_corpora = chain.from_iterable(repeat(corpus, stage_steps) for corpus, stage_steps in stages)
    model.train()
    for step, corpus in enumerate(step_corpora, start=1):
        batch = corpus[torch.randint(len(corpus), (batch_size,), generator=generator)]
        batch = batch[:, : int((batch != PAD).sum(dim=1).max())]
        hidden = torch.rand(batch.shape, generator=generator) < probability[batch]
        states = model.roberta_prelayernorm(
            input_ids=batch.masked_fill(hidden, MASK), attention_mask=(batch != PAD).long()
        ).last_hidden_state
        loss = nn.functional.cross_entropy(model.lm_head(states[hidden]), batch[hidden])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {n_steps}: loss {loss.item():.3f}", flush=True)


def make_classifier(
    pretrained: RobertaPreLayerNormForMaskedLM, seed: int
) -> RobertaPreLayerNormForSequenceClassification:
    """Return the encoder under a classification head whose `dense` layer is made to stay frozen.

    `dense` is orthogonal without a bias: it keeps distances between sentences, so that what adapters separate in the
    encoder stays separate for `out_proj`, and the layer-normed states of about unit variance use the bend of tanh.
    """
    config = make_config(pretrained.config.vocab_size)
    config.initializer_range = 0.02  # The spread of a new `out_proj`.
    classifier = RobertaPreLayerNormForSequenceClassification(config)
    classifier.roberta_prelayernorm.load_state_dict(pretrained.roberta_prelayernorm.state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nn.init.orthogonal_(classifier.classifier.dense.weight)
        nn.init.zeros_(classifier.classifier.dense.bias)
    return classifier


def save(classifier: RobertaPreLayerNormForSequenceClassification, folder: Path) -> None:
    """Write float16 weights without `classifier.out_proj`: its size is the number of labels, which the user chooses."""
    weights = {
        name: tensor for name, tensor in classifier.half().state_dict().items() if "classifier.out_proj" not in name
    }
    classifier.save_pretrained(folder, state_dict=weights)
    (folder / "model.safetensors").chmod(0o644)


def main() -> None:
    """Read the arguments, pre-train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where config, weights and tokenizer are written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clause-steps", type=int, default=250, help="of the first stage")
    parser.add_argument("--command-steps", type=int, default=460, help="of the second stage")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak of the one-cycle schedule")
    parser.add_argument("--schedule-steps", type=int, default=1_500, help="length of the learning rate's cycle")
    parser.add_argument("--sentences", type=int, default=40_000, help="in the corpus of each stage")
    parser.add_argument("--clause-fraction", type=float, default=0.2, help="of the second stage: single clauses")
    parser.add_argument(
        "--consequence-fraction", type=float, default=0.6, help="of the second stage: commands with what they cause"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number may change last bits")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = make_tokenizer()
    model = RobertaPreLayerNormForMaskedLM(make_config(len(tokenizer)))
    clauses = make_corpus(tokenizer, arguments.sentences, 1.0, 0.0, arguments.seed + 1)
    commands = make_corpus(
        tokenizer, arguments.sentences, arguments.clause_fraction, arguments.consequence_fraction, arguments.seed
    )
    pretrain(
        model,
        [(clauses, arguments.clause_steps), (commands, arguments.command_steps)],
        masking_probability(tokenizer),
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        schedule_steps=arguments.schedule_steps,
        seed=arguments.seed,
    )
    save(make_classifier(model, arguments.seed), arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
