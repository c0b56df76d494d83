"""What crosses a border between policy, time plane and numeric plane: frozen records, no behaviour beyond checks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from emulator.shapes.spec import ModelSpec

Arrays = Mapping[str, NDArray[np.float32]]
"""Adapter or head parameters by name, for example ``layers.3.query.lora_A`` of shape ``(rank, in_features)``."""


class Status(StrEnum):
    """What became of a device in a round."""

    OK = "ok"
    DROPPED = "dropped"
    OUT_OF_MEMORY = "out_of_memory"
    LATE = "late"
    UNAVAILABLE = "unavailable"
    IDLE = "idle"  # reachable, but not in this round's cohort

    @property
    def is_in_cohort(self) -> bool:
        """Whether the device was asked for something in the round."""
        return self not in (Status.UNAVAILABLE, Status.IDLE)

    @property
    def is_lost(self) -> bool:
        """Whether it ended the device's part in the round."""
        return self not in (Status.OK, Status.IDLE)


class ActivityKind(StrEnum):
    """What a device does over a span of emulated time."""

    DOWNLOAD = "download"
    COMPUTE = "compute"
    UPLOAD = "upload"
    WAIT = "wait"


ACTIVATION_BITS = (4, 8)
"""What a kept activation may be quantized to."""
QUANTIZATION_GROUP = 64
"""Neighbouring activations that share a minimum and a step, of 16 bits each, where they are kept quantized."""


class WorkKind(StrEnum):
    """What the steps of a piece of work train."""

    ADAPTERS = "adapters"
    WEIGHTS = "weights"  # full fine-tuning: the differentiated layers whole, the head; at full depth everything
    INFERENCE = "inference"  # a forward pass and nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """What a form adds at one place of a layer, in the terms that its price is made of, whatever the form is.

    ``place`` is what it changes: what a matrix of the layer gives, by the name of the matrix; ``mlp_product``, which
    the last matrix of the feed-forward part reads; or ``layer_input``. All amounts are those of one token, at the width
    that pruning left; a multiply-add counts as 2 FLOP. Whatever is found in a layer has its number, such as LoRA's rank
    (see :class:`Adapters`): ``n_parameters``, the FLOP and ``n_kept`` are for each of it, the rest is for all together.

    Attributes:
        n_parameters: trained parameters.
        forward_flop: of its matrix products.
        backward_flop: of the gradients of its parameters, and of what leads to them within it.
        input_backward_flop: of the gradient of its input, formed only where something in front of it is trained.
        n_kept: elements that it keeps for its backward pass, beside the input of the matrix.
        reads_input: whether it computes with the input of the matrix, which is then kept, once for all that read it.
        n_forward_elements: read and written by its element-wise operations.
        n_backward_elements: the same, of its backward pass.
        n_input_backward_elements: the same, of the gradient of its input, where that is formed.
        n_forward_operations: what is dispatched for it, one by one, views left out.
        n_backward_operations: the same, of its backward pass.
    """

    place: str
    n_parameters: float
    forward_flop: float = 0.0
    backward_flop: float = 0.0
    input_backward_flop: float = 0.0
    n_kept: float = 0.0
    reads_input: bool = False
    n_forward_elements: float = 0.0
    n_backward_elements: float = 0.0
    n_input_backward_elements: float = 0.0
    n_forward_operations: int = 0
    n_backward_operations: int = 0


LayerAdapters = tuple[tuple[Adapter, int], ...]
"""The adapters of one layer, each with its number: how many times it costs what its amounts say, at least 1."""


class Adapters:
    """What a form adds to a model, layer by layer from the input. It never changes, and is equal by what it holds.

    Attributes:
        layers: the adapters of each layer; empty where the form adds nothing to any.
        ranks: what the table ``devices`` says of each layer's ranks; empty for a form that has none.
    """

    __slots__ = ("_hash", "layers", "ranks")

    def __init__(self, layers: tuple[LayerAdapters, ...] = (), ranks: tuple[int, ...] = ()) -> None:
        self.layers, self.ranks = layers, ranks
        self._hash = hash((layers, ranks))  # work is looked up more often than it is made

    def at(self, layer: int) -> LayerAdapters:
        """The adapters of one layer, counted among those that the device has."""
        return self.layers[layer] if self.layers else ()

    @property
    def places(self) -> tuple[str, ...]:
        """What they change in some layer or other, in the order in which it is come by."""
        return tuple(dict.fromkeys(adapter.place for layer in self.layers for adapter, _ in layer))

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Adapters):
            return self is other
        return self._hash == other._hash and (self.layers, self.ranks) == (other.layers, other.ranks)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Adapters(layers={self.layers!r}, ranks={self.ranks!r})"

    def __reduce__(self) -> tuple[type["Adapters"], tuple[tuple[LayerAdapters, ...], tuple[int, ...]]]:
        return Adapters, (self.layers, self.ranks)  # hashes of text differ from process to process


NO_ADAPTERS = Adapters()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a device is asked to compute, in the shapes of the priced model: all that its cost depends on.

    What the frozen model does is counted here, and what a form adds to it in ``adapters``. The ``backward_layers``
    layers nearest to the output are differentiated; adapters below them take part in the forward pass only.
    ``quantized_layers`` of the differentiated layers, those furthest from the output, keep the model's activations
    quantized, at ``activation_bits`` each. ``width_fraction`` is the share of heads and feed-forward channels that
    pruning left. Below a cut, ``forward_layers`` is less than the model's and there is no head. Inference has no
    ``backward_layers``.

    A device whose model is the priced one without some of its layers says how many in ``skipped_layers``; layers then
    count among the ``forward_layers`` that it has.
    """

    n_steps: int
    batch_size: int
    seq_len: int
    forward_layers: int
    backward_layers: int
    adapters: Adapters = NO_ADAPTERS
    quantized_layers: int = 0
    activation_bits: int = 8
    width_fraction: float = 1.0
    kind: WorkKind = WorkKind.ADAPTERS
    skipped_layers: int = 0


