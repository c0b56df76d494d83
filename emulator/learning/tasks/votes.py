"""Training that scores the ranks of adapters ``B diag(E) A``, and votes for those that matter."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.algorithms.ranks import highest
from emulator.forms.base import AdapterForm
from emulator.forms.diagonal import DiagonalAssignment, DiagonalLoraForm
from emulator.forms.lora import adapter_name
from emulator.learning.attach.diagonal import StackedDiagonalLora
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.learning.upload import uploaded
from emulator.records import Arrays, Job, Update


def train_and_vote(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Local training after which each device votes for the ranks that matter most to it, where it is asked to.

    The votes are the reported array ``votes``: a 1 or 0 for each rank held, by layer, target and rank. Of a device
    that is to report its scores they are in ``scores`` instead, in the same order.
    """
    return VotingTraining(host, form, jobs).run()


def train_and_mask(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """As :func:`train_and_vote`, but a device that is to mask switches off what it did not vote for, and says no more.

    ``lora_E`` comes back 0 at the ranks without its vote.
    """
    assert isinstance(form, DiagonalLoraForm)
    updates = train_and_vote(host, form, jobs)
    return [_masked(update, form.targets) if _diagonal(update).masks else update for update in updates]


class VotingTraining(LocalTraining):
    """Keeps AdaLoRA's running scores of all parameters beside the training (arXiv 2303.10512, equations 8 to 11).

    ``I = |w g|``; sensitivity ``S <- beta S + (1 - beta) I``; uncertainty ``U <- beta U + (1 - beta) |I - S|``, of the
    weights after a step and the gradients of that step, as PEFT has it. They begin at 0 with each job.
    """

    adapters: StackedDiagonalLora

    def __init__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        super().__init__(host, form, jobs)
        self._assignments = [_diagonal(job) for job in self.jobs]
        self._is_scoring = any(one.n_votes or one.reports_scores for one in self._assignments)
        self._smoothing = torch.tensor([[one.smoothing] for one in self._assignments], device=host.settings.device)
        self._sensitivity: Tensor | None = None
        self._uncertainty: Tensor | None = None
        self._scores: NDArray[np.float32] | None = None

    def after_step(self, step: int, n_active: int) -> None:
        if not self._is_scoring:
            return
        stack = self.adapters.stack
        if self._sensitivity is None or self._uncertainty is None:
            self._sensitivity, self._uncertainty = torch.zeros_like(stack.values), torch.zeros_like(stack.values)
        importance = (stack.values[:n_active] * stack.gradients[:n_active]).abs()
        sensitivity, uncertainty = self._sensitivity[:n_active], self._uncertainty[:n_active]
        new = 1 - self._smoothing[:n_active]
        sensitivity.lerp_(importance, new)
        uncertainty.lerp_((importance - sensitivity).abs(), new)

    def reported(self, row: int) -> Arrays:
        if self._assignments[row].reports_scores:
            return {"scores": self.rank_scores(row).astype(np.float32)}
        n_votes = self._assignments[row].n_votes
        return {"votes": highest(self.rank_scores(row), n_votes).astype(np.float32)} if n_votes else {}

    def rank_scores(self, row: int) -> NDArray[np.float64]:
        """``s(E_j) + mean_k s(A_jk) + mean_k s(B_kj)``, where ``s = S U``, of each rank that device ``row`` holds."""
        if self._scores is None:
            assert self._sensitivity is not None  # there is at least one step
            assert self._uncertainty is not None
            self._scores = (self._sensitivity * self._uncertainty).numpy(force=True)
        stack, scores = self.adapters.stack, []
        n_ranks = [len(ranks) for targets in self._assignments[row].kept for ranks in targets]
        for place, n in zip(self.adapters.places, n_ranks, strict=True):
            if not n:
                continue
            n_in, n_out = stack.shapes[f"{place}lora_A"][1], stack.shapes[f"{place}lora_B"][0]
            of_a, of_b, of_e = (
                stack.read(self._scores, row, f"{place}{matrix}", shape).astype(np.float64)
                for matrix, shape in (("lora_A", (n, n_in)), ("lora_B", (n_out, n)), ("lora_E", (n, 1)))
            )
            scores.append(of_e[:, 0] + of_a.mean(axis=1) + of_b.mean(axis=0))
        return np.concatenate(scores)

    def penalty(self, n_active: int) -> Tensor | None:
        """AdaLoRA's regulariser: the mean over all A and B of ``||A A' - 1||_F`` and ``||B' B - 1||_F``."""
        stack = self.adapters.stack
        assignments, device = self._assignments[:n_active], str(stack.values.device)
        if not any(one.orthogonality for one in assignments):
            return None
        weights = uploaded(np.array([one.orthogonality for one in assignments], dtype=np.float32), device)
        n_ranks = [[len(ranks) for targets in one.kept for ranks in targets] for one in assignments]
        n_matrices = uploaded(np.array([max(1, 2 * sum(n > 0 for n in own)) for own in n_ranks], np.float32), device)
        total = weights.new_zeros(())
        for number, place in enumerate(self.adapters.places):
            if f"{place}lora_A" not in stack.shapes:
                continue
            own = np.array([ranks[number] for ranks in n_ranks])[:, None]
            is_held = np.arange(stack.shapes[f"{place}lora_E"][0]) < own
            identity = torch.diag_embed(uploaded(is_held.astype(np.float32), device))
            lora_a, lora_b = stack.leaf(f"{place}lora_A"), stack.leaf(f"{place}lora_B")
            for product in (torch.bmm(lora_a, lora_a.transpose(1, 2)), torch.bmm(lora_b.transpose(1, 2), lora_b)):
                distance = torch.linalg.vector_norm(product - identity, dim=(1, 2))
                total = total + (weights / n_matrices * distance).sum()
        return total


def _masked(update: Update, targets: Sequence[str]) -> Update:
    if "votes" not in update.reported:
        return update
    payload, start = dict(update.payload), 0
    for layer, of_layer in enumerate(_diagonal(update).kept):
        for target, ranks in zip(targets, of_layer, strict=True):
            own = update.reported["votes"][start : start + len(ranks), None]
            start += len(ranks)
            if ranks:
                name = adapter_name(layer, target, "lora_E")
                payload[name] = payload[name] * own
    reported = {name: array for name, array in update.reported.items() if name != "votes"}
    return replace(update, payload=payload, reported=reported)


def _diagonal(one: Job | Update) -> DiagonalAssignment:
    assert isinstance(one.assignment, DiagonalAssignment)
    return one.assignment
