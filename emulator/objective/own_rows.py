"""How well devices are served one by one: the server's model on rows that each of them has held out of its own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from emulator.objective.base import Objective
from emulator.records import Evaluation, EvaluationShard

WORST_SHARE = 0.1
"""Of devices whose mean tells how the worst off fare, as in Li et al. 2020 (arXiv 1905.10497), table 1."""


def with_own_rows(objective: Objective, whole: Evaluation, own: Mapping[int, EvaluationShard]) -> Evaluation:
    """``whole``, the evaluation on the rows of the server, with those of the devices on rows of their own, by id."""
    if not own:
        return whole
    devices = {device: objective.evaluation([shard]) for device, shard in own.items()}
    losses = [each.loss for each in devices.values()]
    name = objective.own_score
    scores = [getattr(each, name) for each in devices.values()] if name else []
    return replace(
        whole,
        own_scores={device: getattr(each, name) for device, each in devices.items()} if name else {},
        own_losses={device: each.loss for device, each in devices.items()},
        own_score_mean=mean(scores) if scores else None,
        own_score_worst_tenth=worst_tenth(scores, is_higher_better=True) if scores else None,
        own_score_spread=spread(scores) if scores else None,
        own_loss_mean=mean(losses),
        own_loss_worst_tenth=worst_tenth(losses, is_higher_better=False),
        own_loss_spread=spread(losses),
    )


def mean(values: Sequence[float]) -> float:
    """The plain mean: every device counts the same, whatever it holds."""
    return sum(values) / len(values)


def worst_tenth(values: Sequence[float], *, is_higher_better: bool) -> float:
    """The mean over the tenth of devices, rounded up, with the worst values."""
    n_worst = math.ceil(WORST_SHARE * len(values))
    return mean(sorted(values, reverse=not is_higher_better)[:n_worst])


def spread(values: Sequence[float]) -> float:
    """The standard deviation over the devices, which are all that there are."""
    middle = mean(values)
    return math.sqrt(mean([(value - middle) ** 2 for value in values]))
