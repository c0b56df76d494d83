"""Policy, model and data that do not fit together are refused with one sentence, before anything is loaded."""

import pytest

from emulator.config import Config, load_config, parse_setting
from emulator.errors import ConfigError
from emulator.forms.cut import CutForm
from emulator.running.compose import check_settings
from emulator.running.inputs import price_name
from emulator.running.resolve import policy_of, priced_model

NETWORK = ("model.train=builtin:cnn", "data.source=builtin:digits", "policy.path=mergesfl")


def checked(*settings: str) -> Config:
    config = load_config(None, [parse_setting(text) for text in settings])
    check_settings(config)
    return config


@pytest.mark.parametrize("policy", ["mergesfl", "splitfed"])
@pytest.mark.parametrize(
    ("settings", "name"),
    [(NETWORK, "alexnet"), ((), "roberta-base"), ((*NETWORK, "model.price=vgg16-bn"), "vgg16-bn")],
)
def test_policies_that_cut_take_networks_and_transformers(policy: str, settings: tuple[str, ...], name: str) -> None:
    config = checked(*settings, f"policy.path={policy}")
    priced = priced_model(config, n_labels=10, trained=None)

    assert priced.name == name
    assert isinstance(policy_of(config).form(priced), CutForm)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            (*NETWORK, "policy.path=legend"),
            "policies.legend:Legend is for encoder-decoder and transformer models, .* policies mergesfl, splitfed",
        ),
        (("data.source=builtin:digits",), "data.source must hold texts, since model.train = 'builtin:mini-12'"),
        (("data.source=x.npz",), "data.source must hold texts, .* got 'x.npz'"),
        ((*NETWORK, "data.source=builtin:intents"), "data.source must hold images, .* got 'builtin:intents'"),
        ((*NETWORK, "model.price=roberta-base"), "model.price must be one of alexnet, vgg16-bn, or 'trained'"),
        (("model.price=alexnet",), "model.price must be a transformer, or 'trained', .* got 'alexnet'"),
        ((*NETWORK, "model.train=alexnet"), "alexnet has shapes to be priced, but no weights to be trained"),
        ((*NETWORK, "policy.cut=2"), "alexnet is cut where its convolutions end; leave the cut out, got 2"),
    ],
)
def test_what_does_not_fit_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(*settings)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("CutsInWholeRounds", "GroupedRounds trains whole models and CutLoraForm cuts them; .* protocol CutRounds"),
        ("DoesNotCut", "CutRounds needs a form that cuts the model, LoraForm does not"),
        ("TrainsCopies", r"CutRounds\(merges=True\) needs the task '.*train_merged', got '.*train_copies'"),
        ("HasNoTask", "task must be 'module:function' .*, got 'emulator.learning.tasks.locally:train_adapter'"),
    ],
)
def test_a_form_a_task_and_a_protocol_that_do_not_go_together_are_refused(policy: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"policy tests.conformance.broken_policies:{policy}: {message}"):
        checked(f"policy.path=tests.conformance.broken_policies:{policy}")


def test_a_network_is_priced_as_alexnet_unless_said_otherwise() -> None:
    config = load_config(None, [parse_setting(text) for text in NETWORK])

    assert price_name(config) == "alexnet"
    assert priced_model(config, n_labels=10, trained=None).name == "alexnet"
    trained = load_config(None, [parse_setting(text) for text in (*NETWORK, "model.price=trained")])
    assert priced_model(trained, n_labels=10, trained=None).name == "builtin:cnn"


def test_without_training_the_data_do_not_matter() -> None:
    texts_for_a_network = ("model.train=builtin:cnn", "policy.path=splitfed")
    with pytest.raises(ConfigError, match=r"data\.source.*images"):
        checked(*texts_for_a_network)

    assert price_name(checked(*texts_for_a_network, "training.enabled=false")) == "alexnet"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("server.optimizer=fedadam", "policy.path=flora"),
            r"policies.flora:Flora makes another thing of them; .* one of the policies fed.*fedlora.*got 'fedadam'",
        ),
        (
            ("server.optimizer=fedyogi", "policy.path=fedspine"),
            r"policies.fedspine:FedSpine makes another",
        ),
        ((*NETWORK, "training.optimizer=sgd"), r"training.optimizer is for transformers; .*'builtin:cnn' is a convnet"),
        ((*NETWORK, "training.proximal_mu=0.1"), r"training.proximal_mu is for transformers"),
        ((*NETWORK, "training.max_gradient_norm=1"), r"training.max_gradient_norm is for transformers"),
        ((*NETWORK, "training.accumulation_steps=2"), r"training.accumulation_steps is for transformers; .*got 2"),
        ((*NETWORK, "training.checkpointing=true"), r"training.checkpointing is for transformers; .*got True"),
        ((*NETWORK, "model.base_precision=nf4"), r"model.base_precision is for transformers; .*got 'nf4'"),
        (
            ("policy.path=fedavg", "model.base_precision=int8"),
            r"policies.fedavg:FedAvg trains the weights themselves, .*got 'int8'",
        ),
    ],
)
def test_optimizers_that_policy_or_model_do_not_take_are_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(*settings)


@pytest.mark.parametrize("policy", ["fedlora", "legend", "hierfedlora", "fedgsp", "fedra"])
def test_policies_that_merge_by_a_mean_take_a_server_optimizer(policy: str) -> None:
    checked("server.optimizer=fedavgm", f"policy.path={policy}")
