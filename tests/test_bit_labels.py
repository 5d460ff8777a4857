"""Class names: the right ones, in the right order."""

from collections import Counter

import numpy as np
import pytest

from transforms.bit import ModelError, ModelSpec, describe, load_class_names


def names_of(name, **options):
    return load_class_names(describe(ModelSpec(name, **options)))


@pytest.mark.parametrize(
    ("class_id", "wnid", "words"),
    [
        (0, "n00004475", "organism, being"),
        (3674, "n02504458", "African elephant, Loxodonta africana"),
        (9205, "n03931044", "picture, image, icon, ikon"),
        (15027, "n09859684", "bleacher"),
        (21842, "n15102894", "knothole"),
    ],
)
def test_imagenet21k_is_in_class_order(class_id, wnid, words):
    names = names_of("random:R14x1:21843")
    assert len(names) == 21_843
    wnids, labels = names.take(np.array([class_id], np.int32))
    assert (wnids[0].as_py(), labels[0].as_py()) == (wnid, words)


def test_ilsvrc2012_is_in_class_order():
    names = names_of("random:R14x1:1000")
    assert len(names) == 1000
    wnids, labels = names.take(np.array([385, 0, 999]))
    assert labels.to_pylist()[0] == "Indian elephant, Elephas maximus"
    assert wnids.to_pylist() == ["n02504013", "n01440764", "n15075141"]
    # One class of ILSVRC-2012 is none of ImageNet-21k.
    assert "n04399382" in names.wnids.to_pylist()


def test_words_are_no_key():
    counts = Counter(names_of("random:R14x1:21843").labels.to_pylist())
    assert sum(count > 1 for count in counts.values()) == 525


def test_lookups_keep_row_order():
    names = names_of("random:R14x1:1000")
    wnids, _ = names.take(np.array([[3, 1], [2, 0]]))
    assert wnids.to_pylist() == [names.wnids[i].as_py() for i in (3, 1, 2, 0)]


def test_classes_that_nobody_named_are_null():
    names = names_of("random:R14x1:10")
    wnids, labels = names.take(np.array([0, 9]))
    assert wnids.to_pylist() == labels.to_pylist() == [None, None]


def test_a_file_names_the_classes(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\nn02084071\tdog, domestic dog\nred panda\n")
    wnids, labels = names_of("random:R14x1:3", labels=str(path)).take(np.arange(3))
    assert wnids.to_pylist() == [None, "n02084071", None]
    assert labels.to_pylist() == ["cat", "dog, domestic dog", "red panda"]


def test_names_that_do_not_fit_the_head_are_an_error(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\n")
    with pytest.raises(ModelError, match=r"has 1 lines and model .* has 3 classes"):
        names_of("random:R14x1:3", labels=str(path))
    with pytest.raises(ModelError, match="'imagenet21k' has 21843 names"):
        names_of("random:R14x1:3", labels="imagenet21k")
    with pytest.raises(ModelError, match="cannot be read"):
        names_of("random:R14x1:3", labels=str(tmp_path / "none"))
