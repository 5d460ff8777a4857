"""The table of convolutions that ceilings are made from."""

import pytest

from benchmarks.layers import convolutions, gflop
from transforms.bit.architecture import Architecture


@pytest.mark.parametrize(
    ("name", "classes", "side", "expected"),
    # arXiv:1603.05027 counts 4.1e9 for ResNet-50; torchvision 4.09 multiplications and
    # additions in pairs with the stride in the 3 x 3, as here, and 7.80 for 101 layers.
    [("R50x1", 1000, 224, 2 * 4.09), ("R101x1", 1000, 224, 2 * 7.80)],
)
def test_the_operations_are_those_that_are_published(name, classes, side, expected):
    architecture = Architecture.parse(name, classes=classes)
    assert gflop(architecture, side) == pytest.approx(expected, rel=0.01)


def test_the_kernels_are_those_of_the_checkpoint():
    architecture = Architecture.parse("R50x1")
    kernels = [layer.kernel for layer in convolutions(architecture, 224)]
    shapes = architecture.shapes().items()
    assert sorted(kernels) == sorted(
        shape for name, shape in shapes if name.endswith("conv2d/kernel")
    )
    assert len(kernels) == 53


def test_maps_have_the_sides_of_the_network():
    layers = convolutions(Architecture.parse("R50x1"), 224)
    assert layers[0].side_out == 112
    assert layers[1].side == 56
    assert layers[-1].side_out == 7
