"""Names: every way to write one leads to its model, and others to the nearest."""

import hashlib

import pytest

from transforms.bit import ModelError, ModelSpec, describe, models_table
from transforms.bit.collection import find

# Names of tensorflow_hub's cache folders, from a list made apart from this code.
FOLDERS = {
    "s-r50x1/1": "944809b9eb6f17d7980830424ac6948e8a4d19b8",
    "s-r101x1/1": "85fb08554b5ea65b4d8a1d731644f93c275b3d77",
    "s-r101x3/1": "5f2464b94049709ff433bf4e57c63999d1483dbc",
    "m-r50x1/1": "4ff8fefe176c863be939e3880dfa769989df4e32",
    "m-r50x3/1": "d00fb8e8cb368ee0d813059850fc824ced943fb7",
    "m-r101x1/1": "b7002f258e54c3800e9fc7daadbeb44b185a6ae5",
    "m-r101x3/1": "a73a7816eee0dff09f58c7a8d9ffd38eb0af62a8",
    "m-r152x4/1": "2dadd1c930fb055f21271fb217e980749ec3eaa4",
    "m-r50x1/imagenet21k_classification/1": "04f64fde9d413cff11e139dc8ed7d33da8ca8274",
    "m-r101x3/imagenet21k_classification/1": (
        "9ece57bb1b664b5e10d54f6dc1a0e99d1ce7ac78"
    ),
    "m-r152x4/imagenet21k_classification/1": (
        "60b39b8d86b5175b3af0c121f336b64eb5dd1e29"
    ),
}


@pytest.mark.parametrize(("tail", "folder"), FOLDERS.items())
def test_modules_have_the_urls_of_their_cache_folders(tail, folder):
    module = find(f"google/bit/{tail}")
    assert hashlib.sha1(module.url.encode()).hexdigest() == folder


def test_all_published_models_are_there():
    table = models_table()
    modules = [one for one in table if one.source == "hub"]
    assert len(modules) == 25
    assert sum(one.classes == 0 for one in modules) == 10
    assert sum(one.classes == 1_000 for one in modules) == 10
    assert sum(one.classes == 21_843 for one in modules) == 5
    assert sum("-run" in one.name for one in table) == 285
    assert len({one.name for one in table}) == len(table)


@pytest.mark.parametrize(
    ("name", "size", "classes", "parameters", "side"),
    [
        ("google/bit/s-r101x1/1", 2048, 0, 42_492_480, 224),
        (
            "google/bit/m-r101x3/imagenet21k_classification/1",
            *(6144, 21_843, 516_015_123, 224),
        ),
        (
            "google/bit/m-r152x4/ilsvrc2012_classification/1",
            *(8192, 1_000, 936_533_224, 480),
        ),
        ("BiT-S-R50x3", 6144, 1_000, 217_319_080, 224),
        ("BiT-M-R50x1", 2048, 21_843, 68_256_659, 224),
        ("BiT-M-R101x1-ILSVRC2012", 2048, 1_000, 44_541_480, 384),
        ("R152x2_T_384", 4096, 1_000, 236_335_208, 384),
    ],
)
def test_the_table_says_what_a_model_is(name, size, classes, parameters, side):
    found = find(name)
    assert found.embedding_size == size
    assert found.classes == classes
    assert found.parameters == parameters
    assert found.image_size == side


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://tfhub.dev/google/bit/m-r50x1/1", "google/bit/m-r50x1/1"),
        ("https://tfhub.dev/google/bit/m-r50x1/1/", "google/bit/m-r50x1/1"),
        ("http://tfhub.dev/google/bit/m-r50x1/1?x=y", "google/bit/m-r50x1/1"),
        (
            "https://www.kaggle.com/models/google/bit/TensorFlow2/s-r101x1/1",
            "google/bit/s-r101x1/1",
        ),
        (
            "https://www.kaggle.com/models/google/bit/frameworks/tensorFlow2/"
            "variations/m-r101x3-imagenet21k-classification/versions/1",
            "google/bit/m-r101x3/imagenet21k_classification/1",
        ),
        (
            "google/bit/tensorFlow2/m-r50x1-ilsvrc2012-classification/1",
            "google/bit/m-r50x1/ilsvrc2012_classification/1",
        ),
        ("vtab/BiT-M-R50x1-run2-dtd", "BiT-M-R50x1-run2-dtd"),
        ("distill/R50x1_224", "R50x1_224"),
    ],
)
def test_every_way_to_write_a_name_is_understood(written, name):
    assert find(written).name == name


def test_every_url_of_a_module_means_it():
    for one in models_table():
        if one.source == "hub":
            assert {find(url).name for url in one.urls} == {one.name}


def test_checkpoints_lie_where_they_are_published():
    base = "https://storage.googleapis.com/bit_models/"
    assert find("BiT-M-R101x3").url == base + "BiT-M-R101x3.npz"
    assert find("R50x1_160").url == base + "distill/R50x1_160.npz"
    svhn = "BiT-M-R50x3-run1-svhn"
    assert find(svhn).url == f"{base}vtab/{svhn}.npz"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("google/bit/m-r50x1", "google/bit/m-r50x1/1"),
        ("bit-m-r50x1", "BiT-M-R50x1"),
        ("BiT-M-R101x3-ILSVRC", "BiT-M-R101x3-ILSVRC2012"),
        (
            "google/bit/m-r101x1/imagenet21k/1",
            "google/bit/m-r101x1/imagenet21k_classification/1",
        ),
    ],
)
def test_a_name_that_is_nearly_right_gets_the_nearest(wrong, meant):
    with pytest.raises(ModelError, match="did you mean") as caught:
        describe(ModelSpec(wrong))
    hint = str(caught.value).split("did you mean ")[1]
    assert hint.startswith(meant + " or ")
    assert "\n" not in str(caught.value)


def test_a_name_like_nothing_gets_no_hint():
    with pytest.raises(ModelError) as caught:
        describe(ModelSpec("xyz"))
    assert "did you mean" not in str(caught.value)


def test_a_missing_file_of_a_known_name_says_how_to_download_it(tmp_path):
    with pytest.raises(ModelError, match=r"to download it, give BiT-M-R50x1$"):
        describe(ModelSpec(str(tmp_path / "BiT-M-R50x1.npz")))
