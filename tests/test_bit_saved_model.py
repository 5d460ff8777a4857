"""SavedModels in every form: rebuilt where they are BiT, run as they are elsewhere."""

import json
import os
import shutil
import tarfile

import numpy as np
import pytest

from tests import bit_reference
from transforms.bit import ModelError, ModelSpec, describe, load
from transforms.bit.random_weights import RandomWeights

SIDE = 48


def weights(classes=21):
    return dict(RandomWeights.parse(f"random:R14x1:{classes}").tensors())


def spec(path, **options):
    options = {
        "image_size": SIDE,
        "batch_size": 3,
        "precision": "float32",
        **options,
    }
    return ModelSpec(str(path), **options)


def pixels(count=3):
    shape = (count, SIDE, SIDE, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def reference(tensors):
    return bit_reference.forward(tensors, pixels() / 127.5 - 1, depth=14)


def assert_is_reference(found, tensors):
    features, logits = reference(tensors)
    np.testing.assert_allclose(found.embeddings, features, rtol=1e-3, atol=1e-4)
    if logits is None:
        assert found.class_ids is None
        return
    assert np.array_equal(found.class_ids, np.argsort(-logits, axis=1)[:, :10])
    best = np.sort(logits, axis=1)[:, :-11:-1]
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-best)), rtol=1e-3)


def bit_prefix(name):
    return f"some_module/{name}"


def plain(name):
    return name


def save(kind, tensors, path, **options):
    """Writes a SavedModel of a kind that bit_modules has."""
    from tests import bit_modules

    rename = options.pop("rename", plain)
    if rename == "numbered":
        rename = bit_modules.numbered()
    kept = {key: options.pop(key) for key in ("low", "wrong") if key in options}
    module = bit_modules.Module(tensors, depth=14, rename=rename, **kept)
    getattr(bit_modules, f"save_{kind}")(module, path, **options)
    return path


@pytest.mark.parametrize(
    ("form", "classes", "options"),
    [
        ("published", 0, {}),
        ("published", 21, {"rename": bit_prefix}),
        ("plain_call", 21, {"rename": "numbered"}),
        ("plain_call", 0, {"batch": 1, "side": 64}),
        ("signature_only", 21, {}),
    ],
)
def test_a_bit_saved_model_is_rebuilt(tmp_path, form, classes, options):
    tensors = weights(classes)
    path = save(form, tensors, tmp_path / "model", **options)
    info = describe(spec(path))
    assert (info.architecture, info.classes, info.rebuilt) == ("R14x1", classes, True)
    predictor = load(spec(path))
    # Also of a SavedModel that gives logits only, both come from one pass.
    assert_is_reference(predictor(pixels()), tensors)
    check = json.loads(json.dumps(predictor.checks))["saved_model"]
    assert check["runs"] == "rebuilt"
    assert check["difference"] < 1e-4
    assert check["input_range"] == [0, 1]


@pytest.mark.parametrize("form", [dict, tuple])
def test_both_outputs_are_compared(tmp_path, form):
    tensors = weights()
    path = save("both_outputs", tensors, tmp_path / "model", form=form)
    predictor = load(spec(path))
    assert predictor.checks["saved_model"]["runs"] == "rebuilt"
    assert_is_reference(predictor(pixels()), tensors)


def test_a_module_of_tensorflow_1s_range_is_rebuilt(tmp_path):
    tensors = weights()
    path = save("published", tensors, tmp_path / "model", low=0.0)
    predictor = load(spec(path))
    assert predictor.checks["saved_model"]["input_range"] == [-1, 1]
    assert_is_reference(predictor(pixels()), tensors)


def test_bit_by_name_only_runs_as_it_is(tmp_path, caplog):
    tensors = weights(0)
    path = save("published", tensors, tmp_path / "model", wrong=0.5)
    assert describe(spec(path)).rebuilt
    predictor = load(spec(path))
    check = predictor.checks["saved_model"]
    assert check["runs"] == "as it is"
    assert 0.01 < check["difference"] < 10
    assert "runs as it is" in caplog.text
    features, _ = reference(tensors)
    found = predictor(pixels()).embeddings
    np.testing.assert_allclose(found, features + 0.5, rtol=1e-3, atol=1e-4)


def other_model(path, *, call=None, side=None, outputs=("embedding",), signature=None):
    """A SavedModel that is not BiT: means of patches, times a matrix."""
    from transforms.bit.runtime import tf

    class Other(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.reshape(tf.range(15.0), [3, 5]), name="k")

    module = Other()
    spec = tf.TensorSpec([None, side, side, 3], tf.float32)

    def run(images):
        mean = tf.reduce_mean(images, [1, 2])
        values = {
            "embedding": mean @ module.kernel,
            "logits": mean @ module.kernel[:, :4] - 3,
            "map": (mean @ module.kernel)[:, None, None],
            "other": mean,
        }
        found = {name: values[name] for name in outputs}
        return found if len(found) > 1 or signature else found[outputs[0]]

    if signature:
        concrete = tf.function(lambda x: run(x)).get_concrete_function(spec)
        tf.saved_model.save(module, str(path), signatures={signature: concrete})
    else:
        module.__call__ = tf.function(run, input_signature=[spec])
        tf.saved_model.save(module, str(path))
    return path


