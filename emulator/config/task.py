"""``[task]``: what is learnt from the examples."""

from typing import Literal

from emulator.config.section import Count, Section


class TaskConfig(Section):
    """What is learnt from the examples."""

    kind: Literal["classification", "multi_label", "regression", "causal"] = "classification"
    """classification: the label of a text, or of a pair; multi_label: any number of labels; regression: a number;
    causal: the next token of a text, or of a response to a prompt."""
    price_response_len: Count | None = None
    """For causal: the tokens per example that are learnt, and whose logits the devices pay for; as many as the training
    examples have where it is not given, or all in a run without training."""
