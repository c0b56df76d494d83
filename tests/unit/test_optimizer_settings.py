"""Settings of partitions, optimizers and compression that do not belong together are told in one sentence."""

import pytest

from emulator.config import load_config, parse_setting
from emulator.errors import ConfigError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.partition.scheme=natural", r"data.partition.column must be given where .*scheme is 'natural'"),
        ("data.partition.scheme=given", r"data.partition.file must be given where .*scheme is 'given'"),
        ("data.partition.column=user", r"is for data.partition.scheme = 'natural'; .* 'dirichlet', got 'user'"),
        ("data.partition.file=a.csv", r"is for data.partition.scheme = 'given'; the scheme is 'dirichlet'"),
        ("data.partition.scheme=natrual", r"data.partition.scheme"),
        ("data.partition.min_examples=0", r"data.partition.min_examples"),
        ("training.decay=cosine", r"training.decay_rounds must be given where training.decay is 'cosine'"),
        ("training.decay_rounds=4", r"training.decay_rounds is for linear and cosine; training.decay is 'constant'"),
        ("training.momentum=0.9", r"training.momentum is for training.optimizer = 'sgd'; it is 'adamw', got 0.9"),
        ("server.learning_rate=0.1", r"server.learning_rate is for a server optimizer: set server.optimizer"),
        ("server.momentum=1", r"server.momentum"),
        ("compression.error_feedback=true", r"is for uploads that lose something: set compression.upload to fp16"),
        (
            "compression.topk_fraction=0.1",
            r"topk_fraction is for compression.upload = 'topk'; it is 'none'.* got 0.1",
        ),
        ("compression.bucket_size=64", r"bucket_size is for int8; compression.upload is 'none' and .* got 64"),
        ("compression.rounding=nearest", r"rounding is for int8; compression.upload is 'none' and .* got 'nearest'"),
        ("compression.upload=int4", r"compression.upload.*'int8' or 'topk'"),
        ("compression.download=topk", r"compression.download"),
    ],
)
def test_what_does_not_belong_together_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [parse_setting(setting)])


@pytest.mark.parametrize(
    ("name", "rate"), [("fedavgm", 1.0), ("fedadam", 0.01), ("fedyogi", 0.01), ("fedadagrad", 0.01)]
)
def test_a_server_optimizer_has_a_rate_of_its_own_unless_it_is_given(name: str, rate: float) -> None:
    assert load_config(None, [("server.optimizer", name)]).server.rate == rate
    assert load_config(None, [("server.optimizer", name), ("server.learning_rate", 0.5)]).server.rate == 0.5
