"""How long a local step takes on a device: the price of the operations and bytes of the declared work, in seconds.

One multiply-add counts as 2 FLOP. Only matrix products are counted: element-wise operations, norms and softmax are part
of the rate that a device's profile gives for whole training steps, unless its law says otherwise (below).

A pass takes as long as the slowest of three things that run side by side: the arithmetic, at the profile's rate;
reading each weight once, at the memory's bandwidth; and dispatching the operations one by one, at the profile's time
for each. The last two matter for steps of few tokens, where time stops shrinking with the batch (a roofline with a
floor). To this come, one after another, what quantization, the conversion of weights and the optimizer move through
memory, and the overhead, once a step in however many passes its batch is computed.

That is the law ``roofline``, of profiles whose rates are known for whole steps. Where steps of many shapes were timed,
two others tell more. Both take the rate for that of matrix products alone, and let what element-wise operations touch
pass through the memory beside the weights. With ``in_turn``, of a CPU, all three come one after another; with
``queued``, of a GPU that is fed ahead of time, dispatch runs beside the sum of the other two.
"""

from dataclasses import dataclass

from device_profiles.records import PowerMode, StepLaw
from emulator.records import ADAMW, NO_EXTRA, NO_SAVERS, Extra, LocalOptimizer, MemorySavers, Work
from emulator.shapes.spec import ModelSpec
from emulator.world.price.step import PassDemand, StepDemand
from emulator.world.price.step_kinds import step_of

_MAX_CACHED = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeCost:
    """Time and operations of all local steps of a piece of work, before any jitter, and how busy they keep a board."""

    forward_s: float
    backward_s: float
    forward_flop: float
    backward_flop: float
    busy: "BusyShares"


