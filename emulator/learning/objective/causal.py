"""Causal language modelling: the cross-entropy of each token that is learnt, given all that stands before it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from emulator.errors import DataError
from emulator.learning.data.batches import Batch
from emulator.learning.data.chat import Conversation, check_chat_template
from emulator.learning.data.options import Choice
from emulator.learning.data.packing import packed
from emulator.learning.data.passage_tokens import tokenize_options, tokenize_rows
from emulator.learning.data.passages import PassageData, load_passages
from emulator.learning.data.source import DataSource
from emulator.learning.data.texts import BUILTIN
from emulator.learning.data.tokens import Cut, TokenData
from emulator.learning.model.places import Place
from emulator.learning.model.role import LANGUAGE_MODEL, Role
from emulator.learning.objective.base import Examples, Learning
from emulator.objective.causal import Causal
from emulator.records import EvaluationShard, OptionScore
from emulator.shapes.causal import CausalSpec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec

PACKED = frozenset(("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"))
"""Families in which a text that shares a row has been shown to give the logits that it gives by itself."""

MOST_LOGITS = 2**25
"""Logits of a batch that is evaluated, 128 MiB of them: with large vocabularies, it takes fewer rows than asked for."""


class CausalLearning(Learning):
    """The learning side of :class:`emulator.objective.causal.Causal`.

    Logits are those of the tokens that the loss is about, and of no others: ``(n_scored, vocabulary)``, row by row.
    """

    role: ClassVar[Role] = LANGUAGE_MODEL

    def load(self, data: DataSource, seed: int) -> PassageData:
        """The passages of a data set; errors as for :meth:`read`."""
        return load_passages(data, seed)

    def read(self, data: DataSource, seed: int) -> Examples:
        passages = self.load(data, seed)
        return Examples(
            train=passages.train,
            train_labels=np.zeros(len(passages.train), dtype=np.int64),
            train_rows=passages.train_rows,
            owners=passages.owners,
            test=passages.test,
            test_labels=np.zeros(len(passages.test), dtype=np.int64),
            label_names=(),
            majority_accuracy=None,
            understood=passages.understood(data.source),
            read_as=_read_as(passages, data.source),
            remarks=(),
        )

    def tokens(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        return tokenize_rows(rows, tokenizer, seq_len)

    def held_out(
        self, rows: Sequence[Any], labels: NDArray[np.int64], tokenizer: Any, seq_len: int
    ) -> tuple[TokenData, Cut]:
        if isinstance(rows[0], Choice):
            return tokenize_options(rows, tokenizer, seq_len)
        return tokenize_rows(rows, tokenizer, seq_len)

    def n_rows(self, row: Any) -> int:
        return len(row.options) if isinstance(row, Choice) else 1

    def check(self, rows: Sequence[Any], place: Place, tokenizer: Any) -> None:
        if isinstance(rows[0], Conversation):
            check_chat_template(tokenizer, place.name)
        kind = place.config["model_type"]
        if self._packs and kind not in PACKED:
            raise DataError(
                f"data.packing: it is not known that texts which share a row stay apart in a {kind} model; leave it "
                f"out, or give a model of one of {', '.join(sorted(PACKED))}, got {place.name!r}"
            )

    def arranged(self, train: TokenData, offsets: NDArray[np.int64]) -> tuple[TokenData, NDArray[np.int64]]:
        return packed(train, offsets) if self._packs else (train, offsets)

    @property
    def _packs(self) -> bool:
        return isinstance(self.objective, Causal) and self.objective.packs

    def measured(self, spec: ModelSpec, train: TokenData) -> ModelSpec:
        assert isinstance(spec, CausalSpec | EncoderDecoderSpec)
        return replace(spec, response_len=max(1, round(_mean_scored(train))))

    def fit(self, model: Any) -> None:
        head = model.get_output_embeddings()
        path = next(path for path, module in model.named_modules() if module is head)
        self._head = ScoredHead(head)
        model.set_submodule(path, self._head)

    def logits(self, run: Callable[[], Tensor], batch: Batch) -> Tensor:
        assert batch.before_scored is not None
        self._head.places = batch.before_scored if batch.unpadded is None else batch.unpadded.before_scored
        return run()

    def rows_at_once(self, data: TokenData, most: int) -> int:
        row_logits = int(_mean_scored(data) * len(self._head.weight))
        return min(most, max(1, MOST_LOGITS // max(row_logits, 1)))

    def losses(self, logits: Tensor, batch: Batch, n_devices: int) -> Tensor:
        """A device's loss is the mean over all tokens of its batch that are scored, as transformers has it."""
        n_scored, n_rows, rows = batch.n_scored, len(batch.input_ids), batch.scored_rows
        counts = batch.weights > 0
        if n_scored is None:
            of_rows = rows.new_zeros(n_rows).index_add(0, rows, counts[rows].long())
            n_scored = of_rows.view(n_devices, -1).sum(dim=1)
        n_scored = n_scored.clamp(min=1)
        weights = counts.float() / n_scored.repeat_interleave(n_rows // n_devices)
        entropies = F.cross_entropy(logits, batch.scored_tokens, reduction="none") * weights[rows]
        return entropies.new_zeros(n_rows).index_add(0, rows, entropies)

    def score(self, logits: Tensor, batch: Batch) -> EvaluationShard:
        n_rows, tokens, rows = len(batch.input_ids), batch.scored_tokens, batch.scored_rows
        is_correct = logits.argmax(dim=1) == tokens
        n_wrong = tokens.new_zeros(n_rows).index_add(0, rows, (~is_correct).long())
        if batch.options is not None:
            return _option_scores(F.cross_entropy(logits, tokens, reduction="none"), is_correct, n_wrong, rows, batch)
        return EvaluationShard(
            loss_sum=float(F.cross_entropy(logits, tokens, reduction="sum")),
            n_correct=int(is_correct.sum()),
            n=len(batch.rows),
            n_tokens=len(tokens),
            n_exact=int((n_wrong == 0).sum()),
        )


def _option_scores(
    entropies: Tensor, is_correct: Tensor, n_wrong: Tensor, rows: Tensor, batch: Batch
) -> EvaluationShard:
    """``entropies`` and ``is_correct`` are of tokens, of which ``rows`` tells the row; ``n_wrong`` is of rows."""
    options = batch.options
    assert options is not None
    is_answer = torch.from_numpy(options.is_answer).to(rows.device)
    of_answer = is_answer[rows]
    # In float64, in which the order of a sum does not tell options of one length apart.
    sums = torch.zeros(len(n_wrong), dtype=torch.float64, device=rows.device)
    sums.index_add_(0, rows, -entropies.double())
    numbers = zip(options.choice, options.is_answer, options.n_characters, sums.tolist(), strict=True)
    return EvaluationShard(
        loss_sum=float(entropies[of_answer].sum()),
        n_correct=int((is_correct & of_answer).sum()),
        n=int(options.is_answer.sum()),
        n_tokens=int(of_answer.sum()),
        n_exact=int((is_answer & (n_wrong == 0)).sum()),
        options=tuple(OptionScore(int(choice), bool(own), int(n), each) for choice, own, n, each in numbers),
    )


class ScoredHead(nn.Module):
    """A language model head that is applied only where the token that follows is learnt.

    ``places (n_scored,)`` are those of its tokens, counted over all that it is given. ``(rows, length, hidden) ->
    (n_scored, vocabulary)``.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        self.places: Tensor

    @property
    def weight(self) -> Tensor:
        """That of the head, where others look for it."""
        weight = self.head.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden.flatten(0, 1).index_select(0, self.places))
        return logits


def _mean_scored(data: TokenData) -> float:
    """Learnt tokens of a row."""
    assert data.n_scored is not None
    return float(data.n_scored.mean())


def _read_as(passages: PassageData, source: str) -> tuple[str, ...]:
    """A line about what a user's own data were understood to be."""
    if source == BUILTIN:
        return ()
    return (
        f"data: {source} read as {passages.form}: {len(passages.train)} training and {len(passages.test)} held-out "
        f"{passages.what}",
    )
