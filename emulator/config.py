"""All settings of a run in one validated model; checked by pydantic.

A configuration is a TOML file, overridden key by key from the command line. What is wrong in it is reported as one
:class:`~emulator.errors.ConfigError` that names the file or option, the key, what is allowed and what was given.
"""

import copy
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from device_profiles.text_files import parsed_toml, read_text, user_path
from emulator.backends.kinds import KINDS, backend_kind
from emulator.errors import ConfigError, did_you_mean

LARGEST = 2**31 - 1  # of what is stored in 32 bits; nothing that is counted here comes near it
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(gt=0, lt=1)]

SWEEP_KEYS = {"axes", "cases", "base"}
"""Keys that a sweep file has and a configuration has not."""


def _expanded(text: str) -> str:
    """``~`` and ``file://`` mean the same in every path; what is no path stays as it is."""
    return str(user_path(text)) if text.startswith(("~", "file:")) else text


NameOrPath = Annotated[str, AfterValidator(_expanded)]

REALTIME = re.compile(r"realtime\(\s*(?P<factor>\d+(\.\d*)?([eE][+-]?\d+)?)\s*\)")


_BACKENDS = "; ".join(f"{kind.name}: {kind.holds}" for kind in KINDS) + "."


def _known_backend(name: str) -> str:
    try:
        return backend_kind(name).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


class Section(BaseModel):
    """A table of the configuration; it takes exactly the keys it names, each in its own type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class AvailabilityConfig(Section):
    """When the devices can be reached, and how often they fail in the middle of a round."""

    kind: Literal["always", "on_off", "trace"] = "always"
    """always; on_off: each device by itself is on and off in turns, for exponentially distributed times; trace: in the
    spans of time that a file lists."""
    mean_on_s: Annotated[float, Field(ge=0)] = 0.0
    """For on_off: for how long a device can be reached, on average, in emulated seconds; at least 0.001."""
    mean_off_s: Annotated[float, Field(ge=0)] = 0.0
    """For on_off: for how long it cannot; at least 0.001."""
    trace: NameOrPath = ""
    """For trace: a Parquet or text file with the columns device_id, start_s and end_s, one row for each span in which a
    device can be reached."""
    origin_s: Annotated[float, Field(ge=0)] | Literal["first"] = 0.0
    """For trace: the moment of the trace at which the run begins, in seconds; first: that at which the first of its
    devices can be reached. What the trace has before it is left out."""
    drop_out_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of device-rounds in which a device of the cohort fails in the middle of its computation."""


class TestbedConfig(Section):
    """The emulated devices."""

    cluster: NameOrPath = "jetson80"
    """A built-in cluster (see jetbed devices) or a TOML file."""
    link: NameOrPath = ""
    """A built-in link (see jetbed devices) or a TOML file for all devices; empty leaves each the link of its
    cluster."""
    n_devices: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many devices, in the cluster's proportions; 0 takes the cluster as it is."""
    precision: Literal["fp32", "amp"] = "fp32"
    """Arithmetic on the devices, as priced: fp32, or mixed precision (amp)."""
    server_tflop_per_s: Annotated[float, Field(ge=0)] = 0.0
    """What the server computes with where it trains a part of the model itself, in 10^12 FLOP/s; 0 means at no cost of
    time, as in the time model of MergeSFL. Its server has four RTX 2080 Ti of 13 each, at their peak in fp32."""
    availability: AvailabilityConfig = AvailabilityConfig()


