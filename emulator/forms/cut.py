"""The contract of a form for a model that is cut: the device holds the bottom, the server the top behind it."""

from abc import abstractmethod
from dataclasses import dataclass

from emulator.forms.base import AdapterForm
from emulator.records import Assignment, Work
from emulator.shapes.spec import ModelSpec

LABEL_BYTES = 2
"""Of a label on its way to the server; MergeSFL's released code counts as much (arXiv 2311.13348)."""


@dataclass(frozen=True, kw_only=True)  # no slots: a class can only inherit from one base that adds some
class CutAssignment(Assignment):
    """Settings of one device of a cohort that trains a model which is cut.

    ``learning_rate`` is that of the device's bottom, ``top_learning_rate`` that of the top at the server. With
    ``merges`` the devices of the cohort train one top together, otherwise each has a copy of its own.
    """

    top_learning_rate: float
    merges: bool

    @property
    def is_coupled(self) -> bool:
        return self.merges


class CutForm(AdapterForm):
    """A form for a model that is cut: a device computes its bottom, and the server the top behind it, in every step.

    ``project``, ``work`` and the bytes are those of the bottom alone. What the server trains for a device comes with
    the device's update, although it never crosses the network.
    """

    def assignment(
        self,
        device_id: int,
        *,
        n_steps: int,
        batch_size: int,
        learning_rate: float,
        top_learning_rate: float,
        merges: bool,
    ) -> CutAssignment:
        """An assignment of the kind that this form takes."""
        return self.completed(
            CutAssignment(
                device_id=device_id,
                n_steps=n_steps,
                batch_size=batch_size,
                learning_rate=learning_rate,
                top_learning_rate=top_learning_rate,
                merges=merges,
            )
        )

    def completed(self, settings: CutAssignment) -> CutAssignment:
        """``settings`` with what else this form wants of an assignment."""
        return settings

    def step_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """Bytes that the device sends in each local step: what its bottom gives for the batch, and the labels."""
        # The gradient that comes back has the shape of what the bottom gave.
        return self.step_download_bytes(assignment, model) + LABEL_BYTES * assignment.batch_size

    @abstractmethod
    def step_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """Bytes that the server sends back in each local step: the gradient of what the bottom gave."""

    @abstractmethod
    def whole_work(self, assignment: Assignment, model: ModelSpec) -> Work:
        """What the device would compute if the model were not cut; the server computes the difference to ``work``."""


def check_cut(assignment: Assignment) -> None:
    """Raise ``ValueError`` if ``assignment`` is not for a model that is cut, or no top can be trained by it."""
    if not isinstance(assignment, CutAssignment):
        raise ValueError(f"a model that is cut takes a CutAssignment, not a {type(assignment).__name__}")
    if not 0 < assignment.top_learning_rate < float("inf"):
        raise ValueError(f"top_learning_rate must be a positive number, got {assignment.top_learning_rate!r}")
