"""The tables of a run: their columns, types, units and meaning. The only place where a column is defined."""

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

SCHEMA_VERSION = 1
"""Grows when a column changes its name, type or meaning; a new column leaves it as it is."""


def _field(name: str, kind: pa.DataType, unit: str, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, metadata={"unit": unit, "description": description})


def _schema(description: str, *fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"description": description, "schema_version": str(SCHEMA_VERSION)})


def _score(name: str, description: str) -> pa.Field:
    """A column of what an evaluation says, where it is about such a thing."""
    return _field(name, _FLOAT, "1", description, nullable=True)


_INT, _LONG, _FLOAT, _TEXT = pa.int32(), pa.int64(), pa.float64(), pa.string()

_ROUNDS = _schema(
    "One row is one round. Times are emulated. A round counts as done when its row is here.",
    _field("round_index", _INT, "1", "Number of the round, from 0."),
    _field("start_s", _FLOAT, "s", "Emulated time at which the round starts."),
    _field("end_s", _FLOAT, "s", "Emulated time at which the server has aggregated."),
    _field("accuracy", _FLOAT, "1", "Share of held-out examples classified right after it.", nullable=True),
    _field(
        "loss",
        _FLOAT,
        "nat",
        "Mean loss on held-out examples after it: cross-entropy, or a squared error in regression.",
        nullable=True,
    ),
    _field("n_cohort", _INT, "1", "Devices in the plan: those ok, dropped, out of memory or late."),
    _field("n_ok", _INT, "1", "Devices whose update was aggregated."),
    _field("n_dropped", _INT, "1", "Devices that vanished during the round."),
    _field("n_out_of_memory", _INT, "1", "Devices whose work did not fit into their memory."),
    _field("n_late", _INT, "1", "Devices whose update came too late to be aggregated."),
    _field("n_unavailable", _INT, "1", "Devices out of reach when the round was planned; not in the cohort."),
    _field("mean_waiting_s", _FLOAT, "s", "Mean of waiting_s over the cohort; null without one.", nullable=True),
    _field("download_bytes", _LONG, "byte", "Received by all devices."),
    _field("upload_bytes", _LONG, "byte", "Sent by all devices."),
    _field("energy_j", _FLOAT, "J", "Energy of all devices."),
    _field("train_loss", _FLOAT, "nat", "Plain mean of train_loss over the devices that are ok.", nullable=True),
    _field("perplexity", _FLOAT, "1", "Exponential of loss; null where it is not about tokens.", nullable=True),
    _field(
        "token_accuracy",
        _FLOAT,
        "1",
        "Share of held-out tokens that are foretold as the likeliest; null where the loss is not about tokens.",
        nullable=True,
    ),
    _score("macro_f1", "Mean of F1 over the labels that occur among held-out examples or what they are called."),
    _score("micro_f1", "F1 of all labels of held-out examples counted together; null but for multi_label."),
    _score(
        "exact_match",
        "Share of held-out examples of which all labels are right (multi_label), or whose learnt tokens are all "
        "foretold as the likeliest, as greedy generation gives them (causal, seq2seq).",
    ),
    _score("mcc", "Matthews' correlation of labels; null but for classification."),
    _score(
        "calibration_error",
        "Expected calibration error of the likeliest label, over 15 bins of equal width; null but for classification.",
    ),
    _field(
        "class_f1",
        pa.list_(_FLOAT),
        "1",
        "F1 of each label, in the order of label_names in run.json; null in it where the label does not occur.",
        nullable=True,
    ),
    _score("pearson", "Correlation of numbers with those that are so; null where either does not vary."),
    _score("spearman", "Correlation of their ranks; null where either does not vary."),
    _score("mse", "Mean squared error of numbers; null but for regression."),
    _score("own_score_mean", "Mean of own_score over devices; null without evaluation.device_fraction."),
    _score("own_score_worst_tenth", "Mean of own_score over the worst tenth of devices, rounded up."),
    _score("own_score_spread", "Standard deviation of own_score over devices."),
    _score("own_loss_mean", "Mean of own_loss over devices; null without evaluation.device_fraction."),
    _score("own_loss_worst_tenth", "Mean of own_loss over the worst tenth of devices, rounded up."),
    _score("own_loss_spread", "Standard deviation of own_loss over devices."),
    _score("option_accuracy", "Share of held-out choices whose answer is the likeliest option; null without options."),
    _score("option_accuracy_norm", "The same by log-likelihood per character of the option."),
)

