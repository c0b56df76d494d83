"""Who takes part: guided selection of devices by what they are worth to the model and how fast they are.

Oort (Lai et al. 2021, "Oort: Efficient Federated Learning via Guided Participant Selection", OSDI, arXiv 2010.06081,
section 4 and algorithm 1; formulas, and constants that are the authors' code's, from memory).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulator.records import RoundReport, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenDevice:
    """What is known of a device that has delivered.

    Attributes:
        utility: ``|B_i| sqrt(mean of loss²)``, by what was last seen.
        duration_s: seconds from its download to its delivery.
        round_index: of its last delivery.
    """

    utility: float
    duration_s: float
    round_index: int


@dataclass(kw_only=True)
class OortSelection:
    """Exploits devices of high utility and explores new ones; in how much of a hurry, a pacer decides.

    Args:
        exploration: share of a cohort that is new at first, epsilon.
        exploration_decay: what that share is multiplied by from round to round.
        least_exploration: it never falls below this.
        slowness_penalty: alpha, the exponent of ``T / t_i`` for devices slower than ``T``.
        preferred_percentile: ``T`` is this percentile of the durations known.
        pacer_rounds: rounds of a window, W.
        pacer_step: percentiles by which ``T`` is relaxed where a window was worth less than the one before.
        clip_percentile: utilities above this percentile count as that.
        cutoff: share of the utility at the border of the cohort down to which devices may be drawn, c.
    """

    exploration: float = 0.9
    exploration_decay: float = 0.98
    least_exploration: float = 0.2
    slowness_penalty: float = 2.0
    preferred_percentile: float = 30.0
    pacer_rounds: int = 20
    pacer_step: float = 5.0
    clip_percentile: float = 95.0
    cutoff: float = 0.95
    known: dict[int, SeenDevice] = field(default_factory=dict)
    worth: list[float] = field(default_factory=list)

    def choose(self, available: Sequence[int], n: int, round_index: int, rng: np.random.Generator) -> list[int]:
        """``n`` of the devices ``available``, all of them if there are no more, in ascending order."""
        explored = [device for device in available if device in self.known]
        new = [device for device in available if device not in self.known]
        n = min(n, len(available))
        share = max(self.least_exploration, self.exploration * self.exploration_decay**round_index)
        n_new = min(len(new), max(round(share * n), n - len(explored)))
        n_old = n - n_new
        chosen = rng.choice(new, n_new, replace=False).tolist() if n_new else []
        if n_old:
            scores = self.scores({device: self.known[device] for device in explored}, round_index)
            pool, weights = admitted(scores, n_old, self.cutoff)
            chosen += rng.choice(pool, n_old, replace=False, p=weights / weights.sum()).tolist()
        return sorted(int(device) for device in chosen)

    def scores(self, known: Mapping[int, SeenDevice], round_index: int) -> dict[int, float]:
        """Utility, clipped and scaled to 0 … 1, plus ``sqrt(0.1 ln R / L_i)``, times ``(T / t_i)^alpha`` if slow.

        ``R`` is the number of the round from 1, and ``L_i`` that of the device's last delivery.
        """
        utilities = np.array([one.utility for one in known.values()])
        clipped = np.minimum(utilities, np.percentile(utilities, self.clip_percentile))
        spread = float(np.ptp(clipped))
        preferred_s = float(np.percentile([one.duration_s for one in self.known.values()], self.preferred_percentile))
        found = {}
        for (device, one), utility in zip(known.items(), clipped, strict=True):
            scaled = float(utility - clipped.min()) / spread if spread else 1.0
            score = scaled + math.sqrt(0.1 * math.log(round_index + 1) / (one.round_index + 1))
            if one.duration_s > preferred_s:
                score *= (preferred_s / one.duration_s) ** self.slowness_penalty
            found[device] = score
        return found

    def observe(self, report: RoundReport) -> None:
        """Take in a round: utilities and durations of those who delivered, and the pacer's step.

        The mean training loss stands for the root of the mean of its squares, since devices do not report each sample's
        loss; where nothing is trained, all losses are alike.
        """
        worth = 0.0
        for device, seen in report.devices.items():
            if seen.status is not Status.OK:
                continue
            utility = max(1, seen.n_examples) * seen.metrics.get("train_loss", 1.0)
            duration_s = seen.download_s + seen.compute_s + seen.upload_s
            self.known[device] = SeenDevice(utility=utility, duration_s=duration_s, round_index=report.round_index)
            worth += utility
        self.worth.append(worth)
        n_rounds, window = len(self.worth), self.pacer_rounds
        if n_rounds >= 2 * window and n_rounds % window == 0:
            before, latest = sum(self.worth[-2 * window : -window]), sum(self.worth[-window:])
            if before > latest:
                self.preferred_percentile = min(100.0, self.preferred_percentile + self.pacer_step)


def admitted(scores: Mapping[int, float], n: int, cutoff: float) -> tuple[list[int], NDArray[np.float64]]:
    """The devices whose score is at least ``cutoff`` of the ``n``-th highest, and their weights in the draw."""
    border = cutoff * sorted(scores.values(), reverse=True)[n - 1]
    pool = [device for device, score in scores.items() if score >= border]
    # A score of 0 can still be drawn, lest there be fewer devices than are wanted.
    return pool, np.array([max(scores[device], 1e-9) for device in pool])
