"""Whether a device's profile is known for a piece of work, or its price is an extrapolation."""

from device_profiles.records import DeviceProfile
from emulator.records import NO_SAVERS, MemorySavers, Work, WorkKind
from emulator.shapes.spec import ModelSpec
from emulator.world.price.step_kinds import step_of


def outside_known_range(
    profile: DeviceProfile, model: ModelSpec, work: Work, precision: str, savers: MemorySavers = NO_SAVERS
) -> str | None:
    """The first setting that lies outside the range in which ``profile`` is known, and that range; None inside it.

    A profile that states no range is known nowhere.
    """
    known = profile.known_range
    if known is None:
        return "the profile states no range in which it is known"
    kind = WorkKind.WEIGHTS if work.kind is WorkKind.LAYERS else work.kind  # whose steps are the same but for a few
    if kind not in known.kinds:
        return f"{kind.value}, known for {', '.join(known.kinds)}"
    if precision not in known.precisions:
        return f"{precision}, known for {', '.join(known.precisions)}"
    if savers.base_precision != "float32":
        return f"frozen weights in {savers.base_precision}, known for float32"
    return step_of(model, work, precision, savers=savers).outside(known)