class ModelConfig(Section):
    """Which model is trained, and whose shapes the devices pay for."""

    train: NameOrPath = "builtin:tiny-12"
    """What is really trained: builtin:tiny-12, a local directory, or a hub id; or builtin:cnn, on images."""
    price: NameOrPath = "auto"
    """Whose shapes the devices pay for: bert-base, distilbert, roberta-base, roberta-large, a local directory, a hub
    id, trained (the trained model's own shapes), or auto (roberta-base for the built-in model, otherwise trained). For
    a convnet: alexnet (auto), vgg16-bn or trained."""
    price_seq_len: NotNegative = 0
    """Tokens per example that the devices pay for; 0 means data.seq_len, or 128 where the price is not the trained
    model's own."""
    head: Literal["output", "full"] = "output"
    """How much of the classification head is trained and shipped: its last linear map, or all of it."""


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
    test_source: NameOrPath = ""
    """A file with the held-out examples; empty holds out test_fraction of the source."""
    text_column: str | NotNegative = "text"
    """Column with the text: a name, or a number counted from 0 for files without a header."""
    label_column: str | NotNegative = "label"
    """Column with the label: a name, or a number counted from 0 for files without a header."""
    header: Literal["auto", True, False] = "auto"
    """Whether the first line of a csv, tsv or txt file names its columns; auto: if columns are given by name."""
    separator: str = ""
    """What is between the fields of a csv, tsv or txt file, one character; empty finds it out."""
    quoting: Literal["auto", "minimal", "none"] = "auto"
    """minimal: fields with the separator, a quote or a line's end in them are enclosed in double quotes; none: quotes
    are characters like others; auto: minimal, but in tab-separated files only where every field fits it."""
    configuration: str = ""
    """Which of its configurations, where a data set of the hub has several."""
    test_fraction: Fraction = 0.1
    """Share of the source that is held out for evaluation."""
    n_train: NotNegative = 0
    """At most so many training examples; 0 means all (builtin:intents: 8,000)."""
    n_test: NotNegative = 0
    """At most so many held-out examples; 0 means all (builtin:intents: 1,000)."""
    seq_len: Annotated[int, Field(ge=2, le=LARGEST)] = 32
    """Tokens at which texts are cut for training; models put one before a text and one after it."""
    partition: PartitionConfig = PartitionConfig()

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str) -> str:
        if len(separator) > 1 or separator in ('"', "\n", "\r", "\0"):
            raise ValueError(
                "data.separator must be one character that is no quote and no line's end, such as ';' or '\\t', or "
                f"empty, got {separator!r}"
            )
        return separator

    @model_validator(mode="after")
    def _numbers_without_header(self) -> "DataConfig":
        by_name = [key for key in ("text_column", "label_column") if isinstance(getattr(self, key), str)]
        if self.header is False and by_name:
            raise ValueError(
                f"data.header is false, so that columns have no names: give data.{by_name[0]} as a number counted from "
                f"0, got {getattr(self, by_name[0])!r}"
            )
        return self


