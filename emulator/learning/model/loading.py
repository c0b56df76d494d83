"""Loads the model that is trained, and describes it so that every host rebuilds it without copying its weights."""

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from emulator.errors import DataError
from emulator.forms.base import FrozenWeights, Site
from emulator.learning.model.places import Place, locate
from emulator.learning.model.role import CLASSIFIER, Role
from emulator.learning.model.sites import TRANSPOSED, Sites, find_head, find_sites
from emulator.records import Arrays
from emulator.shapes.catalog import Head

_logging: Any = transformers_logging


@dataclass(frozen=True, kw_only=True)
class FrozenModel:
    """A pre-trained model as plain data: what goes once into the object store.

    Attributes:
        name: what the user gave.
        path: what others load the base model by: a hub id, or an absolute path.
        config: the transformers configuration as a dict.
        arrays: all parameters and persistent buffers by name; floating-point ones in float32. May be read-only. What
            shares its memory with another is there once.
        sites: (layer, canonical matrix name) -> module path of every linear map that an adapter can be attached to.
        head: name -> module path of the linear maps of the head that are trained.
        initialised: names of the parameters that the checkpoint lacks and that were drawn from the seed.
        n_labels: number of classes; 0 without.
        role: what it is loaded as.
        revision: the hub's commit that it was loaded from; None for a directory.
        stated_padding: the id of padding that its config.json states, which may differ from the one that is used.
    """

    name: str
    path: str
    config: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    sites: Sites
    head: Mapping[str, str]
    initialised: tuple[str, ...]
    n_labels: int
    role: Role = CLASSIFIER
    revision: str | None = None
    stated_padding: int | None = None

    @property
    def n_layers(self) -> int:
        return 1 + max(layer for layer, _ in self.sites)

    @property
    def class_name(self) -> str:
        """That of its class in transformers."""
        mapping = _auto_class(self.role)._model_mapping
        return str(mapping[CONFIG_MAPPING[self.config["model_type"]]].__name__)

    def layer_paths(self) -> list[str]:
        """The module paths of the layers, from the input to the output."""
        first = {layer: path for (layer, _), path in self.sites.items()}
        # In either stack of an encoder-decoder modules are numbered from 0.
        return [re.sub(r"(\.\d+)\..*", r"\1", path) for _, path in sorted(first.items())]

    def head_arrays(self) -> Arrays:
        """The trained head's initial values, named ``head.<module>.weight`` (out, in) and ``head.<module>.bias``."""
        return {
            f"head.{name}.{kind}": self.arrays[f"{path}.{kind}"]
            for name, path in self.head.items()
            for kind in ("weight", "bias")
            if f"{path}.{kind}" in self.arrays
        }

    @property
    def is_transposed(self) -> bool:
        """Whether ``arrays`` has the matrices of the layers as ``(in, out)``."""
        return self.config["model_type"] in TRANSPOSED

    def weights(self, sites: Sequence[Site]) -> FrozenWeights:
        """The weights of these matrices, ``(out, in)``; they share the memory of ``arrays``."""
        weights = {site: self.arrays[f"{self.sites[site]}.weight"] for site in sites}
        return {site: weight.T for site, weight in weights.items()} if self.is_transposed else weights

    def build(self) -> PreTrainedModel:
        """The model with these arrays as its weights, shared rather than copied; frozen, in evaluation mode."""
        settings = {key: value for key, value in self.config.items() if key != "model_type"}
        config = AutoConfig.for_model(self.config["model_type"], **settings)
        with no_init_weights(), silenced_libraries():
            model = _auto_class(self.role).from_config(config, dtype=torch.float32)
        for part in model.modules():  # the stacks of an encoder-decoder have configurations of their own
            if isinstance(part, PreTrainedModel):
                part.config.use_cache = False  # decoders would keep keys and values for a next token
        tensors = _as_tensors(self.arrays)
        missing = model.load_state_dict(tensors, strict=False, assign=True).missing_keys
        if missing:
            model.tie_weights()  # those that are the same as others
            _untie(model, tensors)
        _let_masks_be_bool(model)
        model.requires_grad_(False)
        frozen: PreTrainedModel = model.eval()
        return frozen