def other_embedding():
    mean = (pixels() / 255).mean(axis=(1, 2))
    return mean @ np.arange(15.0).reshape(3, 5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"side": SIDE},
        {"outputs": ("map",)},
        {"signature": "serving_default"},
        {"signature": "embed"},
    ],
)
def test_another_model_runs_as_it_is(tmp_path, options):
    path = other_model(tmp_path / "model", **options)
    info = describe(spec(path, image_size=None if "side" in options else SIDE))
    assert (info.embedding_size, info.classes, info.image_size) == (5, 0, SIDE)
    assert not info.rebuilt
    predictor = load(spec(path, image_size=SIDE))
    found = predictor(pixels())
    np.testing.assert_allclose(found.embeddings, other_embedding(), rtol=1e-5)
    assert found.class_ids is None
    assert predictor.checks["saved_model"]["runs"] == "as it is"


def test_another_models_head_is_found(tmp_path):
    path = other_model(tmp_path / "model", outputs=("other", "embedding", "logits"))
    found = load(spec(path, top_k=1))(pixels())
    np.testing.assert_allclose(found.embeddings, other_embedding(), rtol=1e-5)
    logits = other_embedding()[:, 3] - 3
    assert found.class_ids.ravel().tolist() == [3, 3, 3]
    np.testing.assert_allclose(found.scores[:, 0], 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_a_model_of_logits_only_has_no_embedding(tmp_path):
    path = other_model(tmp_path / "model", outputs=("logits",), signature="x")
    info = describe(spec(path))
    assert (info.embedding_size, info.classes) == (0, 4)
    found = load(spec(path))(pixels())
    assert found.embeddings.shape == (3, 0)
    assert found.class_ids.shape == (3, 4)


def test_outputs_that_cannot_be_told_apart_are_named(tmp_path):
    path = other_model(tmp_path / "model", outputs=("other", "map"), signature="x")
    with pytest.raises(ModelError, match=r"returns map \[5\], other \[3\]"):
        describe(spec(path))


def test_a_fixed_size_is_kept_to(tmp_path):
    path = other_model(tmp_path / "model", side=64)
    assert describe(spec(path, image_size=None)).image_size == 64
    with pytest.raises(ModelError, match="takes images of 64 px only, not of 48 px"):
        describe(spec(path))


@pytest.mark.parametrize("inner", ["", "m-r50x1_1"])
@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar"])
def test_an_archive_is_a_saved_model(tmp_path, monkeypatch, inner, ending):
    monkeypatch.setenv("BITBEAM_CACHE", str(tmp_path / "cache"))
    tensors = weights(0)
    path = save("plain_call", tensors, tmp_path / "model")
    archive = tmp_path / f"model.{ending}"
    with tarfile.open(archive, "w" if ending == "tar" else "w:gz") as tar:
        for name in os.listdir(path):
            tar.add(path / name, os.path.join(inner, name))
    info = describe(spec(archive))
    assert (info.architecture, info.digest) == ("R14x1", describe(spec(path)).digest)


def test_the_digest_is_that_of_the_weights(tmp_path):
    tensors = weights(0)
    path = save("plain_call", tensors, tmp_path / "one")
    digest = describe(spec(path)).digest
    assert describe(spec(shutil.copytree(path, tmp_path / "copy"))).digest == digest
    tensors["resnet/group_norm/beta"][7] += 1e-3
    other = save("plain_call", tensors, tmp_path / "two")
    assert describe(spec(other)).digest != digest


def test_weights_that_are_not_finite_are_an_error(tmp_path):
    tensors = weights(0)
    tensors["resnet/group_norm/beta"][7] = np.nan
    path = save("plain_call", tensors, tmp_path / "model")
    with pytest.raises(ModelError, match=r"resnet/group_norm/beta of .* not finite"):
        load(spec(path))


def test_truncated_variables_are_an_error(tmp_path):
    path = save("plain_call", weights(0), tmp_path / "model")
    data = path / "variables" / "variables.data-00000-of-00001"
    with open(data, "r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ModelError, match=str(path)) as caught:
        load(spec(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_saved_model_is_an_error(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match=r"SavedModel .* is damaged"):
        describe(spec(tmp_path))


def test_another_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"it has no saved_model\.pb"):
        describe(spec(tmp_path))