class TrainingConfig(Section):
    """Local training on the devices, and the numeric settings that may change the last bits of a result."""

    enabled: bool = True
    """Whether models are trained at all; false emulates time, bytes, joules and memory alone."""
    local_steps: Positive = 4
    """Optimizer steps of a device per (inner) round."""
    batch_size: Positive = 8
    """Examples per local step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's learning rate for adapters; that of SGD where a convnet is trained whole, for which 0.1 is usual."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    dropout: bool = False
    """Whether the model's own dropout is active in training."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic in which the models are really trained here."""
    devices_stacked: Positive = 16
    """How many devices are trained in one forward and backward pass."""
    threads_per_host: Annotated[int, Field(gt=0, le=1024)] = 1
    """Threads of a device host."""
    prefix_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory of a host for what the layers below the lowest adapter give, computed once per example; 0 turns it off."""


class EvaluationConfig(Section):
    """Evaluation of the server state on held-out data."""

    every_rounds: Positive = 1
    """Evaluate every so many rounds, and after the last."""
    batch_size: Positive = 128
    """Examples per forward pass."""


class BackendConfig(Section):
    """Where the device hosts run. It changes no result, but for the last bits of what is trained: an actor of its own
    trains a device alone, and a GPU rounds in another way than a CPU."""

    kind: Annotated[str, AfterValidator(_known_backend), Field(description=_BACKENDS)] = "ray"
    hosts: NotNegative = 0
    """Host processes; 0 means one per core that is free."""
    devices_per_actor: NotNegative = 0
    """Devices per host; 1 gives every device an actor of its own; 0 spreads the devices over the hosts."""
    gpus_per_host: Annotated[float, Field(ge=0)] = 0.0
    """Share of a GPU that each host reserves and uses; 0 trains on the CPU."""


class ResultsConfig(Section):
    """What is written."""

    rounds_per_part: NotNegative = 0
    """Rounds per Parquet part; a round is safe on disk, and shown as done, once its part is. 0 means 1, or 50 in a run
    without training, whose rounds take milliseconds."""
    checkpoint_rounds: NotNegative = 10
    """Rounds after which a run can go on where it was, whatever it dies of; 0 keeps no checkpoints. One is written only
    where a Parquet part ends, so that this counts in steps of ``rounds_per_part``."""


class PolicyConfig(BaseModel):
    """The policy; every key beside ``path`` is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    path: str = "legend"
    """A name that jetbed policies lists, or package.module:Class."""

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class ObserverConfig(BaseModel):
    """An observer; every key beside ``path`` is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, use_attribute_docstrings=True)

    path: str
    """package.module:Class."""

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Config(Section):
    """A run."""

    rounds: Positive = 20
    """How many rounds are run."""
    seed: NotNegative = 0
    """Every random stream of the run is derived from it."""
    pace: str = "virtual"
    """virtual: emulated time never sleeps; realtime(x): it keeps pace with the wall at x emulated seconds per second,
    with the same results."""
    observers: tuple[ObserverConfig, ...] = ()
    """Who is told of each round, by import path, such as emulator.observers.tensorboard:TensorBoard; with parameters, a
    table {path = "package.module:Class", key = value}. Observers change no result."""
    testbed: TestbedConfig = TestbedConfig()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    backend: BackendConfig = BackendConfig()
    results: ResultsConfig = ResultsConfig()
    policy: PolicyConfig = PolicyConfig()

    @property
    def pace_factor(self) -> float | None:
        """The x of ``pace = "realtime(x)"``; None where emulated time never sleeps."""
        match = REALTIME.fullmatch(self.pace)
        return float(match["factor"]) if match else None

    @property
    def checkpoint_rounds(self) -> int:
        """Rounds between two checkpoints, a multiple of those of a Parquet part; 0 where there are none."""
        return math.ceil(self.results.checkpoint_rounds / self.rounds_per_part) * self.rounds_per_part

    @property
    def rounds_per_part(self) -> int:
        """``results.rounds_per_part`` with 0 resolved."""
        return self.results.rounds_per_part or (1 if self.training.enabled else 50)

    @field_validator("pace")
    @classmethod
    def _known_pace(cls, pace: str) -> str:
        match = REALTIME.fullmatch(pace)
        if pace != "virtual" and not (match and 0 < float(match["factor"]) < math.inf):
            raise ValueError(
                "pace must be 'virtual', or 'realtime(x)' with x emulated seconds per second of the wall, for example"
                f" 'realtime(10)', got {pace!r}"
            )
        return pace

    @field_validator("observers", mode="before")
    @classmethod
    def _paths_are_observers(cls, observers: Any) -> Any:
        paths = observers if isinstance(observers, list | tuple) else [None]
        paths = [each.get("path") if isinstance(each, Mapping) else each for each in paths]
        if not all(isinstance(path, str | ObserverConfig) for path in paths):
            raise ValueError(
                "observers must be a list of import paths and of tables with a path, for example "
                f"['emulator.observers.tensorboard:TensorBoard'], got {observers!r}"
            )
        return tuple({"path": each} if isinstance(each, str) else each for each in observers)

    @model_validator(mode="after")
    def _one_way_to_count_hosts(self) -> "Config":
        if self.backend.hosts and self.backend.devices_per_actor:
            raise ValueError("backend.hosts and backend.devices_per_actor exclude one another; give one of them")
        return self


def load_config(
    path: Path | None, overrides: Sequence[tuple[str, Any]] = (), options: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """The configuration in the TOML file ``path`` (None: all defaults) with ``overrides``, pairs of key path and value.

    Of overrides that an option of the command line made, ``options`` has its name by key path, for messages.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is not allowed.
    """
    table = read_toml(path) if path else {}
    if path and (SWEEP_KEYS & table.keys()):
        raise ConfigError(f"{path}: this is a sweep file, not the configuration of one run; use: jetbed sweep {path}")
    return config_of(table, overrides, str(path) if path else "--set", options=options)


def config_of(
    table: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]],
    origin: str,
    overrides_origin: str = "--set",
    options: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """The configuration in ``table`` with ``overrides``; messages say ``origin`` of the one, ``overrides_origin`` of
    the others, or their ``options`` by key path.

    Raises:
        ConfigError: a key is unknown, or a value is not allowed.
    """
    settings = overridden(table, overrides, overrides_origin)
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(
            _explain(error, origin, {key: options.get(key, overrides_origin) for key, _ in overrides})
        ) from None


def overridden(table: Mapping[str, Any], overrides: Sequence[tuple[str, Any]], origin: str) -> dict[str, Any]:
    """A copy of ``table`` with ``overrides``; another policy than the table's has none of its parameters.

    Raises:
        ConfigError: an override is of a part of a value.
    """
    settings = copy.deepcopy(dict(table))
    # The policy comes first, since the parameters given beside it are its own.
    for key, value in sorted(overrides, key=lambda override: override[0] != "policy.path"):
        if key == "policy.path" and _policy_path(settings) != value:
            settings["policy"] = {}
        _put(settings, key, value, origin)
    return settings


def check_key(key: str, where: str) -> None:
    """Check that ``key`` is the path of a setting, of a table of settings, or of a parameter of the policy.

    Raises:
        ConfigError: it is not.
    """
    location = key.split(".")
    if location[0] == "policy" and all(location):
        return
    for depth, part in enumerate(location):
        if part not in _settings_of(location[:depth]):
            raise ConfigError(_not_a_setting(location[: depth + 1], where))


def parse_setting(text: str) -> tuple[str, Any]:
    """Split ``key.path=value``; the value is read as TOML, and as a plain string where it is not valid TOML."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or not all(key.split(".")):
        raise ConfigError(f"--set takes key.path=value, for example training.local_steps=8, got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")
        repr(parsed)  # a message must be able to say the value
    except tomllib.TOMLDecodeError:
        return key, value
    except RecursionError:
        raise ConfigError(f"--set {key}: the value is nested too deeply to be read") from None
    except ValueError:
        raise ConfigError(
            f"--set {key}: a number has too many digits to be read, got {len(value)} characters"
        ) from None
    return key, parsed["value"] if len(parsed) == 1 else value


