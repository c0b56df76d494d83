"""Networks by name: those of the split learning papers, which are priced, and the built-in one, which is trained."""

from collections.abc import Callable, Mapping

from emulator.shapes.convnet import ConvNetLayer, ConvNetSpec

BUILTIN_CONVNET = "builtin:cnn"
"""The convnet that is trained on images."""
BUILTIN_IMAGES = "builtin:digits"
"""The images that it is trained on unless the user has others."""
PRICED_CONVNET = "alexnet"
"""Whose shapes the devices pay for where it is trained."""


def convnet_names() -> tuple[str, ...]:
    """The convnets whose shapes can be priced, in alphabetical order."""
    return tuple(sorted(_CONVNETS))


def convnet_spec(name: str, n_labels: int) -> ConvNetSpec:
    """The shapes of one of :func:`convnet_names`, or of the built-in convnet on images of 8 x 8 grey pixels."""
    return builtin_convnet((1, 8, 8), n_labels) if name == BUILTIN_CONVNET else _CONVNETS[name](n_labels)


def builtin_convnet(image_shape: tuple[int, int, int], n_labels: int) -> ConvNetSpec:
    """Two convolutions of 16 and 32 channels below the cut, pooling behind the second; linear maps of 64 and labels.

    ``image_shape`` is channels, height and width.
    """
    channels, height, width = image_shape
    convolutions = _convolutions((16, 32), {2}, channels, (height, width))
    return _spec(BUILTIN_CONVNET, convolutions, (64,), n_labels)


def _alexnet(n_labels: int) -> ConvNetSpec:
    """The AlexNet for CIFAR-10 of MergeSFL (arXiv 2311.13348), cut behind its five convolutions.

    Sourced (released code): 2.25 M parameters below the cut, 33.6 M above it, 4,096 features per sample. Derived: 3 x 3
    kernels of 64, 192, 384, 256 and 256 channels have 2.25 M parameters, and pooling behind the first, second and fifth
    takes 32 x 32 pixels to the 4 x 4 of the features. Krizhevsky et al. 2012 has other kernels, for larger images.
    """
    convolutions = _convolutions((64, 192, 384, 256, 256), {1, 2, 5}, 3, (32, 32))
    return _spec("alexnet", convolutions, (4096, 4096), n_labels)


def _vgg16_bn(n_labels: int) -> ConvNetSpec:
    """VGG16 with batch normalisation at 144 x 144 pixels, as in MergeSFL, cut behind its thirteen convolutions.

    Simonyan and Zisserman 2015, arXiv 1409.1556, table 1, column D. Sourced (released code): 12,800 features a sample,
    which are 512 x 5 x 5. Derived: so the last pooling, of 9 x 9, rounds up. Its linear maps are the paper's.
    """
    channels = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    convolutions = _convolutions(channels, {2, 4, 7, 10, 13}, 3, (144, 144), has_norm=True)
    return _spec("vgg16-bn", convolutions, (4096, 4096), n_labels)


_CONVNETS: Mapping[str, Callable[[int], ConvNetSpec]] = {"alexnet": _alexnet, "vgg16-bn": _vgg16_bn}


def _convolutions(
    channels: tuple[int, ...], pooled: set[int], n_inputs: int, size: tuple[int, int], has_norm: bool = False
) -> list[ConvNetLayer]:
    """3 x 3 convolutions, counted from 1; pooling by two comes behind those that are ``pooled``."""
    layers: list[ConvNetLayer] = []
    for number, n_outputs in enumerate(channels, start=1):
        layer = ConvNetLayer(
            name=f"conv{number}",
            weight=(n_outputs, n_inputs, 3, 3),
            positions=size,
            has_norm=has_norm,
            pool=2 if number in pooled else 1,
            pool_rounds_up=True,
        )
        layers.append(layer)
        n_inputs, size = n_outputs, layer.pooled
    return layers


def _spec(name: str, convolutions: list[ConvNetLayer], hidden: tuple[int, ...], n_labels: int) -> ConvNetSpec:
    """Linear maps of ``hidden`` features and to the labels behind ``convolutions``, with the cut between them."""
    layers, n_inputs = list(convolutions), convolutions[-1].n_outputs
    sizes = (*hidden, n_labels)
    for number, n_outputs in enumerate(sizes, start=1):
        weight, has_relu = (n_outputs, n_inputs), number < len(sizes)
        layers.append(ConvNetLayer(name=f"linear{number}", weight=weight, has_relu=has_relu))
        n_inputs = n_outputs
    return ConvNetSpec(name=name, n_layers=len(layers), layers=tuple(layers), cut=len(convolutions))