ANY_DEVICE = -1
"""The ``device_id`` of an assignment that is priced, or copied for many devices; no plan may assign it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What a policy asks one device to do in one (inner) round. Adapter forms come with subclasses that add shapes."""

    device_id: int
    n_steps: int
    batch_size: int
    learning_rate: float

    @property
    def backward_layers(self) -> int:
        """How many layers the backward pass goes through; where a form does not say, all devices train alike deep."""
        return 0

    @property
    def stack_key(self) -> tuple[int, ...]:
        """Devices share a forward and backward pass only where this is equal."""
        return ()

    @property
    def is_coupled(self) -> bool:
        """Whether the device trains in step with others, through something that they share.

        The coupled jobs of a call are then one task on one host, however many they are.
        """
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Devices that aggregate among themselves ``inner_rounds`` times before the server aggregates the groups."""

    members: tuple[int, ...]
    inner_rounds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundPlan:
    """A policy's decision for one round. The keys of ``assignments`` are the cohort; no groups means one flat group.

    A round ends when all have delivered or are lost, or sooner: ``deadline_s`` after it began, or, if it is flat, with
    the ``n_wanted``-th delivery. Who has not delivered by then is late: it is not trained, and not waited for.
    """

    assignments: Mapping[int, Assignment]
    groups: tuple[Group, ...] = ()
    deadline_s: float | None = None
    n_wanted: int | None = None


JobKey = tuple[int, int, int]
"""What tells one job of a run from all others: device, round, and inner round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Training that one device owes. ``state`` is the server state it starts from; jobs of a call share the object.

    ``carried`` is what it has besides, of its own earlier rounds; see :meth:`~emulator.policy.base.Policy.carried_by`.
    """

    device_id: int
    round_index: int
    inner_round: int
    assignment: Assignment
    state: Arrays
    carried: Arrays = field(default_factory=dict)

    @property
    def key(self) -> JobKey:
        """A device may owe several jobs at a time, so that its id does not tell which."""
        return self.device_id, self.round_index, self.inner_round


class RemoteArrays(Mapping[str, NDArray[np.float32]], ABC):
    """Arrays that lie elsewhere, fetched when one of them is looked at; names and shapes are known here."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """By name, without fetching anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a device sends back: trained arrays in the device's own shapes.

    ``round_index`` and ``inner_round`` are those of the job that it answers, which has the same ``key``.
    ``reported`` holds what a task measured beside training, such as importance scores; it is not merged by itself.
    Where devices do not wait for one another, ``staleness`` counts the aggregations since the device downloaded the
    server state that it started from, and ``base`` is that state; ``base`` is None where it is the one merged into.
    """

    device_id: int
    assignment: Assignment
    payload: Arrays
    n_examples: int
    metrics: Mapping[str, float]
    round_index: int = 0
    inner_round: int = 0
    reported: Arrays = field(default_factory=dict)
    staleness: int = 0
    base: Arrays | None = None

    @property
    def key(self) -> JobKey:
        """That of the job that it answers."""
        return self.device_id, self.round_index, self.inner_round


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The server state's quality on held-out data. What an objective does not measure is None.

    Attributes:
        accuracy: share of examples classified right.
        loss: mean loss, of examples or, where it is about tokens, of these.
        n_examples: held-out examples.
        perplexity: the exponential of a mean loss of tokens.
        token_accuracy: share of tokens that are foretold as the likeliest.
        macro_f1: mean over labels of F1, the harmonic mean of precision and recall.
        micro_f1: F1 of all labels counted together.
        exact_match: share of examples of which all labels are right, or all tokens foretold as the likeliest.
        mcc: Matthews' correlation.
        calibration_error: how far confidence and accuracy are apart.
        class_f1: F1 of each label; None in it for one that does not occur.
        pearson, spearman: correlation of numbers, and of their ranks, with those that are so.
        mse: mean squared error of numbers.
        option_accuracy: share of choices whose answer is the likeliest option.
        option_accuracy_norm: the same, by the log-likelihood per character.
        own_scores, own_losses: by device, on the rows that it has held out of its own; empty without such rows.
        own_score_mean, own_loss_mean: means over these devices.
        own_score_worst_tenth, own_loss_worst_tenth: means over the worst tenth of them.
        own_score_spread, own_loss_spread: standard deviations over them.
    """

    accuracy: float | None
    loss: float
    n_examples: int
    perplexity: float | None = None
    token_accuracy: float | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    exact_match: float | None = None
    mcc: float | None = None
    calibration_error: float | None = None
    class_f1: tuple[float | None, ...] | None = None
    pearson: float | None = None
    spearman: float | None = None
    mse: float | None = None
    option_accuracy: float | None = None
    option_accuracy_norm: float | None = None
    own_scores: Mapping[int, float] = field(default_factory=dict)
    own_losses: Mapping[int, float] = field(default_factory=dict)
    own_score_mean: float | None = None
    own_score_worst_tenth: float | None = None
    own_score_spread: float | None = None
    own_loss_mean: float | None = None
    own_loss_worst_tenth: float | None = None
    own_loss_spread: float | None = None

    def of_server(self) -> "Evaluation":
        """What a server knows: nothing of rows that devices keep for themselves."""
        unknown: Any = {name: None for name in self.__slots__ if name.startswith("own_")}
        return replace(self, **{**unknown, "own_scores": {}, "own_losses": {}})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What a model says of held-out rows, row by row, in any order.

    Attributes:
        targets, predicted: what is so, and what the model says: ``(n,)`` labels or numbers, ``(n, n_labels)`` for sets
            of labels.
        n_labels: how many labels there are; 0 for numbers.
        confidence: ``(n,)``, the probability that the model gives to what it says; None where it gives none.
    """

    targets: NDArray[Any]
    predicted: NDArray[Any]
    n_labels: int = 0
    confidence: NDArray[np.float64] | None = None

    def __add__(self, other: "Predictions") -> "Predictions":
        sure = [each.confidence for each in (self, other) if each.confidence is not None]
        return Predictions(
            targets=np.concatenate([self.targets, other.targets]),
            predicted=np.concatenate([self.predicted, other.predicted]),
            n_labels=self.n_labels,
            confidence=np.concatenate(sure) if len(sure) == 2 else None,
        )


@dataclass(frozen=True, slots=True)
class OptionScore:
    """How likely an option of choice number ``choice`` is: the sum of its tokens' log-likelihoods, in nats."""

    choice: int
    is_answer: bool
    n_characters: int
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class EvaluationShard:
    """Sums over the ``n`` rows of one shard of held-out data; the caller adds them up in shard order.

    Where the loss is about tokens, the sums run over the ``n_tokens`` that it is about, and ``n_exact`` counts the rows
    of which all are foretold; otherwise ``predictions`` are those of the rows. Where rows are options of choices, the
    sums are about answers, and ``options`` has all of them, in any order.
    """

    loss_sum: float
    n_correct: int
    n: int
    n_tokens: int = 0
    predictions: Predictions | None = field(default=None, compare=False)
    n_exact: int = 0
    options: tuple[OptionScore, ...] = ()

    def __add__(self, other: "EvaluationShard") -> "EvaluationShard":
        both = [each.predictions for each in (self, other) if each.predictions is not None]
        return EvaluationShard(
            self.loss_sum + other.loss_sum,
            self.n_correct + other.n_correct,
            self.n + other.n,
            self.n_tokens + other.n_tokens,
            sum(both[1:], both[0]) if both else None,
            self.n_exact + other.n_exact,
            self.options + other.options,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReport:
    """What the server can observe of one device after a round: telemetry, never the profile or the true bandwidth.

    Times are emulated seconds. ``forward_s + backward_s`` is ``compute_s`` (per-step overhead counts as forward).
    """

    device_id: int
    status: Status
    n_steps: int = 0
    batch_size: int = 0
    download_s: float = 0.0
    forward_s: float = 0.0
    backward_s: float = 0.0
    upload_s: float = 0.0
    waiting_s: float = 0.0
    download_bytes: int = 0
    upload_bytes: int = 0
    n_examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def compute_s(self) -> float:
        """Seconds of computation: ``forward_s + backward_s``."""
        return self.forward_s + self.backward_s


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """A closed round: when it was, what every device did, and how good the server state is (where it was evaluated)."""

    round_index: int
    start_s: float
    end_s: float
    devices: Mapping[int, DeviceReport]
    evaluation: Evaluation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalOptimizer:
    """How a device changes what it trains by its gradients.

    Attributes:
        name: ``adamw``, or ``sgd``, whose ``momentum`` is 0 where it has none.
        max_gradient_norm: to which gradients are clipped; None where they are not.
        proximal_mu: of the term that holds a device to where it began; 0 for none.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.0
    max_gradient_norm: float | None = None
    proximal_mu: float = 0.0


ADAMW = LocalOptimizer()


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How the learning rate follows the rounds: it rises over ``warmup_rounds``, then falls over ``decay_rounds``."""

    warmup_rounds: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    decay_rounds: int = 1
    floor: float = 0.0

    def factor(self, round_index: int) -> float:
        """What a learning rate is multiplied by in a round; above 0, and 1 at its highest.

        Warm-up ends at 1 in its last round. Behind it, in round t of T, ``linear`` is ``1 - (1 - floor) t / T`` and
        ``cosine`` is ``floor + (1 - floor) (1 + cos(pi t / T)) / 2`` (Loshchilov and Hutter 2017, arXiv 1608.03983,
        equation 5); from round ``T - 1`` on it stays.
        """
        if round_index < self.warmup_rounds:
            return (round_index + 1) / self.warmup_rounds
        done = min(round_index - self.warmup_rounds, self.decay_rounds - 1) / self.decay_rounds
        if self.decay == "linear":
            return 1 - (1 - self.floor) * done
        if self.decay == "cosine":
            return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2
        return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingDefaults:
    """The run's settings for local training; policies take them over or deviate on purpose.

    ``precision`` is the arithmetic on all devices, ``fp32`` or ``amp``, and ``dropout`` whether they train with the
    model's own dropout, whose masks take memory, and ``optimizer`` how they change what they train; the server knows
    all of it as it sends the program.
    """

    n_steps: int
    batch_size: int
    learning_rate: float
    precision: str = "fp32"
    dropout: bool = False
    optimizer: LocalOptimizer = ADAMW
    schedule: Schedule = Schedule()

    def in_round(self, round_index: int) -> "TrainingDefaults":
        """These settings with the learning rate of a round."""
        factor = self.schedule.factor(round_index)
        return self if factor == 1 else replace(self, learning_rate=self.learning_rate * factor)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterView:
    """All that a policy may look at when it plans a round.

    ``model`` has the priced shapes. ``available`` lists the reachable devices in ascending order. ``declared`` holds,
    for each device, the facts that the policy declares it needs, and nothing else. ``rng`` is this round's own stream.
    """

    round_index: int
    now_s: float
    model: ModelSpec
    state: Arrays
    training: TrainingDefaults
    n_devices: int
    available: tuple[int, ...]
    declared: Mapping[int, Mapping[str, Any]]
    rng: np.random.Generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Model and data as the server of the emulated federation knows them.

    Attributes:
        model: the trained model's shapes.
        head: initial values of the part of the head that is trained, by name.
        label_names: the classes; empty without labels.
        label_histograms: ``(n_devices, n_labels)``, each device's training examples by label, or by what stands for one
            where they are spread over devices; without labels all count as one.
        strata: the names of the columns of ``label_histograms``; empty without labels.
        n_examples: ``(n_devices,)``, each device's training examples.
        n_test_examples: held-out examples of the server.
        n_test_rows: what of them passes through the model: a row for each, or for each of its options.
        majority_accuracy: share of the most frequent label among them; None without labels.
        understood: what was read, and as what, as plain data for ``run.json``.
        remarks: what somebody who reads the results should know of data and model, a sentence each.
        own_test_offsets: ``(n_devices + 1,)``; device ``d`` has held out the rows from ``[d]`` up to ``[d + 1]``, which
            follow those of the server. All the same where no device has.
    """

    model: ModelSpec
    head: Arrays
    label_names: tuple[str, ...]
    label_histograms: NDArray[np.int64]
    n_examples: NDArray[np.int64]
    n_test_examples: int
    n_test_rows: int
    majority_accuracy: float | None
    understood: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    own_test_offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
