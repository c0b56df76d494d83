"""``[stop_at]``: what ends a run before its last round."""

from emulator.config.section import Positive, Section


class StopAtConfig(Section):
    """What ends a run early: after the first round that reaches one of these, such as stop_at = {accuracy = 0.8}.

    Scores are reached where a round is evaluated, and those for which less is better from above.
    """

    time_s: Positive | None = None
    """A budget of emulated seconds."""
    upload_bytes: Positive | None = None
    """A budget of bytes that all devices have sent."""
    total_bytes: Positive | None = None
    """A budget of bytes that all devices have received and sent."""
    energy_j: Positive | None = None
    """A budget of joules of all devices."""
    accuracy: Positive | None = None
    """Share of held-out examples that are classified right; for classification."""
    loss: Positive | None = None
    """Mean loss on held-out examples."""
    macro_f1: Positive | None = None
    """For classification and multi_label."""
    micro_f1: Positive | None = None
    """For multi_label."""
    exact_match: Positive | None = None
    """For multi_label, causal and seq2seq."""
    mcc: float | None = None
    """Matthews' correlation; for classification."""
    calibration_error: Positive | None = None
    """For classification."""
    pearson: float | None = None
    """For regression."""
    spearman: float | None = None
    """For regression."""
    mse: Positive | None = None
    """Mean squared error; for regression."""
    perplexity: Positive | None = None
    """For causal and seq2seq."""
    token_accuracy: Positive | None = None
    """For causal and seq2seq."""
    option_accuracy: Positive | None = None
    """For causal and seq2seq, with data.options_column."""
    option_accuracy_norm: Positive | None = None
    """The same by log-likelihood per character."""
