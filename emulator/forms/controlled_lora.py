"""LoRA with control variates: with each trained array travels another one of its shape, both ways."""

from dataclasses import dataclass
from typing import ClassVar

from emulator.forms.lora import LoraForm
from emulator.records import Assignment
from emulator.shapes.spec import ModelSpec


@dataclass(frozen=True, kw_only=True)
class ControlledLoraForm(LoraForm):
    """LoRA, and a control variate for each trained number: the server's goes down, the change of a device's own up.

    Control variates are no part of the server state; ``emulator.learning.tasks.controls`` trains with them.
    """

    maps_depth: ClassVar[bool] = True

    def download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return super().download_bytes(assignment, model) + self._control_bytes(assignment, model)

    def upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return super().upload_bytes(assignment, model) + self._control_bytes(assignment, model)

    def extra_download_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return super().extra_download_bytes(assignment, model) + self._control_bytes(assignment, model)

    def extra_upload_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        return super().extra_upload_bytes(assignment, model) + self._control_bytes(assignment, model)

    def _control_bytes(self, assignment: Assignment, model: ModelSpec) -> int:
        """As many as the device sends back of what it trains."""
        return super().upload_bytes(assignment, model)
