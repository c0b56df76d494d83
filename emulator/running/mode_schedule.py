"""What ``testbed.mode_changes`` asks for, on the boards of a cluster."""

from collections.abc import Sequence

from device_profiles.records import ClusterSpec
from device_profiles.tables import did_you_mean
from emulator.config.testbed import ModeChangeConfig
from emulator.errors import ConfigError
from emulator.world.power_modes import ModeChange


def mode_changes_of(changes: Sequence[ModeChangeConfig], cluster: ClusterSpec) -> tuple[ModeChange, ...]:
    """The scheduled changes of mode, for each device.

    Raises:
        ConfigError: the cluster has no such board, or does not let it be in such a mode.
    """
    return tuple(_change(f"testbed.mode_changes[{number}]", each, cluster) for number, each in enumerate(changes))


def _change(where: str, change: ModeChangeConfig, cluster: ClusterSpec) -> ModeChange:
    names = list(dict.fromkeys(entry.device for entry in cluster.entries))
    if change.device not in names:
        hint = did_you_mean(change.device, names)
        raise ConfigError(
            f"{where}.device must be a board of {cluster.name}{hint}; it has {', '.join(names)}, got {change.device!r}"
        )
    index_of_device = {}
    for device_id, entry in enumerate(cluster.entry_by_device):
        if entry.device == change.device:
            modes = [mode.name for mode in entry.modes]
            if change.mode not in modes:
                hint = did_you_mean(change.mode, modes)
                raise ConfigError(
                    f"{where}.mode must be one that {cluster.name} lets {change.device} be in{hint}; these are "
                    f"{', '.join(modes)}, got {change.mode!r}"
                )
            index_of_device[device_id] = modes.index(change.mode)
    return ModeChange(index_of_device, change.from_round, change.from_s)
