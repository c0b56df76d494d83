"""The configuration: defaults, files, overrides, and what is said about a mistake."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from emulator.cli.print_config import as_toml
from emulator.config import Config, ObserverConfig, load_config, parse_setting
from emulator.config.testbed import ModeChangeConfig
from emulator.errors import ConfigError
from emulator.running.compose import check_settings
from emulator.running.resolve import policy_of, resolved_settings
from policies.fedlora import FedLora


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.toml"
    path.write_text(text, encoding="utf-8")
    return path


def leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every key path with its annotation and its default."""
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", type(section).model_fields[name].annotation, value


def bare_type(annotation: Any) -> type:
    """That of a setting which may be None, without its limits; the first of several."""
    given = next(each for each in get_args(annotation) if each is not type(None))
    found: type = get_args(given)[0] if get_origin(given) is Annotated else given
    return found


def another(annotation: Any, default: Any) -> Any:
    """An allowed value that is not the default; the default where nothing else is allowed."""
    if default is None:
        if named := [choice for each in get_args(annotation) for choice in get_args(each) if isinstance(choice, str)]:
            return named[0]
        return {int: 3, float: 3.0, str: "another"}[bare_type(annotation)]
    if isinstance(default, bool):
        return not default
    if isinstance(default, float):
        return default / 2 + 0.25
    if isinstance(default, int):
        return default + 1
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return next((choice for choice in choices if choice != default), default if choices else "another")