_DEVICES = _schema(
    "One row is one device in one round: all that it was asked to do and all that happened. Times are emulated; "
    "download_s + compute_s + upload_s + waiting_s is the length of the round. What a device was not asked for is 0.",
    _field("round_index", _INT, "1", "Number of the round, from 0."),
    _field("device_id", _INT, "1", "Number of the device, from 0."),
    _field("profile", _TEXT, "", "Name of the device profile."),
    _field("power_mode", _TEXT, "", "Power mode during the round."),
    _field("status", _TEXT, "", "ok, dropped, out_of_memory, late, unavailable, or idle (not in the cohort)."),
    _field("group", _INT, "1", "Group that the plan put the device into, from 0; -1 outside the cohort."),
    _field("n_inner_rounds", _INT, "1", "Inner rounds of its group."),
    _field("depth", _INT, "1", "LoRA depth: tuned layers, counted from the output, or from a cut."),
    _field("quantized_layers", _INT, "1", "Of these, the lowest ones that keep their activations quantized."),
    _field(
        "ranks",
        pa.list_(_INT),
        "1",
        "Adapter rank of each layer that the device has, from the input; the largest where its matrices differ.",
    ),
    _field("n_steps", _INT, "1", "Local steps asked for in each inner round."),
    _field("batch_size", _INT, "1", "Examples in each local step."),
    _field(
        "learning_rate", _FLOAT, "1", "Learning rate of its local training; null outside the cohort.", nullable=True
    ),
    _field("start_s", _FLOAT, "s", "Emulated time at which the round starts."),
    _field("download_s", _FLOAT, "s", "Time spent receiving."),
    _field("forward_s", _FLOAT, "s", "Computing time outside backward passes, overhead of steps included."),
    _field("backward_s", _FLOAT, "s", "Computing time in backward passes."),
    _field("compute_s", _FLOAT, "s", "forward_s + backward_s."),
    _field("upload_s", _FLOAT, "s", "Time spent sending."),
    _field("waiting_s", _FLOAT, "s", "Rest of the round: waiting for others, or doing nothing."),
    _field("download_bytes", _LONG, "byte", "Received."),
    _field("upload_bytes", _LONG, "byte", "Sent."),
    _field(
        "downlink_bytes_per_s",
        _FLOAT,
        "byte/s",
        "Rate of its own link towards it as the round began; null if it has none.",
        nullable=True,
    ),
    _field(
        "uplink_bytes_per_s",
        _FLOAT,
        "byte/s",
        "Rate of its own link towards the server as the round began; null if it has none.",
        nullable=True,
    ),
    _field("work_flop", _FLOAT, "FLOP", "Computation done, over all inner rounds."),
    _field("peak_memory_bytes", _LONG, "byte", "Memory that its work needs at most."),
    _field("memory_limit_bytes", _LONG, "byte", "Memory that its profile leaves for training."),
    _field("energy_j", _FLOAT, "J", "Energy over the whole round, waiting included."),
    _field("n_examples", _LONG, "1", "Its local examples, which weigh its update."),
    _field("train_loss", _FLOAT, "nat", "Mean loss over its local steps; null if not trained.", nullable=True),
    _field("metrics", pa.map_(_TEXT, _FLOAT), "", "What its task reports besides, by name."),
    _score(
        "own_score",
        "What the server's model has after the round on rows that the device holds out of its own (see the setting "
        "evaluation.device_fraction): accuracy, for multi_label micro F1, for causal and seq2seq token accuracy; null "
        "elsewhere.",
    ),
    _score("own_loss", "Mean loss of the server's model on these rows; null where there are none."),
)

