"""Which kind of step a model takes: the one place where its price asks what kind of model it is."""

from emulator.records import ADAMW, NO_SAVERS, LocalOptimizer, MemorySavers, Work
from emulator.shapes.convnet import ConvNetSpec
from emulator.shapes.encoder_decoder import EncoderDecoderSpec
from emulator.shapes.spec import ModelSpec
from emulator.world.price.convnet import ConvNetStep
from emulator.world.price.encoder_decoder import EncoderDecoderStep
from emulator.world.price.step import Step
from emulator.world.price.transformer import TransformerStep


def step_of(
    model: ModelSpec,
    work: Work,
    precision: str = "fp32",
    optimizer: LocalOptimizer = ADAMW,
    savers: MemorySavers = NO_SAVERS,
) -> Step:
    """One of the steps of ``work`` on ``model``, in ``precision`` (``fp32`` or ``amp``).

    ``optimizer`` is that of adapters, and ``savers`` are for transformers; the weights of a convnet are trained by SGD
    and held as they are in any case.
    """
    if isinstance(model, ConvNetSpec):
        return ConvNetStep(model, work, precision)
    if isinstance(model, EncoderDecoderSpec):
        return EncoderDecoderStep(model, work, precision, optimizer, savers)
    return TransformerStep(model, work, precision, optimizer, savers)