def _untie(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives the parameters that a checkpoint has apart their own weights back.

    Some families tie a head to the embeddings whatever their configuration says, where a checkpoint may have both.
    """
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if name in tensors and parameter.data_ptr() != tensors[name].data_ptr():
            path, _, own = name.rpartition(".")
            setattr(model.get_submodule(path), own, nn.Parameter(tensors[name], requires_grad=False))


def load_model(
    train: str | Place,
    n_labels: int,
    seed: int,
    head: Head = "output",
    pad_token_id: int | None = None,
    role: Role = CLASSIFIER,
) -> FrozenModel:
    """Loads a model; parts that its checkpoint may lack, such as a new head, are drawn from ``seed``.

    Args:
        train: ``builtin:tiny-12``, a local directory, or a hub id; or where one lies.
        n_labels: number of classes; 0 where there are none.
        seed: for the parts drawn at random.
        head: which linear maps of the head are trained: only the output map, or all of them.
        pad_token_id: what rows are padded with; the tokenizer says it, and what the configuration says does not count.
        role: what the model is loaded as.

    Raises:
        DataError: there is no such model, it has no config or no safetensors weights of its own, its weights are
            incomplete or not finite, its family is not known, or its layers cannot be mapped.
    """
    place = locate(train) if isinstance(train, str) else train
    train = place.name
    config, auto_class = _load_config(place, n_labels, role), _auto_class(role)
    stated_padding = getattr(config, "pad_token_id", None)
    if pad_token_id is not None:
        # Decoders find the last token of a sequence by it, and some encoders count positions from it.
        config.pad_token_id = pad_token_id
    if type(config) not in auto_class._model_mapping:
        raise DataError(
            f"model.train: {train!r} is a {config.model_type} model, which transformers cannot use for {role.purpose}; "
            f"give a model that {role.auto_class} supports"
        )
    # fork_rng: transformers draws what a checkpoint lacks from torch's global generator.
    # Of a GGUF file transformers draws a progress bar that no setting turns off.
    bar = redirect_stderr(StringIO()) if place.gguf else nullcontext()
    with torch.random.fork_rng(devices=[]), silenced_libraries(), bar:
        torch.manual_seed(seed)
        try:
            model, info = auto_class.from_pretrained(
                str(place.folder),
                **place.source,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except Exception as error:  # transformers has no common base class for what a bad config or file leads to
            raise DataError(
                f"model.train: cannot load the weights of {train!r}: {reason(error)}; {_remedy(error)}"
            ) from error
    trained = find_head(model, model.base_model_prefix, only_output=head == "output") if role.has_new_head else {}
    mismatched = [entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]]
    base = f"{model.base_model_prefix}." if role.has_new_head else ""
    arrays = {name: tensor.numpy() for name, tensor in _once(model.state_dict()).items()}
    _check_mismatches(train, mismatched, base)
    _check_complete(train, info["missing_keys"], model, base)
    _check_finite(train, model)
    return FrozenModel(
        name=train,
        path=place.base,
        config=_as_loaded(model, arrays),
        arrays=arrays,
        sites=find_sites(model, train),
        head=trained,
        initialised=tuple(sorted({*info["missing_keys"], *mismatched})),
        n_labels=n_labels,
        role=role,
        revision=place.revision,
        stated_padding=stated_padding,
    )


def _as_loaded(model: Any, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The configuration; of an encoder-decoder with what its checkpoint tells of the head, which may be its own."""
    config = {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    if config.get("is_encoder_decoder"):
        config["tie_word_embeddings"] = "lm_head.weight" not in arrays
    return config


def _let_masks_be_bool(model: Any) -> None:
    """The convolution of some DeBERTas subtracts the mask from 1, which torch refuses of one of truth values."""
    convolution = getattr(getattr(model.base_model, "encoder", None), "conv", None)
    if convolution is not None:
        convolution.register_forward_pre_hook(lambda module, inputs: (*inputs[:2], inputs[2].long()))


def _auto_class(role: Role) -> Any:
    """Transformers ships types, but not for its auto classes."""
    return getattr(transformers, role.auto_class)


def _once(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without those that are another one under a second name, such as a head that is the table of embeddings."""
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(tensor.data_ptr(), name)
    return {name: tensor for name, tensor in tensors.items() if first[tensor.data_ptr()] == name or not tensor.numel()}


def _load_config(place: Place, n_labels: int, role: Role) -> Any:
    classes = {"num_labels": n_labels} if n_labels else {}
    try:
        with silenced_libraries():
            config = AutoConfig.from_pretrained(str(place.folder), **place.source, **classes, trust_remote_code=False)
    except Exception as error:  # each transformers configuration checks its values in a way of its own
        raise DataError(
            f"model.train: cannot read the configuration of {place.name!r}: {reason(error)}; correct its config.json"
        ) from error
    for key, value in role.settings.items():
        setattr(config, key, value)
    return config


def _check_mismatches(train: str, mismatched: list[str], base: str) -> None:
    """A head for other classes is replaced; of what begins with ``base``, another shape means a broken checkpoint."""
    broken = [name for name in mismatched if name.startswith(base)]
    if broken:
        raise DataError(
            f"model.train: weights of {train!r} do not have the shapes that its config.json states: "
            f"{_up_to_three(broken)}; correct its config.json, or save the model again with save_pretrained"
        )


def _check_complete(train: str, missing: Iterable[str], model: nn.Module, base: str) -> None:
    """A new head and a pooler may be missing; with layers, embeddings or norms drawn at random it would be another
    model. Names of what may not be missing begin with ``base``."""
    parameters = {name for name, _ in model.named_parameters()}
    lacking = sorted(
        name for name in parameters & set(missing) if name.startswith(base) and "pooler" not in name.split(".")
    )
    if lacking:
        raise DataError(
            f"model.train: the weights of {train!r} lack {_up_to_three(lacking)}, which its config.json asks for; give "
            "the weights that belong to this config.json, saved together with save_pretrained"
        )


def _check_finite(train: str, model: nn.Module) -> None:
    broken = [name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()]
    if broken:
        raise DataError(
            f"model.train: weights of {train!r} hold numbers that are not finite: {_up_to_three(broken)}; give a "
            "checkpoint from before its training diverged"
        )


def _up_to_three(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _as_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Tensors over the memory of ``arrays``. Nothing writes to frozen weights, so read-only memory is fine."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}


def reason(error: BaseException) -> str:
    """The first line of what ``error`` says; with the second where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    is_bare = isinstance(error, KeyError | ArithmeticError | AttributeError | TypeError)
    return f"{type(error).__name__}: {first}".rstrip(".") if is_bare else first.rstrip(".")


def _remedy(error: BaseException) -> str:
    """What to do about weights that could not be loaded."""
    match error:
        case ImportError():
            return "quantized weights need libraries that jetbed does not use: give the model in floating point"
        case OSError():  # there is no file, or not this one
            return "it needs a model.safetensors (pickled weights such as pytorch_model.bin are never opened)"
        case _:
            return "correct its config.json, or save the model again with save_pretrained"


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Silences transformers' progress bars, its report of missing weights (a new head is what was asked for), and
    warnings of one library to another."""
    verbosity, has_bar = _logging.get_verbosity(), _logging.is_progress_bar_enabled()
    _logging.set_verbosity(_logging.CRITICAL)
    _logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        _logging.set_verbosity(verbosity)
        if has_bar:
            _logging.enable_progress_bar()
