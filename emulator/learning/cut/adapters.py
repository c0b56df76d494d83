"""Adapters of a transformer that is cut: what its devices and its server train in a round, computed in one pass.

Where the cut lies does not show in the numbers, since a gradient that crosses it is the same on either side. So a
device and the top at the server are one row of a stack: the bottom's arrays and a copy of the top's.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emulator.forms.base import AdapterForm
from emulator.forms.cut import CutAssignment
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.learning.upload import uploaded
from emulator.records import Arrays, Assignment, Job


class CutTraining(LocalTraining):
    """Each device trains with a copy of the top of its own, which comes back with its update."""

    def held(self, job: Job) -> Arrays:
        return job.state

    def learning_rates(self, assignments: Sequence[Assignment]) -> Tensor:
        rates = self.adapters.learning_rates(assignments).expand_as(self.adapters.stack.values).clone()
        rates[:, self.top] = torch.tensor([[_of_cut(one).top_learning_rate] for one in assignments]).to(rates)
        return rates

    def held_together(self) -> Sequence[Tensor]:
        """The server clips the gradients of the top, and a device those of its bottom."""
        return [self.adapters.stack.columns(set(self._bottom())), self.top]

    @property
    def top(self) -> Tensor:
        """The columns of the stack that hold the top."""
        bottom = self._bottom()
        return self.adapters.stack.columns({name for name in self.jobs[0].state if name not in bottom})

    def _bottom(self) -> Arrays:
        """What the devices hold themselves, as the first one does."""
        job = self.jobs[0]
        return self.form.project(job.state, job.assignment)


class MergedTraining(CutTraining):
    """All devices train one top together, on the batches of all of them as one.

    The loss of the merged batch is its mean, so the top's gradient is the mean of the devices' own, weighted by their
    batch sizes d_i. The gradient that is dispatched to device i is multiplied by ``sum_j d_j / d_i``, which makes of it
    that of its own mean loss (the released code of MergeSFL, arXiv 2311.13348). Both follow from the sum of the
    devices' mean losses, which a stack minimises anyway. Every row has the same top, and the first row's is what
    counts.
    """

    def __init__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        super().__init__(host, form, jobs)
        self._columns: Tensor | None = None

    def passes(self, n_active: int) -> Sequence[range]:
        """A coupled cohort is one stack, however large; only so many of its devices share a pass."""
        most = self.host.settings.devices_stacked
        return [range(start, min(start + most, n_active)) for start in range(0, n_active, most)]

    def after_backward(self, step: int, n_active: int) -> None:
        if self._columns is None:
            self._columns = self.top
        gradients = self.adapters.stack.gradients
        sizes = [job.assignment.batch_size for job in self.jobs[:n_active]]
        gradients[:n_active, self._columns] = merged_gradient(gradients[:n_active, self._columns], sizes)

    def after_step(self, step: int, n_active: int) -> None:
        values = self.adapters.stack.values
        values[:, self._columns] = values[0, self._columns]


def merged_gradient(gradients: Tensor, batch_sizes: Sequence[int]) -> Tensor:
    """The gradient of the mean loss over a merged batch, ``(n_parameters,)``.

    ``gradients (n_devices, n_parameters)`` are those of the devices' own mean losses.
    """
    sizes = uploaded(np.array(batch_sizes, dtype=np.float32), str(gradients.device)).to(gradients)
    return (sizes / sizes.sum()) @ gradients


def _of_cut(assignment: Assignment) -> CutAssignment:
    assert isinstance(assignment, CutAssignment)  # the form has refused anything else
    return assignment
