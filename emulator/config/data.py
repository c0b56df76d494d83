"""``[data]``: the data set, and how it is spread over the devices."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from emulator.config.section import LARGEST, Count, CountOrZero, NameOrPath, ProperFraction, Section


class PartitionConfig(Section):
    """How examples are spread over the devices: each is held by one, which follows from the seed."""

    scheme: Literal["dirichlet", "iid", "shards", "quantity", "natural", "given", "clusters", "speed"] = "dirichlet"
    """dirichlet: for each label the devices' shares are drawn from a symmetric Dirichlet distribution; iid: at random;
    shards: sorted by label, cut, and some shards for each device; quantity: at random, with unlike numbers of examples;
    natural: by owner; given: by a file; clusters: as dirichlet, by clusters of texts that are alike; speed: more, or
    other, for fast devices."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """For dirichlet, clusters and quantity: concentration of the Dirichlet distribution; the smaller, the more the
    devices' labels, clusters or numbers of examples differ."""
    shards_per_device: Count = 2
    """For shards: how many each device gets; about as many labels, where labels are equally frequent."""
    sizes: Literal["dirichlet", "power_law"] = "dirichlet"
    """For quantity: how numbers of examples are drawn; power_law: they fall with a power of a device's rank, and ranks
    are dealt out at random."""
    exponent: Annotated[float, Field(ge=0, le=10)] = 1.0
    """For quantity by power_law: a device's number of examples is in proportion to its rank to the minus this."""
    column: str | CountOrZero | None = None
    """For natural: column with the owner of an example, all of whose examples go to one device; a name, or a number as
    for data.text_column (in an npz file, the name of an array). There must be as many owners as devices; more are dealt
    out in turn."""
    file: NameOrPath | None = None
    """For given: a file with the columns row and device, for each example of the source's part for training, counted
    from 0 without a header line, the device that holds it. Held-out rows may be in it and do not count."""
    n_clusters: Annotated[int, Field(ge=2, le=10_000)] = 10
    """For clusters: how many there are, by k-means on the means of what the model, before training, makes of the tokens
    of a text (of images: on their pixels)."""
    size_exponent: Annotated[float, Field(ge=-10, le=10)] = 1.0
    """For speed: a device's number of examples is in proportion to its speed to the power of this; 0 makes all alike,
    below 0 slow devices hold more. Its speed is the rate of its fastest power mode."""
    label_correlation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """For speed: share of a device's examples that are dealt out in the order of labels to devices in the order of
    speed; the others are at random."""
    min_examples: Count = 1
    """Each device holds at least so many. Who has fewer gets some at random of whoever has most; of natural, whole
    owners; a file that gives fewer is refused."""

    @model_validator(mode="after")
    def _what_its_scheme_needs(self) -> "PartitionConfig":
        for key, scheme in (("column", "natural"), ("file", "given")):
            value = getattr(self, key)
            if self.scheme == scheme and value is None:
                raise ValueError(f"data.partition.{key} must be given where data.partition.scheme is {scheme!r}")
            if self.scheme != scheme and value is not None:
                raise ValueError(
                    f"data.partition.{key} is for data.partition.scheme = {scheme!r}; the scheme is {self.scheme!r}, "
                    f"got {value!r}"
                )
        return self


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
    """But for causal: column with a second text, which is read together with the first."""
    label_column: str | CountOrZero = "label"
    """Column with the label, for multi_label with all labels, for regression with the number: a name, or a number
    counted from 0 for files without a header."""
    label_separator: str = ","
    """For multi_label: what is between the labels of an example where they are one text; a list needs none."""
    prompt_column: str | CountOrZero | None = None
    """For causal and seq2seq: column with what a response answers, given with data.response_column; causal without
    both: data.text_column is learnt whole."""
    response_column: str | CountOrZero | None = None
    """For causal and seq2seq: column with the response that is learnt."""
    template: str | None = None
    """What stands before a response: plain (which it is unless given), alpaca, alpaca-input, vicuna, or a text with the
    slot {prompt}; other slots are columns."""
    messages_column: str | None = None
    """For causal: column with chats, lists of messages {role, content} in a jsonl, json or parquet file, which the
    model's own chat template puts into words; what the assistant says is learnt."""
    options_column: str | CountOrZero | tuple[str | CountOrZero, ...] | None = None
    """For causal and seq2seq: column with the options of a multiple choice, a list of texts, or several columns with
    one each; given with data.prompt_column and data.answer_column."""
    answer_column: str | CountOrZero | None = None
    """For causal and seq2seq: column with the right option: its text, its number from 0, or its label or letter."""
    packing: bool = False
    """For causal: whether several training texts share a row of data.seq_len tokens; each attends to itself alone."""
    header: Literal["auto", True, False] = "auto"
    """Whether the first line of a csv, tsv or txt file names its columns; auto: if columns are given by name."""
    separator: str | None = None
    """What is between the fields of a csv, tsv or txt file, one character; it is found out where it is not given."""
    quoting: Literal["auto", "minimal", "none"] = "auto"
    """minimal: fields with the separator, a quote or a line's end in them are enclosed in double quotes; none: quotes
    are characters like others; auto: minimal, but in tab-separated files only where every field fits it."""
    streaming: Literal["auto", True, False] = "auto"
    """Whether rows and tokens of parquet and jsonl files lie in temporary files in place of memory; results are the
    same. auto: from 256 MiB on."""
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
    response_seq_len: Annotated[int, Field(ge=2, le=LARGEST)] | None = None
    """For seq2seq: tokens at which responses are cut, data.seq_len being for prompts; as many where it is not given."""
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

    @field_validator("label_separator")
    @classmethod
    def _something_to_part_by(cls, separator: str) -> str:
        if not separator:
            raise ValueError("data.label_separator must be what is between two labels, such as ',', got ''")
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