def found(config: BaseModel, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_without_a_file_the_default_run_is_legend_for_thirty_rounds_on_the_80_jetsons() -> None:
    config = load_config(None)

    assert config == Config()
    assert (config.policy.path, config.rounds, config.testbed.cluster) == ("legend", 30, "jetson80")


OTHERS: dict[str, Any] = {
    "pace": "realtime(2)",
    "backend.kind": "inline",
    "training.devices_stacked": 5,
    "data.separator": ";",
    "server.optimizer": "fedadam",
    "evaluation.device_fraction": 0.25,
    "testbed.availability.battery_capacity_j": 5000.0,
    "testbed.foreground.compute_fraction": 0.25,
    "compression.topk_fraction": 0.25,
    "testbed.mode_changes": (ModeChangeConfig(device="jetson_tx2", mode="MAXQ", from_round=3),),
    "observers": (ObserverConfig(path="package.module:Class"),),
}
"""Values of keys that do not take just any."""
COMPANIONS: dict[str, tuple[str, Any]] = {
    "data.partition.column": ("data.partition.scheme", "natural"),
    "data.partition.file": ("data.partition.scheme", "given"),
    "training.momentum": ("training.optimizer", "sgd"),
    "training.decay": ("training.decay_rounds", 10),
    "training.decay_rounds": ("training.decay", "linear"),
    "server.learning_rate": ("server.optimizer", "fedadam"),
    "compression.error_feedback": ("compression.upload", "fp16"),
    "compression.topk_fraction": ("compression.upload", "topk"),
    "compression.bucket_size": ("compression.upload", "int8"),
    "compression.rounding": ("compression.upload", "int8"),
}
"""Keys that mean something beside another one alone, which is set with them."""


@pytest.mark.parametrize(
    ("key", "annotation", "default"), list(leaves(Config())), ids=[key for key, _, _ in leaves(Config())]
)
def test_every_key_can_be_set(key: str, annotation: Any, default: Any) -> None:
    value = OTHERS.get(key) or another(annotation, default)

    companions = [COMPANIONS[key]] if key in COMPANIONS else []
    assert found(load_config(None, [*companions, (key, value)]), key) == value


NOT_EMPTY = ("backend.gpus_per_host", "model.depth_map", "server.optimizer", "compression.rounding")
"""A share of 0 GPUs is one that can be meant, and a name out of a few is refused as any other is."""
NOT_GIVEN = [
    (key, annotation)
    for key, annotation, default in leaves(Config())
    if default is None
    and key not in ("backend.gpus_per_host", "model.depth_map", "server.optimizer", "compression.rounding")
]


@pytest.mark.parametrize(("key", "annotation"), NOT_GIVEN, ids=[key for key, _ in NOT_GIVEN])
def test_what_need_not_be_given_is_left_out_or_none_and_never_empty(tmp_path: Path, key: str, annotation: Any) -> None:
    table, _, name = key.rpartition(".")
    kind = bare_type(annotation)
    path = write(tmp_path, f"[{table}]\n{name} = {(OTHERS.get(key) or another(annotation, None))!r}\n")
    beside = [COMPANIONS[key]] if key in COMPANIONS else []

    assert found(load_config(path, beside), key) is not None
    without = [(other, found(Config(), other)) for other, _ in beside]
    assert found(load_config(path, [parse_setting(f"{key}=none"), *without]), key) is None
    with pytest.raises(ConfigError, match=rf"^--set: {re.escape(key)}: leave the key out, .*'none'.* got (''|0|0\.0)$"):
        load_config(path, [(key, kind())])


def test_no_share_of_a_gpu_is_0_and_is_not_the_same_as_none_given() -> None:
    assert load_config(None, [("backend.gpus_per_host", 0.0)]).backend.gpus_per_host == 0.0
    assert load_config(None, [parse_setting("backend.gpus_per_host=none")]).backend.gpus_per_host is None


def test_a_setting_without_its_section_is_answered_with_where_it_is() -> None:
    with pytest.raises(
        ConfigError, match=r"^--set: checkpoint_rounds is .*; did you mean results\.checkpoint_rounds\? "
    ):
        load_config(None, [parse_setting("checkpoint_rounds=1")])


def test_the_first_column_has_the_number_0() -> None:
    settings = [("data.prompt_column", 0), ("data.response_column", 1), ("data.header", False)]

    assert load_config(None, settings).data.prompt_column == 0


def test_every_key_says_what_it_means() -> None:
    def undocumented(section: BaseModel) -> list[str]:
        missing = [name for name, value in section if not isinstance(value, BaseModel)]
        missing = [name for name in missing if not type(section).model_fields[name].description]
        return missing + [name for _, value in section if isinstance(value, BaseModel) for name in undocumented(value)]

    assert undocumented(Config()) == []


def test_an_override_wins_over_the_file_and_leaves_the_rest_of_it(tmp_path: Path) -> None:
    path = write(tmp_path, "rounds = 5\n[training]\nlocal_steps = 2\nbatch_size = 16\n")

    config = load_config(path, [("training.local_steps", 9)])

    assert (config.rounds, config.training.local_steps, config.training.batch_size) == (5, 9, 16)


def test_keys_of_the_policy_beside_its_path_are_its_parameters(tmp_path: Path) -> None:
    path = write(tmp_path, '[policy]\npath = "fedlora"\nrank = 4\n')

    policy = load_config(path, [("policy.depth", 2)]).policy

    assert (policy.path, policy.parameters) == ("fedlora", {"rank": 4, "depth": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rounds=3", ("rounds", 3)),
        ("training.learning_rate=1e-3", ("training.learning_rate", 1e-3)),
        ("training.enabled=false", ("training.enabled", False)),
        ('policy.path="fedlora"', ("policy.path", "fedlora")),
        ("policy.path=fedlora", ("policy.path", "fedlora")),
        ("data.source=a=b.csv", ("data.source", "a=b.csv")),
        ("policy.range=[1, 2]", ("policy.range", [1, 2])),
        ("data.source=", ("data.source", "")),
        ("data.text_column=007", ("data.text_column", "007")),
    ],
)
def test_a_setting_is_read_as_toml_and_otherwise_as_text(text: str, expected: tuple[str, Any]) -> None:
    assert parse_setting(text) == expected


def test_a_number_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--set rounds: a number has too many digits"):
        parse_setting("rounds=" + "9" * 5000)


@pytest.mark.parametrize("text", ["rounds", "=3", ".rounds=3", "a..b=3", ""])
def test_a_setting_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set takes key\.path=value.*got "):
        parse_setting(text)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[training]\nlocal_step = 3",
            r"training\.local_step is not a setting; did you mean local_steps\? \[training\]",
        ),
        ("ruonds = 3", r"ruonds is not a setting; did you mean rounds\? the top level takes"),
        ("n_devices = 3", r"n_devices is not a setting; did you mean testbed\.n_devices\? the top level takes"),
        ("zzz = 3", r"zzz is not a setting; the top level takes: backend, compression, data"),
        ("[data.partition]\nalfa = 1.0", r"data\.partition\.alfa is not a setting; did you mean alpha\?"),
        ("rounds = 0", r"rounds: input should be greater than 0, got 0"),
        ("rounds = -2", r"rounds: .*greater than 0, got -2"),
        ('rounds = "ten"', r"rounds: .*valid integer, got 'ten'"),
        ("rounds = 2.5", r"rounds: .*valid integer, got 2\.5"),
        ("rounds = true", r"rounds: .*valid integer, got True"),
        ("seed = -1", r"seed: .*greater than or equal to 0, got -1"),
        ("training = 3", r"training is a table of settings \(accumulation_steps, batch_size, .*\), got 3"),
        ("[data]\ntest_fraction = 1.0", r"data\.test_fraction: .*less than 1, got 1\.0"),
        ('[backend]\nkind = "mpi"', r"backend\.kind: .*'ray' or 'inline' or 'live', got 'mpi'"),
        ("[backend]\nhosts = 2\ndevices_per_actor = 1", r"hosts and backend\.devices_per_actor exclude one another"),
        ("rounds =", r"not valid TOML"),
        ("[data]\nseq_len = 1", r"data\.seq_len: .*greater than or equal to 2, got 1"),
        (f"rounds = {'9' * 5000}", "a number has too many digits to be read"),
        (f"rounds = 0x{'f' * 5000}", "a number has too many digits to be read"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_the_file(tmp_path: Path, toml: str, message: str) -> None:
    path = write(tmp_path, toml)

    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)

    assert str(caught.value).startswith(f"{path}: ")


