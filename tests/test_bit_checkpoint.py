"""Checkpoints: read exactly, one tensor at a time, and strictly."""

import zipfile

import numpy as np
import pytest

from transforms.bit import ModelError, ModelSpec, describe
from transforms.bit.architecture import Architecture
from transforms.bit.checkpoint import Checkpoint
from transforms.bit.random_weights import RandomWeights

GAMMA = "resnet/block3/unit01/b/group_norm/gamma"


@pytest.fixture(scope="module")
def tensors():
    return dict(RandomWeights.parse("random:R14x1:10").tensors())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "model.npz")


def test_tensors_come_back_as_written(path, tensors):
    np.savez(path, **tensors)
    with Checkpoint(path) as checkpoint:
        assert Architecture.from_shapes(checkpoint.shapes).name == "R14x1"
        found = dict(checkpoint.tensors())
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == np.float32
        assert np.array_equal(found[name], tensor)


def test_compressed_and_column_major_files_are_read_too(path, tensors):
    columns = {name: np.asfortranarray(tensor) for name, tensor in tensors.items()}
    np.savez_compressed(path, **columns)
    with Checkpoint(path) as checkpoint:
        for name, tensor in checkpoint.tensors():
            assert np.array_equal(tensor, tensors[name])
            assert tensor.flags.c_contiguous


def test_numbered_convolutions_lose_their_numbers(path, tensors):
    numbered = {
        name.replace("standardized_conv2d/", f"standardized_conv2d_{index}/"): tensor
        for index, (name, tensor) in enumerate(tensors.items())
    }
    np.savez(path, **numbered)
    with Checkpoint(path) as checkpoint:
        assert list(checkpoint.shapes) == list(tensors)


def test_a_real_files_size_is_ours_to_the_byte(path):
    # BiT-M-R50x1-ILSVRC2012.npz has 102,242,668 bytes: names, number of entries,
    # types and head are what we take them to be. NumPy has since begun to add 20
    # bytes of zip64 to every entry.
    shapes = Architecture.parse("R50x1", classes=1000).shapes()
    np.savez(path, **{name: np.zeros(shape, "f4") for name, shape in shapes.items()})
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        extra = sum(local_extra(archive, entry) for entry in entries)
        end = archive.start_dir + sum(46 + len(one.filename) for one in entries) + 22
    assert len(entries) == 153
    assert end - extra == 102_242_668


def local_extra(archive, entry):
    archive.fp.seek(entry.header_offset + 28)
    return int.from_bytes(archive.fp.read(2), "little")


def test_the_digest_is_that_of_the_weights(path, tensors):
    np.savez(path, **tensors)
    digest = describe(ModelSpec(path)).digest
    np.savez(path, **dict(reversed(tensors.items())))
    assert describe(ModelSpec(path)).digest == digest
    changed = tensors[GAMMA].copy()
    changed[0] += 1
    np.savez(path, **{**tensors, GAMMA: changed})
    assert describe(ModelSpec(path)).digest != digest


def written(path, tensors, **change):
    np.savez(path, **{**tensors, **change})


def fail(path):
    with pytest.raises(ModelError) as caught, Checkpoint(path) as checkpoint:
        Architecture.from_shapes(checkpoint.shapes)
        for _ in checkpoint.tensors():
            pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error(path, tensors, value):
    wrong = tensors[GAMMA].copy()
    wrong[-1] = value
    written(path, tensors, **{GAMMA: wrong})
    assert fail(path) == f"tensor {GAMMA} of {path} has values that are not finite"


def test_a_pickled_array_is_never_loaded(path, tensors, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    written(path, tensors, **{GAMMA: np.array([Trap()], dtype=object)})
    assert fail(path).startswith(f"tensor {GAMMA} of {path} is a pickled array")
    assert not (tmp_path / "sprung").exists()


def test_another_type_is_an_error(path, tensors):
    written(path, tensors, **{GAMMA: tensors[GAMMA].astype(np.float64)})
    assert fail(path) == f"tensor {GAMMA} of {path} is float64, not float32"


def test_a_tensor_that_occurs_twice_is_an_error(path, tensors):
    name = "resnet/root_block/standardized_conv2d/kernel"
    twin = name.replace("conv2d/", "conv2d_1/")
    written(path, tensors, **{twin: tensors[name]})
    assert fail(path) == f"tensor {name} of {path} occurs twice"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_an_error(path, tensors, share):
    written(path, tensors)
    with open(path, "r+b") as file:
        file.truncate(int(share * file.seek(0, 2)))
    assert fail(path).startswith(f"checkpoint {path} is no .npz file or is truncated")


def test_damage_names_the_tensor(path, tensors):
    written(path, tensors)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{GAMMA}.npy")
    with open(path, "r+b") as file:
        file.seek(entry.header_offset + 300)
        file.write(b"\x00\x01\x02")
    assert fail(path).startswith(f"tensor {GAMMA} of {path} is cut short or damaged")


def test_a_damaged_header_names_the_tensor(path, tensors):
    written(path, tensors)
    rewrite(path, f"{GAMMA}.npy", lambda data: b"\x00" * 16 + data[16:])
    assert fail(path).startswith(f"tensor {GAMMA} of {path} has no readable header")


def test_a_shape_larger_than_its_bytes_is_an_error(path, tensors):
    written(path, tensors)
    rewrite(path, f"{GAMMA}.npy", lambda data: data[:-4])
    assert "not those of its shape (256,)" in fail(path)


def rewrite(path, member, change):
    with zipfile.ZipFile(path) as archive:
        data = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name in data:
            archive.writestr(name, change(data[name]) if name == member else data[name])


def test_a_zip_bomb_is_refused_unread(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("resnet/head/conv2d/bias.npy", bytes(50_000_000))
    assert "claims to unpack to 50,000,000 bytes" in fail(path)


def test_a_missing_file_is_an_error(path):
    assert fail(path) == f"checkpoint {path} does not exist"


def test_another_file_is_an_error(path):
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY" + bytes(1000))
    assert fail(path).startswith(f"checkpoint {path} is no .npz file")
