"""Make the weights of "builtin:mini-12" from those of "builtin:tiny-12": an encoder whose upper layers matter most.

Run it as `python scripts/make_mini_encoder.py emulator/learning/builtin/mini-12`; it takes about two minutes on one
core. The same seed gives the same weights on the same versions and number of threads.

Twelve thin layers that were trained for minutes share the work: in "builtin:tiny-12" those near the input matter most.
Large pre-trained encoders differ in three respects, and each is brought about here.

1. What they know of the roles of words can be read from their middle layers (Tenney et al. 2019, arXiv 1905.05950). So
   a linear map on the sixth layer has to say of each word to which intent its clause belongs and whether that clause
   counts, first while the lower six layers are trained alone, then while the last layer predicts hidden words.
2. Where attention has nothing to do, it rests on `<s>` and `</s>` (Clark et al. 2019, arXiv 1906.04341). So `<s>`, by
   which sentences are classified, is to attend to these two but for a tenth. What the words know does not reach the
   head unless adapters fetch it, and that can only be done above the layers in which it comes about.
3. Gradients of a task rise towards the output. So the weights are rebalanced at last, which changes no output: query
   and value are made smaller towards the output and key and attention output larger, by the same factor, so that an
   adapter on query or value moves more.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from make_tiny_encoder import (
    MASK,
    MAX_TOKENS,
    PAD,
    SPECIAL_TOKENS,
    make_classifier,
    make_config,
    make_tokenizer,
    save,
)
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaPreLayerNormForMaskedLM,
    RobertaPreLayerNormModel,
)

from emulator.learning.builtin import intents

START = Path(intents.__file__).parent / "tiny-12"
TAGGED_LAYERS = 6
N_LABELS = len(intents.LABELS)
N_TAGS = 1 + 2 * N_LABELS
"""No clause; the intents of the clause that counts; those of the one that does not."""
MASKED_FRACTION = 0.1
CONSEQUENCE_FRACTION = 0.5
"""Of the sentences: commands with what they cause; the others are bare."""
UNREST = 0.1
"""How much of the attention of `<s>` is to go to words, in each head of each layer."""
UNREST_WEIGHT = 0.5


@dataclass(frozen=True)
class Corpus:
    """Token ids and tags, both `(n_sentences, MAX_TOKENS)` int64."""

    ids: Tensor
    tags: Tensor


def make_corpus(tokenizer: PreTrainedTokenizerFast, n_sentences: int, seed: int) -> Corpus:
    """Return commands, half of them with their consequence, and for each word the clause that it belongs to."""
    commands = intents.generate_commands(n_sentences, seed)
    kinds = np.random.default_rng([seed, 1]).random(n_sentences).tolist()
    texts = [
        f"{command.text} {command.consequence}" if kind < CONSEQUENCE_FRACTION else command.text
        for command, kind in zip(commands, kinds, strict=True)
    ]
    ids: Tensor = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")["input_ids"]
    tags = torch.zeros_like(ids)
    for row, command in enumerate(commands):
        for clause, first_tag in ((command.operative, 1), (command.negated, 1 + N_LABELS)):
            before = command.text[: command.text.index(clause.text)]
            start = 1 + len(before.split())  # <s> comes first
            tags[row, start : start + len(clause.text.split())] = first_tag + clause.label
    return Corpus(ids, tags)


def masking_probability(tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Return `(vocabulary,)` float32: how often each token is hidden; special tokens never, consequences always."""
    probability = torch.full((len(tokenizer),), MASKED_FRACTION)
    probability[: len(SPECIAL_TOKENS)] = 0.0
    probability[tokenizer.convert_tokens_to_ids(sorted(intents.consequence_words()))] = 1.0
    return probability