def test_a_mistake_in_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set: training\.batch_size: .*got 0$"):
        load_config(write(tmp_path, "rounds = 5"), [("training.batch_size", 0)])


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--set rounds\.x: rounds is a value"):
        load_config(write(tmp_path, "rounds = 5"), [("rounds.x", 1)])


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file '.*nowhere\.toml'"):
        load_config(tmp_path / "nowhere.toml")


def test_a_printed_configuration_gives_the_same_run_again(tmp_path: Path) -> None:
    settings = [("policy.path", "fedlora"), ("policy.rank", 4), ("data.text_column", 0), ("data.partition.alpha", 0.1)]
    config = load_config(None, [*settings, ("data.source", 'C:\\"quoted".csv')])

    again = load_config(write(tmp_path, as_toml(config)))
    assert again.model_dump(exclude={"policy"}) == config.model_dump(exclude={"policy"})
    assert (again.policy.path, again.policy.parameters) == ("fedlora", {"rank": 4, "depth": "none"})  # depth by default


@dataclass(kw_only=True)
class Optional(FedLora):
    wish: str | None = None
    others: Any = object


def test_a_parameter_that_is_none_is_printed_and_read_as_such(tmp_path: Path) -> None:
    path = f"{__name__}:Optional"
    text = as_toml(load_config(None, [("policy.path", path)]))
    assert 'wish = "none"\n' in text
    config = load_config(write(tmp_path, text))
    assert policy_of(config) == Optional(wish=None, depth=None)
    assert resolved_settings(config) == resolved_settings(load_config(None, [("policy.path", path)]))


def test_a_default_that_toml_cannot_say_is_a_comment(tmp_path: Path) -> None:
    text = as_toml(load_config(None, [("policy.path", f"{__name__}:Optional")]))
    assert "# others is <class 'object'>, which TOML cannot say\n" in text


def test_another_policy_than_the_file_names_brings_its_own_parameters(tmp_path: Path) -> None:
    path = write(tmp_path, '[policy]\npath = "legend"\nfirst_rank = 3')

    other = load_config(path, [("policy.rank", 4), ("policy.path", "fedlora")])
    same = load_config(path, [("policy.path", "legend")])

    assert (other.policy.path, other.policy.parameters) == ("fedlora", {"rank": 4})
    assert same.policy.parameters == {"first_rank": 3}


def test_a_printed_configuration_explains_every_key() -> None:
    lines = as_toml(Config()).splitlines()

    for key, _, _ in leaves(Config()):
        number = next(i for i, line in enumerate(lines) if line.startswith(f"{key.rpartition('.')[2]} = "))
        assert lines[number - 1].startswith("# "), key


@pytest.mark.parametrize(
    ("pace", "factor"), [("virtual", None), ("realtime(1)", 1.0), ("realtime(2.5)", 2.5), ("realtime( 1e3 )", 1000.0)]
)
def test_a_pace_has_its_factor(pace: str, factor: float | None) -> None:
    assert load_config(None, [("pace", pace)]).pace_factor == factor


@pytest.mark.parametrize("pace", ["fast", "realtime", "realtime()", "realtime(0)", "realtime(-1)", "realtime(1e999)"])
def test_an_impossible_pace_is_refused(pace: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, [("pace", pace)])
    assert str(refused.value).startswith("--set: pace must be 'virtual', or 'realtime(x)' with x emulated seconds")
    assert str(refused.value).endswith(f"got {pace!r}")


def test_the_example_of_images_is_a_valid_run() -> None:
    config = load_config(Path(__file__).parents[2] / "examples" / "cnn_digits.toml")

    check_settings(config)
    assert (config.model.train, config.data.source, config.policy.path) == ("builtin:cnn", "builtin:digits", "mergesfl")
