"""``[data]``: the data set, and how it is spread over the devices."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from emulator.config.section import LARGEST, Count, CountOrZero, NameOrPath, ProperFraction, Section


class PartitionConfig(Section):
    """How examples are spread over the devices."""

    scheme: Literal["dirichlet", "iid"] = "dirichlet"
    """dirichlet: for each label the devices' shares are drawn from a symmetric Dirichlet distribution; iid: at
    random."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """Concentration of the Dirichlet distribution: the smaller, the more the devices' labels differ."""


class DataConfig(Section):
    """The data set and how it is spread over the devices."""

    source: NameOrPath = "builtin:intents"
    """builtin:intents, a csv / tsv / txt / jsonl / json / parquet file (text also as .gz), a folder of such files, or a
    hub id; for images builtin:digits (of scikit-learn), or an npz file with images and labels."""
    test_source: NameOrPath | None = None
    """A file with the held-out examples; without it, test_fraction of the source is held out."""
    text_column: str | CountOrZero = "text"
    """Column with the text: a name, or a number counted from 0 for files without a header."""
    text_pair_column: str | CountOrZero | None = None
    """For classification: column with a second text, which is classified together with the first."""
    label_column: str | CountOrZero = "label"
    """Column with the label: a name, or a number counted from 0 for files without a header."""
    prompt_column: str | CountOrZero | None = None
    """For causal: column with what a response answers, given with data.response_column; without both,
    data.text_column is learnt whole."""
    response_column: str | CountOrZero | None = None
    """For causal: column with the response that is learnt."""
    template: str | None = None
    """What stands before a response: plain (which it is unless given), alpaca, alpaca-input, vicuna, or a text with the
    slot {prompt}; other slots are columns."""
    messages_column: str | None = None
    """For causal: column with chats, lists of messages {role, content} in a jsonl, json or parquet file, which the
    model's own chat template puts into words; what the assistant says is learnt."""
    options_column: str | CountOrZero | tuple[str | CountOrZero, ...] | None = None
    """For causal: column with the options of a multiple choice, a list of texts, or several columns with one each;
    given with data.prompt_column and data.answer_column."""
    answer_column: str | CountOrZero | None = None
    """For causal: column with the right option: its text, its number from 0, or its label or letter."""
    packing: bool = False
    """For causal: whether several training texts share a row of data.seq_len tokens; each attends to itself alone."""
    header: Literal["auto", True, False] = "auto"
    """Whether the first line of a csv, tsv or txt file names its columns; auto: if columns are given by name."""
    separator: str | None = None
    """What is between the fields of a csv, tsv or txt file, one character; it is found out where it is not given."""
    quoting: Literal["auto", "minimal", "none"] = "auto"
    """minimal: fields with the separator, a quote or a line's end in them are enclosed in double quotes; none: quotes
    are characters like others; auto: minimal, but in tab-separated files only where every field fits it."""
    configuration: str | None = None
    """Which of its configurations, where a data set of the hub has several."""
    test_fraction: ProperFraction = 0.1
    """Share of the source that is held out for evaluation."""
    n_train: Count | None = None
    """At most so many training examples; all where it is not given (builtin:intents: 8,000)."""
    n_test: Count | None = None
    """At most so many held-out examples; all where it is not given (builtin:intents: 1,000)."""
    seq_len: Annotated[int, Field(ge=2, le=LARGEST)] = 32
    """Tokens at which texts are cut for training; models put one before a text and one after it."""
    partition: PartitionConfig = PartitionConfig()

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str | None) -> str | None:
        if separator is not None and (len(separator) > 1 or separator in ('"', "\n", "\r", "\0")):
            raise ValueError(
                "data.separator must be one character that is no quote and no line's end, such as ';' or '\\t', "
                f"got {separator!r}"
            )
        return separator

    @model_validator(mode="after")
    def _numbers_without_header(self) -> "DataConfig":
        columns = ["text_column", "label_column", "text_pair_column", "prompt_column", "response_column"]
        columns += ["answer_column", "messages_column"]
        if self.response_column is not None or self.answer_column is not None:  # neither texts nor labels are read
            columns = columns[3:]
        by_name = [key for key in columns if isinstance(getattr(self, key), str)]
        if self.header is False and by_name:
            raise ValueError(
                f"data.header is false, so that columns have no names: give data.{by_name[0]} as a number counted from "
                f"0, got {getattr(self, by_name[0])!r}"
            )
        return self