@dataclass(frozen=True, slots=True)
class BusyShares:
    """For which share of a step's time a board is busy with arithmetic and with its memory; both may be at once."""

    precision: str
    arithmetic: float
    memory: float

    def drawn_w(self, mode: PowerMode) -> float:
        """What a board draws in ``mode`` while it is so busy."""
        return mode.computing_w(self.precision, self.arithmetic, self.memory)


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds that the three parts of a pass take, each by itself."""

    arithmetic_s: float
    memory_s: float
    dispatch_s: float

    def together_s(self, law: StepLaw) -> float:
        """Seconds of the pass."""
        if law == "in_turn":
            return self.arithmetic_s + self.memory_s + self.dispatch_s
        if law == "queued":
            return max(self.arithmetic_s + self.memory_s, self.dispatch_s)
        return max(self.arithmetic_s, self.memory_s, self.dispatch_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """Seconds of one local step, before any jitter. ``overhead_s`` has the optimizer's passes over its parameters.

    ``arithmetic_s`` and ``memory_s`` are what arithmetic and memory of the whole step would take by themselves.
    """

    forward_s: float
    backward_s: float
    overhead_s: float
    arithmetic_s: float
    memory_s: float

    @property
    def step_s(self) -> float:
        return self.forward_s + self.backward_s + self.overhead_s

    def busy(self, precision: str) -> BusyShares:
        """How busy a board is in the step."""
        step_s = self.step_s or 1.0  # a step of no length keeps nothing busy
        return BusyShares(precision, min(1.0, self.arithmetic_s / step_s), min(1.0, self.memory_s / step_s))


class CostModel:
    """Prices work on one model in one precision (``fp32`` or ``amp``); remembers what it has counted and priced."""

    def __init__(
        self,
        model: ModelSpec,
        precision: str,
        optimizer: LocalOptimizer = ADAMW,
        savers: MemorySavers = NO_SAVERS,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._savers = savers
        self._precision = precision
        self._counted: dict[Work, StepDemand] = {}
        self._costs: dict[Work, dict[int, tuple[PowerMode, ComputeCost]]] = {}
        """By the identity of the mode, which is kept beside it so that no other object is given its identity."""
        self._n_costs = 0

    def price(self, work: Work, mode: PowerMode) -> ComputeCost:
        """The cost of all of ``work.n_steps`` on a device in ``mode``.

        The step overhead counts as forward, and so does what is computed once; what is beside each step, as backward.
        """
        costs = self._costs.setdefault(work, {})
        if (known := costs.get(id(mode))) is not None:
            return known[1]
        if self._n_costs >= _MAX_CACHED:
            self._costs, self._n_costs = {}, 0
            costs = self._costs[work] = {}
        costs[id(mode)] = mode, self._cost(self._demand(work), work, mode)
        self._n_costs += 1
        return costs[id(mode)][1]

    def _demand(self, work: Work) -> StepDemand:
        if (known := self._counted.get(work)) is not None:
            return known
        if len(self._counted) >= _MAX_CACHED:
            self._counted.clear()
        step = step_of(self._model, work, self._precision, self._optimizer, self._savers)
        self._counted[work] = step.demand()
        return self._counted[work]

    def _cost(self, demand: StepDemand, work: Work, mode: PowerMode) -> ComputeCost:
        time = step_time(demand, mode, self._precision)
        n_steps = work.n_steps
        cost = ComputeCost(
            forward_s=n_steps * (time.forward_s + time.overhead_s),
            backward_s=n_steps * time.backward_s,
            forward_flop=n_steps * demand.forward_flop,
            backward_flop=n_steps * demand.backward_flop,
            busy=time.busy(self._precision),
        )
        return cost if work.once == work.per_step == NO_EXTRA else self._with_extras(cost, time, work, mode)

    def _with_extras(self, steps: ComputeCost, time: StepTime, work: Work, mode: PowerMode) -> ComputeCost:
        """``steps``, and what is computed beside them, one after another."""
        n_steps, once, each = work.n_steps, work.once, work.per_step
        of_once, of_each = (extra_time(extra, mode, self._precision) for extra in (once, each))
        once_s, each_s = (part.together_s(mode.step_law) for part in (of_once, of_each))
        whole = StepTime(
            forward_s=steps.forward_s + once_s,
            backward_s=steps.backward_s + n_steps * each_s,
            overhead_s=0.0,
            arithmetic_s=of_once.arithmetic_s + n_steps * (time.arithmetic_s + of_each.arithmetic_s),
            memory_s=of_once.memory_s + n_steps * (time.memory_s + of_each.memory_s),
        )
        return ComputeCost(
            forward_s=whole.forward_s,
            backward_s=whole.backward_s,
            forward_flop=steps.forward_flop + once.flop,
            backward_flop=steps.backward_flop + n_steps * each.flop,
            busy=whole.busy(self._precision),
        )


def extra_time(extra: Extra, mode: PowerMode, precision: str) -> PassTime:
    """The seconds of each part of what is computed beside the steps, by the law of a pass."""
    return pass_time(PassDemand(extra.flop, extra.n_bytes, 0.0, extra.n_operations), mode, precision)


def price(model: ModelSpec, work: Work, mode: PowerMode, precision: str) -> ComputeCost:
    """The cost of all of ``work.n_steps``; :class:`CostModel` is faster where much work is priced."""
    return CostModel(model, precision).price(work, mode)


def step_time(demand: StepDemand, mode: PowerMode, precision: str) -> StepTime:
    """The seconds that ``demand`` takes in ``mode``."""
    bandwidth = mode.memory_bytes_per_s
    forward_moved_s = (demand.quantization_bytes + demand.forward_conversion_bytes) / bandwidth
    backward_moved_s = (demand.quantization_bytes + demand.backward_conversion_bytes) / bandwidth
    optimizer_s = demand.optimizer_bytes / bandwidth
    forward, backward = (pass_time(each, mode, precision) for each in (demand.forward, demand.backward))
    return StepTime(
        forward_s=forward.together_s(mode.step_law) + forward_moved_s,
        backward_s=backward.together_s(mode.step_law) + backward_moved_s,
        overhead_s=mode.step_overhead_s + optimizer_s,
        arithmetic_s=forward.arithmetic_s + backward.arithmetic_s,
        memory_s=forward.memory_s + backward.memory_s + forward_moved_s + backward_moved_s + optimizer_s,
    )


def pass_time(demand: PassDemand, mode: PowerMode, precision: str) -> PassTime:
    """The seconds of each part of a pass in ``mode``; its law says how they add up."""
    n_bytes = demand.weight_bytes + (demand.element_bytes if mode.step_law != "roofline" else 0.0)
    return PassTime(
        arithmetic_s=demand.flop / mode.effective_flop_per_s[precision],
        memory_s=n_bytes / mode.memory_bytes_per_s,
        dispatch_s=demand.n_operations * mode.dispatch_s,
    )
