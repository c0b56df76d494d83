"""One flat buffer for the parameters of many devices, and the views of it that a model computes with."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emulator.learning.upload import uploaded


class ParameterStack:
    """Named parameters of ``n_devices`` devices in one ``(n_devices, n_parameters)`` float32 buffer.

    A name has the same shape for all devices, the largest that any of them holds; smaller arrays fill its leading
    corner and the rest is zero.

    Attributes:
        values: ``(n_devices, n_parameters)``; a device's parameters are one row.
        gradients: of the same shape, written by :meth:`backward`.
        trained: of the same shape, bool: what each device trains.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], n_devices: int, device: str) -> None:
        self.shapes = dict(shapes)
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        stops = np.cumsum(sizes).tolist()
        self._columns = {
            name: slice(stop - size, stop) for name, size, stop in zip(self.shapes, sizes, stops, strict=True)
        }
        self.trained = np.zeros((n_devices, sum(sizes)), dtype=bool)
        self._initial = np.zeros((n_devices, sum(sizes)), dtype=np.float32)
        self._device = device
        self._written: dict[tuple[int, str], tuple[int, ...]] = {}  # the shapes in which they were
        self._leaves: dict[str, Tensor] = {}

    def write(self, row: int, name: str, array: NDArray[np.float32]) -> None:
        """Sets device ``row``'s parameter ``name``; all writing comes before :meth:`upload`."""
        self._written[row, name] = array.shape
        self.put(self._initial, row, name, array)

    def put(self, values: NDArray[np.float32], row: int, name: str, array: NDArray[np.float32]) -> None:
        """Writes device ``row``'s ``array`` into ``values`` of this buffer's shape, where parameter ``name`` stands."""
        corner = tuple(slice(size) for size in array.shape)
        values[row, self._columns[name]].reshape(self.shapes[name])[corner] = array

    def train(self, row: int, name: str) -> None:
        """Lets device ``row`` train parameter ``name``."""
        self.trained[row, self._columns[name]] = True

    def columns(self, names: Collection[str]) -> Tensor:
        """The columns that hold the parameters ``names``, in ascending order, as an index."""
        kept = [np.arange(own.start, own.stop) for name, own in self._columns.items() if name in names]
        return uploaded(np.concatenate([np.zeros(0, np.int64), *kept]), self._device)

    def blocks(self, size: int) -> NDArray[np.int64]:
        """``(n_devices, n_parameters)``: to which block of ``size`` neighbours each parameter of a device belongs.

        Blocks are those of the arrays that it trains, in its own shapes, so that they do not depend on who shares the
        stack; they are counted from 1, and what is not trained is in block 0.
        """
        numbers = np.zeros(self.trained.shape, dtype=np.int64)
        n_blocks = [0] * len(numbers)
        for (row, name), shape in self._written.items():
            columns = self._columns[name]
            if not self.trained[row, columns].any():
                continue
            own = np.arange(int(np.prod(shape))) // size + 1 + n_blocks[row]
            corner = tuple(slice(length) for length in shape)
            numbers[row, columns].reshape(self.shapes[name])[corner] = own.reshape(shape)
            n_blocks[row] = int(own[-1]) if len(own) else n_blocks[row]
        return numbers

    def upload(self) -> None:
        """Makes the tensors, once everything is written."""
        self.values = uploaded(self._initial, self._device)
        self.gradients = torch.zeros_like(self.values)
        self._is_trained = {name: bool(self.trained[:, columns].any()) for name, columns in self._columns.items()}

    def download(self) -> NDArray[np.float32]:
        """A copy of all parameters, for :meth:`read`."""
        values: NDArray[np.float32] = self.values.numpy(force=True).copy()
        return values

    def read(self, values: NDArray[np.float32], row: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Device ``row``'s parameter ``name`` of downloaded ``values``, in the ``shape`` that it was written in."""
        corner = tuple(slice(size) for size in shape)
        return np.ascontiguousarray(values[row, self._columns[name]].reshape(self.shapes[name])[corner])

    def activate(self, n_devices: int, first: int = 0) -> None:
        """Makes leaves of the first ``n_devices`` rows, without those before ``first``.

        A leaf needs a gradient only if any device trains it, so that backward stops where nobody trains.
        """
        self._leaves, self._active = {}, slice(first, n_devices)
        for name in self.shapes:
            leaf = self._view(self.values, name)[self._active].detach()
            self._leaves[name] = leaf.requires_grad_(self._is_trained[name])

    def leaf(self, name: str) -> Tensor:
        """``name`` of all active devices, ``(n_active, *shape)``."""
        return self._leaves[name]

    def written(self, name: str) -> NDArray[np.float32]:
        """What was written of ``name`` for the active devices, ``(n_active, *shape)``; nothing is waited for."""
        return self._initial[:, self._columns[name]].reshape(-1, *self.shapes[name])[self._active]

    def gradient(self, name: str) -> Tensor:
        """The gradient of ``name`` of all devices, ``(n_devices, *shape)``: a view of :attr:`gradients`."""
        return self._view(self.gradients, name)

    def backward(self, loss: Tensor, *, adds: bool = False) -> None:
        """Writes the gradients of ``loss`` for all active devices, or ``adds`` them to what is written."""
        leaves = {name: leaf for name, leaf in self._leaves.items() if leaf.requires_grad}
        if not leaves:
            return
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                written = self._view(self.gradients, name)[self._active]
                written.add_(gradient) if adds else written.copy_(gradient)

    def _view(self, buffer: Tensor, name: str) -> Tensor:
        return buffer[:, self._columns[name]].view(-1, *self.shapes[name])
