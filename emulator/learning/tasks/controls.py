"""Training with control variates (SCAFFOLD, Karimireddy et al. 2020, arXiv 1910.06378)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.algorithms.control import CONTROL
from emulator.forms.base import AdapterForm
from emulator.learning.host import DeviceHost
from emulator.learning.local_training import LocalTraining
from emulator.learning.upload import uploaded
from emulator.records import Arrays, Job, Update


def train_with_controls(host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> list[Update]:
    """Local training in which ``c - c_i``, which a device carries, is added to each gradient.

    The new ``c_i``, the mean of the gradients before anything was added, is reported as ``control.{array}`` of each
    array that the device trains. With plain SGD that is option II of the paper, ``c_i - c + (x - y) / (K rate)``, which
    other optimizers would make something else of.
    """
    return ControlledTraining(host, form, jobs).run()


class ControlledTraining(LocalTraining):
    """Keeps the sum of all gradients beside the training."""

    def __init__(self, host: DeviceHost, form: AdapterForm, jobs: Sequence[Job]) -> None:
        super().__init__(host, form, jobs)
        self._correction: Tensor | None = None
        self._sums: Tensor | None = None
        self._read: NDArray[np.float32] | None = None

    def after_backward(self, step: int, n_active: int) -> None:
        gradients = self.adapters.stack.gradients[:n_active]
        if self._sums is None:
            self._sums = torch.zeros_like(self.adapters.stack.gradients)
            self._correction = self._of_all_devices()
        self._sums[:n_active] += gradients
        if self._correction is not None:
            gradients += self._correction[:n_active]

    def after_step(self, step: int, n_active: int) -> None:
        # What the next backward pass does not write must not keep what was added to it.
        self.adapters.stack.gradients.zero_()

    def reported(self, row: int) -> Arrays:
        n_steps = self.jobs[row].assignment.n_steps
        if not n_steps or self._sums is None:
            return {}
        if self._read is None:
            self._read = self._sums.numpy(force=True)
        stack = self.adapters.stack
        return {
            f"{CONTROL}{name}": stack.read(self._read, row, name, shape) / np.float32(n_steps)
            for name, shape in self.adapters.trained_shapes(row).items()
        }

    def _of_all_devices(self) -> Tensor | None:
        """``(n_devices, n_parameters)``, what is added to gradients; None where nobody has anything."""
        if not any(job.carried for job in self.jobs):
            return None
        stack = self.adapters.stack
        rows = np.zeros(tuple(stack.values.shape), dtype=np.float32)
        for row, job in enumerate(self.jobs):
            for name in self.adapters.trained_shapes(row):
                if name in job.carried:
                    stack.put(rows, row, name, job.carried[name])
        return uploaded(rows, str(stack.values.device))
