"""``[backend]`` and ``[results]``: where a run is computed, and what it writes."""

from typing import Annotated

from pydantic import AfterValidator, Field

from emulator.backends.kinds import KINDS, backend_kind
from emulator.config.section import Count, CountOrZero, Section
from emulator.errors import ConfigError

_BACKENDS = "; ".join(f"{kind.name}: {kind.holds}" for kind in KINDS) + "."


def _known_backend(name: str) -> str:
    try:
        return backend_kind(name).name
    except ConfigError as error:
        raise ValueError(str(error)) from None


class BackendConfig(Section):
    """Where the device hosts run. It changes no result, but for the last bits of what is trained: an actor of its own
    trains a device alone, and a GPU rounds in another way than a CPU."""

    kind: Annotated[str, AfterValidator(_known_backend), Field(description=_BACKENDS)] = "ray"
    hosts: Count | None = None
    """Host processes; one per core, or GPU, that the cluster has free where it is not given."""
    devices_per_actor: Count | None = None
    """Devices per host; 1 gives every device an actor of its own. Where it is not given, hosts share all devices."""
    gpus_per_host: Annotated[float, Field(ge=0)] | None = None
    """Share of a GPU that each host reserves and uses; 0 trains on the CPU. Not given: 1 if there are any."""

    @property
    def gpu_share(self) -> float:
        """:attr:`gpus_per_host` as a number; as long as nobody has looked for GPUs, there are none."""
        return self.gpus_per_host or 0.0


class ResultsConfig(Section):
    """What is written."""

    rounds_per_part: Count | None = None
    """Rounds per Parquet part; a round is safe on disk, and shown as done, once its part is. Where it is not given, 1,
    or 50 in a run without training, whose rounds take milliseconds."""
    checkpoint_rounds: CountOrZero = 10
    """Rounds after which a run can go on where it was, whatever it dies of; 0 keeps no checkpoints. One is written only
    where a Parquet part ends, so that this counts in steps of ``rounds_per_part``, and as the run ends."""
    wait_s: Annotated[float, Field(ge=0)] = 300.0
    """How long a run waits where its results cannot be written: the disk is full, permission is lost, or the storage is
    away. It says so and goes on by itself; after that time it ends and can be resumed. 0 does not wait."""