_ACTIVITIES = _schema(
    "One row is one thing that a device does over a span of emulated time. A device's activities follow on each other "
    "without a gap from the start to the end of the round.",
    _field("round_index", _INT, "1", "Number of the round, from 0."),
    _field("device_id", _INT, "1", "Number of the device, from 0."),
    _field("inner_round", _INT, "1", "Number of the inner round, from 0."),
    _field("kind", _TEXT, "", "download, compute, upload or wait."),
    _field("start_s", _FLOAT, "s", "Emulated time at which it starts."),
    _field("end_s", _FLOAT, "s", "Emulated time at which it ends."),
    _field("n_bytes", _LONG, "byte", "Received by a download or sent by an upload; otherwise 0."),
    _field("energy_j", _FLOAT, "J", "Energy of the device over this span."),
)

_HOST = _schema(
    "One row is one piece of work of one process of the emulator, such as a stack of devices that it trained. The only "
    "table with wall-clock time: it differs from run to run while the others do not. Rows overlap, so do not "
    "add them all up: round contains all of a round, play contains the coordinator's train, and that the train of the "
    "hosts, which work side by side.",
    _field("round_index", _INT, "1", "Number of the round, from 0; -1 for what precedes the first."),
    _field("host", _TEXT, "", "Name of the host, or coordinator."),
    _field(
        "phase",
        _TEXT,
        "",
        "import, load, start, plan, play (the timeline with its training), train (of a host: a stack of jobs; of the "
        "coordinator: until all hosts have answered), evaluate, write, or round (all). Of a live device: download, "
        "compute and upload (in all), train (of compute, what it really computed) and lag (behind its board).",
    ),
    _field("wall_s", _FLOAT, "s", "Wall-clock time that it took."),
    _field("n_jobs", _INT, "1", "Jobs that it handled."),
    _field("memory_bytes", _LONG, "byte", "Resident memory of the process afterwards; 0 if not measured."),
    _field("prefix_layers", _INT, "1", "Layers below the lowest adapter that were not computed again."),
    _field("prefix_cache_bytes", _LONG, "byte", "What is kept of them instead."),
)

SCHEMAS: Mapping[str, pa.Schema] = MappingProxyType(
    {"rounds": _ROUNDS, "devices": _DEVICES, "activities": _ACTIVITIES, "host": _HOST}
)
"""The schema of each table. Every field has the metadata ``unit`` and ``description``; unit "1" is a plain number."""


def units(table: str) -> dict[str, str]:
    """The unit of each column of a table: ``"1"`` for a plain number, ``""`` for text.

    Raises:
        KeyError: there is no such table.
    """
    return {field.name: field.metadata[b"unit"].decode() for field in SCHEMAS[table]}


def markdown() -> str:
    """The reference of all tables for ``docs/results.md``."""
    return "\n".join(_markdown_table(name, schema) for name, schema in SCHEMAS.items())


def _markdown_table(name: str, schema: pa.Schema) -> str:
    lines = [f"## `{name}`", "", schema.metadata[b"description"].decode(), ""]
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for field in schema:
        unit = field.metadata[b"unit"].decode() or "–"
        kind = _type_name(field.type) + (", may be null" if field.nullable else "")
        lines.append(f"| `{field.name}` | {kind} | {unit} | {field.metadata[b'description'].decode()} |")
    return "\n".join(lines) + "\n"


def _type_name(kind: pa.DataType) -> str:
    """Types as pyarrow prints them differ between its versions for nested ones; this does not."""
    if pa.types.is_map(kind):
        return f"map of {kind.key_type} to {kind.item_type}"
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)
