"""``[task]``: what is learnt from the examples."""

from typing import Literal

from emulator.config.section import Count, Section


class TaskConfig(Section):
    """What is learnt from the examples."""

    kind: Literal["classification", "multi_label", "regression", "causal", "seq2seq"] = "classification"
    """classification: the label of a text, or of a pair; multi_label: any number of labels; regression: a number;
    causal: the next token of a text, or of a response to a prompt; seq2seq: the response to a prompt, by an
    encoder-decoder."""
    price_response_len: Count | None = None
    """For causal and seq2seq: the tokens per example that are learnt, and whose logits the devices pay for; as many as
    the training examples have where it is not given. In a run without training it is then all for causal, and
    data.response_seq_len for seq2seq, whose decoder reads as many."""