def read_toml(path: Path, what: str = "configuration file") -> dict[str, Any]:
    """The content of the TOML file ``path``; messages call it ``what``.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if not path.exists():
            raise ConfigError(f"there is no {what} {str(path)!r}")
        return parsed_toml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _policy_path(table: Mapping[str, Any]) -> Any:
    policy = table.get("policy")
    return policy.get("path", PolicyConfig().path) if isinstance(policy, dict) else None


def _put(table: dict[str, Any], key: str, value: Any, origin: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{origin} {key}: {parent} is a value, not a table of settings")
    table[last] = value


def _explain(error: ValidationError, origin: str, overrides: Mapping[str, str]) -> str:
    """The first thing that is wrong, in one sentence; ``overrides`` say by key path who gave them."""
    details = error.errors(include_url=False)
    detail = details[0]
    location = [str(part) for part in detail["loc"]]
    # Of a setting that takes values of several types, each type has something to say.
    alternatives = [each["msg"] for each in details if each["loc"][:-1] == detail["loc"][:-1]]
    if len(location) > 1 and location[0] != "policy" and not _settings_of(location[:-1]):
        location.pop()
        detail["msg"] = " or ".join([alternatives[0], *(text[:1].lower() + text[1:] for text in alternatives[1:])])
    key = ".".join(location)
    where = next((who for given, who in overrides.items() if key == given or key.startswith(f"{given}.")), origin)
    if detail["type"] == "extra_forbidden":
        return _not_a_setting(location, where)
    if detail["type"] == "value_error":
        return f"{where}: {detail['ctx']['error']}"
    if detail["type"] in ("model_type", "model_attributes_type"):
        settings = ", ".join(_settings_of(location))
        return f"{where}: {key} is a table of settings ({settings}), got {_given(detail['input'])}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    # An option says by itself which setting it is.
    what = where if where.startswith("--") and where != "--set" else f"{where}: {key}"
    return f"{what}: {message}, got {_given(detail['input'])}"


def _not_a_setting(location: Sequence[str], where: str) -> str:
    allowed = _settings_of(location[:-1])
    section = f"[{'.'.join(location[:-1])}]" if location[:-1] else "the top level"
    hint = did_you_mean(location[-1], allowed)
    return f"{where}: {'.'.join(location)} is not a setting{hint or ';'} {section} takes: {', '.join(allowed)}"


def _given(value: Any) -> str:
    return repr(dict(value) if isinstance(value, Mapping) else value)


def _settings_of(location: Sequence[str]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        section = annotation
    return sorted(section.model_fields)
