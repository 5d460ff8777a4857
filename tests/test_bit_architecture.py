"""Architectures: sizes, names, and the strictness of reading one off its tensors."""

import pytest

from transforms.bit.architecture import Architecture, canonical_name
from transforms.bit.spec import ModelError


@pytest.mark.parametrize(
    ("name", "features", "backbone", "with_1000", "with_21843", "tensors"),
    [
        ("R50x1", 2048, 23_500_352, 25_549_352, 68_256_659, 151),
        ("R50x3", 6144, 211_174_080, 217_319_080, 345_399_315, 151),
        ("R101x1", 2048, 42_492_480, 44_541_480, 87_248_787, 304),
        ("R101x3", 6144, 381_789_888, 387_934_888, 516_015_123, 304),
        ("R152x2", 4096, 232_238_208, 236_335_208, 321_728_979, 457),
        ("R152x4", 8192, 928_340_224, 936_533_224, 1_107_299_923, 457),
    ],
)
def test_sizes_are_the_published_ones(
    name, features, backbone, with_1000, with_21843, tensors
):
    assert Architecture.parse(name).embedding_size == features
    assert Architecture.parse(name).parameters == backbone
    assert Architecture.parse(name, classes=1000).parameters == with_1000
    assert Architecture.parse(name, classes=21_843).parameters == with_21843
    assert len(Architecture.parse(name).shapes()) == tensors
    assert len(Architecture.parse(name, classes=10).shapes()) == tensors + 2


def test_tensors_have_their_published_names_and_shapes():
    shapes = Architecture.parse("R50x3", classes=1000).shapes()
    assert shapes["resnet/root_block/standardized_conv2d/kernel"] == (7, 7, 3, 192)
    assert shapes["resnet/block1/unit01/a/proj/standardized_conv2d/kernel"] == (
        *(1, 1, 192, 768),
    )
    assert shapes["resnet/block4/unit03/b/standardized_conv2d/kernel"] == (
        *(3, 3, 1536, 1536),
    )
    assert shapes["resnet/block3/unit06/a/group_norm/gamma"] == (3072,)
    assert shapes["resnet/head/conv2d/kernel"] == (1, 1, 6144, 1000)
    assert "resnet/block1/unit02/a/proj/standardized_conv2d/kernel" not in shapes


@pytest.mark.parametrize("name", ["R50x1", "R101x3", "R152x4", "R14x2"])
@pytest.mark.parametrize("classes", [0, 7])
def test_an_architecture_is_read_off_its_shapes(name, classes):
    architecture = Architecture.parse(name, classes=classes)
    assert Architecture.from_shapes(architecture.shapes()) == architecture


@pytest.mark.parametrize("name", ["R50", "R34x1", "R50x0", "r50x1", "R50x1 ", "R50x"])
def test_an_unknown_architecture_is_an_error(name):
    with pytest.raises(ModelError, match="as in R50x1"):
        Architecture.parse(name)


GAMMA = "resnet/block3/unit02/b/group_norm/gamma"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({GAMMA: None}, f"tensor {GAMMA} of R50x1 is missing"),
        ({GAMMA: (255,)}, rf"tensor {GAMMA} has shape \(255,\); R50x1 has \(256,\)"),
        ({"resnet/extra": (3,)}, "tensor resnet/extra is none of R50x1's"),
        (
            {"resnet/root_block/standardized_conv2d/kernel": None},
            "tensor resnet/root_block/standardized_conv2d/kernel is missing",
        ),
        (
            {"resnet/root_block/standardized_conv2d/kernel": (7, 7, 3, 65)},
            "tensor resnet/root_block/.* has shape",
        ),
        (
            {"resnet/root_block/standardized_conv2d/kernel": ()},
            "tensor resnet/root_block/.* has shape",
        ),
        ({"resnet/head/conv2d/bias": None}, "tensor resnet/head/conv2d/bias is miss"),
        ({"resnet/head/conv2d/bias": ()}, "tensor resnet/head/conv2d/bias has shape"),
        (
            {"resnet/head/conv2d/kernel": (2048, 21)},
            r"tensor resnet/head/conv2d/kernel has shape \(2048, 21\)",
        ),
    ],
)
def test_a_wrong_tensor_is_named(change, message):
    shapes = Architecture.parse("R50x1", classes=21).shapes() | change
    shapes = {name: shape for name, shape in shapes.items() if shape is not None}
    with pytest.raises(ModelError, match=message) as caught:
        Architecture.from_shapes(shapes)
    assert "\n" not in str(caught.value)


def test_names_lose_what_exporters_add():
    plain = "resnet/block1/unit01/a/proj/standardized_conv2d/kernel"
    assert canonical_name(plain) == plain
    assert canonical_name(plain + ":0") == plain
    assert canonical_name("module/big_resnet/" + plain) == plain
    assert canonical_name(plain.replace("conv2d/", "conv2d_17/")) == plain