class RestingAttention:
    """Watches what `<s>` attends to in every layer of an encoder."""

    def __init__(self, encoder: RobertaPreLayerNormModel) -> None:
        self._n_heads = encoder.config.num_attention_heads
        self._queries: dict[int, Tensor] = {}  # of <s>, (batch, hidden)
        self._keys: dict[int, Tensor] = {}  # (batch, seq, hidden)
        for index, layer in enumerate(encoder.encoder.layer):
            attention = layer.attention.self
            attention.query.register_forward_hook(partial(self._see_query, index))
            attention.key.register_forward_hook(partial(self._see_key, index))

    def _see_query(self, index: int, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._queries[index] = output[:, 0]

    def _see_key(self, index: int, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._keys[index] = output

    def loss(self, present: Tensor) -> Tensor:
        """Return the mean cross-entropy between the share that rests on `<s>` and `</s>` and `1 - UNREST`.

        `present` `(batch, seq)` bool tells tokens from padding, in the last forward pass.
        """
        n_rows, length = present.shape
        rests = torch.zeros_like(present)
        rests[:, 0] = True
        rests[torch.arange(n_rows), present.sum(dim=1) - 1] = True
        total = torch.zeros(())
        for index, query in self._queries.items():
            heads = query.view(n_rows, self._n_heads, -1, 1)
            keys = self._keys[index].view(n_rows, length, self._n_heads, -1).transpose(1, 2)
            scores = (keys @ heads)[..., 0] / heads.shape[2] ** 0.5  # (batch, heads, seq)
            resting = scores.masked_fill(~rests[:, None], -torch.inf).logsumexp(dim=-1)
            elsewhere = scores.masked_fill((rests | ~present)[:, None], -torch.inf).logsumexp(dim=-1)
            odds = resting - elsewhere
            total = total + nn.functional.binary_cross_entropy_with_logits(odds, torch.full_like(odds, 1 - UNREST))
        return total / len(self._queries)


class Pretraining:
    """The model with what is added to it while it is trained, and its data."""

    def __init__(self, model: RobertaPreLayerNormForMaskedLM, corpus: Corpus, probability: Tensor, seed: int) -> None:
        width = model.config.hidden_size
        self.model, self.corpus, self.probability = model, corpus, probability
        self.tagger = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, N_TAGS))
        self.attention = RestingAttention(model.roberta_prelayernorm)
        self.generator = torch.Generator().manual_seed(seed)

    def train(self, n_steps: int, n_lower_steps: int, batch_size: int, learning_rate: float, is_resting: bool) -> None:
        """Take `n_steps` of AdamW with a one-cycle learning rate; in the first `n_lower_steps` for the tags alone.

        `is_resting` adds the loss on the attention of `<s>`.
        """
        parameters = [*self.model.parameters(), *self.tagger.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=n_steps, pct_start=0.1)
        self.model.train()
        for step in range(1, n_steps + 1):
            losses = self._losses(batch_size, only_tags=step <= n_lower_steps, is_resting=is_resting)
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            if step % 50 == 0:
                shown = ", ".join(f"{name} {loss.item():.3f}" for name, loss in losses.items())
                print(f"step {step} of {n_steps}: {shown}", flush=True)

    def _losses(self, batch_size: int, only_tags: bool, is_resting: bool) -> dict[str, Tensor]:
        """Return the losses of a batch, by name, as they are added up."""
        rows = torch.randint(len(self.corpus.ids), (batch_size,), generator=self.generator)
        length = int((self.corpus.ids[rows] != PAD).sum(dim=1).max())
        ids, tags = self.corpus.ids[rows, :length], self.corpus.tags[rows, :length]
        present, words = ids != PAD, ids >= len(SPECIAL_TOKENS)
        hidden = torch.rand(ids.shape, generator=self.generator) < self.probability[ids]
        encoder = self.model.roberta_prelayernorm
        mask = present[:, None, None, :].expand(-1, 1, length, length)
        states = encoder.embeddings(input_ids=ids.masked_fill(hidden, MASK))
        for layer in encoder.encoder.layer[:TAGGED_LAYERS]:
            states = layer(states, mask)
        losses = {"tags": nn.functional.cross_entropy(self.tagger(states)[words], tags[words])}
        if only_tags:
            return losses
        for layer in encoder.encoder.layer[TAGGED_LAYERS:]:
            states = layer(states, mask)
        predicted = self.model.lm_head(encoder.LayerNorm(states)[hidden])
        losses["words"] = nn.functional.cross_entropy(predicted, ids[hidden])
        if is_resting:
            losses["unrest"] = UNREST_WEIGHT * self.attention.loss(present)
        return losses


@torch.no_grad()
def rebalance(encoder: RobertaPreLayerNormModel, ratio: float) -> None:
    """Let adapters of the last layer move `ratio` times more than those of the first, and no output change.

    A layer's query and value are divided by a factor that grows geometrically, from `ratio ** -0.4` at the input to
    `ratio ** 0.6` at the output; key and attention output are multiplied by it. The products of query and key, and of
    value and output, stay what they are.
    """
    layers = encoder.encoder.layer
    for index, layer in enumerate(layers):
        factor = ratio ** (index / (len(layers) - 1) - 0.4)
        attention = layer.attention.self
        for shrunk in (attention.query, attention.value):
            shrunk.weight /= factor
            shrunk.bias /= factor
        attention.key.weight *= factor
        attention.key.bias *= factor
        layer.attention.output.dense.weight *= factor  # its bias is no part of the product


def main() -> None:
    """Read the arguments, pre-train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where config, weights and tokenizer are written")
    parser.add_argument("--start", type=Path, default=START, help="the encoder to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lower-steps", type=int, default=250, help="of 64, the lower six layers alone")
    parser.add_argument("--whole-steps", type=int, default=150, help="of 64, all layers")
    parser.add_argument("--resting-steps", type=int, default=160, help="of 32, while <s> comes to rest")
    parser.add_argument("--sentences", type=int, default=30_000, help="in the corpus")
    parser.add_argument("--ratio", type=float, default=24.0, help="of what adapters move, last layer over first")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number may change last bits")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    tokenizer = make_tokenizer()
    model = RobertaPreLayerNormForMaskedLM(make_config(len(tokenizer)))
    started = AutoModelForSequenceClassification.from_pretrained(arguments.start, dtype=torch.float32)
    model.roberta_prelayernorm.load_state_dict(started.roberta_prelayernorm.state_dict())
    corpus = make_corpus(tokenizer, arguments.sentences, arguments.seed)
    pretraining = Pretraining(model, corpus, masking_probability(tokenizer), arguments.seed)
    lower_steps = arguments.lower_steps
    pretraining.train(lower_steps + arguments.whole_steps, lower_steps, 64, learning_rate=2e-3, is_resting=False)
    pretraining.train(arguments.resting_steps, 0, 32, learning_rate=1.5e-3, is_resting=True)
    rebalance(model.roberta_prelayernorm, arguments.ratio)
    save(make_classifier(model, arguments.seed), arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


if __name__ == "__main__":
    main()
