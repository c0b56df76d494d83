"""What the work that a run asks for costs on its boards: each price is computed once."""

from device_profiles.records import AllocatorName, DeviceProfile, PowerMode
from emulator.records import TrainingDefaults, Work
from emulator.shapes.spec import ModelSpec
from emulator.world.price.known_range import outside_known_range
from emulator.world.price.memory import needed_bytes
from emulator.world.price.step_kinds import step_of
from emulator.world.price.step_time import ComputeCost, CostModel


class Pricing:
    """Prices of work on the priced model, in the arithmetic of the run.

    Attributes:
        outside_known_range: by device profile, the first setting that was asked for and that it is not known for.
    """

    def __init__(self, model: ModelSpec, training: TrainingDefaults) -> None:
        self.outside_known_range: dict[str, str] = {}
        self._model = model
        self._training = training
        self._costs = CostModel(model, training.precision, training.optimizer, training.savers)
        self._memory_bytes: dict[tuple[Work, AllocatorName], int] = {}
        self._in_known_range: dict[str, set[Work]] = {}

    def cost(self, work: Work, mode: PowerMode) -> ComputeCost:
        """Seconds and FLOP of all steps of ``work`` on a board in ``mode``."""
        return self._costs.price(work, mode)

    def peak_memory_bytes(self, work: Work, allocator: AllocatorName) -> int:
        """What a device with this allocator needs at the most while it computes ``work``."""
        key = work, allocator
        if key not in self._memory_bytes:
            self._memory_bytes[key] = needed_bytes(self._model, work, self._training, allocator)
        return self._memory_bytes[key]

    def note_range(self, profile: DeviceProfile, work: Work) -> None:
        """Remember if ``work`` is asked of a board whose figures are not known to hold for it."""
        if profile.name in self.outside_known_range:
            return
        checked = self._in_known_range.setdefault(profile.name, set())
        if work not in checked:
            checked.add(work)
            training = self._training
            if setting := outside_known_range(profile, self._model, work, training.precision, training.savers):
                self.outside_known_range[profile.name] = setting

    def top_flop(self, whole: Work, bottom: Work) -> float:
        """FLOP that are left to the server in one step of ``whole`` where a device computes ``bottom``."""
        above, below = step_of(self._model, whole), step_of(self._model, bottom)
        return above.forward_flop - below.forward_flop + above.backward_flop - below.backward_flop
