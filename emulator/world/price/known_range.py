"""Whether a device's profile is known for a piece of work, or its price is an extrapolation."""

from device_profiles.records import DeviceProfile
from emulator.records import Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.spec import ModelSpec


def outside_known_range(profile: DeviceProfile, model: ModelSpec, work: Work, precision: str) -> str | None:
    """The first setting that lies outside the range in which ``profile`` is known, and that range; None inside it.

    A profile that states no range is known nowhere.
    """
    known = profile.known_range
    if known is None:
        return "the profile states no range in which it is known"
    if work.kind not in known.kinds:
        return f"{work.kind.value}, known for {', '.join(known.kinds)}"
    if precision not in known.precisions:
        return f"{precision}, known for {', '.join(known.precisions)}"
    if isinstance(model, ConvNetSpec):
        return f"{model.name}, a network of convolutions, known for transformers"
    n_tokens = work.batch_size * work.seq_len
    if not known.min_step_tokens <= n_tokens <= known.max_step_tokens:
        return (
            f"batch {work.batch_size} x length {work.seq_len} = {n_tokens} tokens a step, known from "
            f"{known.min_step_tokens} to {known.max_step_tokens}"
        )
    if not known.min_model_parameters <= model.n_parameters <= known.max_model_parameters:
        return (
            f"{model.name} with {model.n_parameters / 1e6:.0f} M parameters, known from "
            f"{known.min_model_parameters / 1e6:.0f} to {known.max_model_parameters / 1e6:.0f} M"
        )
    return None
