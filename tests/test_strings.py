"""Columns of strings and files read as tuples of them, in the order of Python's."""

import pickle
import random
import sys

import numpy as np
import pytest

from transforms import File
from transforms.files import Files
from transforms.strings import Strings

ODD = ("b", "a\udcff", "a\uffee", "\U0001f600", "é", "", "a", "\ud7ff", "a\udc80x")
"""By their code points the surrogates, which are no UTF-8, are not the last."""


def test_they_read_as_a_tuple() -> None:
    strings = Strings(ODD)
    assert strings == ODD and strings == ODD
    assert [strings[row] for row in range(9)] == list(ODD)
    assert (strings[-1], strings[2:4], strings[::-4]) == (
        ODD[-1],
        ODD[2:4],
        ODD[::-4],
    )
    assert strings != ODD[:-1] and strings != (*ODD[:-1], "other")
    assert hash(strings) == hash(ODD)
    assert Strings() == () and not Strings()
    with pytest.raises(IndexError):
        strings[9]


@pytest.mark.parametrize("seed", range(20))
def test_their_order_is_that_of_the_strings(seed: int) -> None:
    dice = random.Random(seed)
    texts = dice.choices([*ODD, *(a + b for a in ODD for b in ODD)], k=60)
    strings = Strings(texts)
    assert list(strings.once()) == sorted(set(texts))
    rows = strings.order()
    assert rows is not None
    assert rows.tolist() == sorted(range(60), key=texts.__getitem__)


def test_what_is_in_order_is_not_copied() -> None:
    strings = Strings(sorted(ODD))
    assert strings.once() is strings
    assert strings.order() is None
    assert Strings(["a", "a"]).order() is None
    assert Strings(["a", "a"]).once() == ("a",)


def test_the_place_of_a_string_is_found_from_wherever_it_is_looked_for() -> None:
    texts = sorted(ODD)
    strings = Strings(texts)
    for text in (*ODD, "0", "a\udcfe", "zz", "\U0001f601"):
        place = sum(each < text for each in texts)
        assert {strings.place(text, near=near) for near in range(10)} == {place}
        assert strings.is_at(place, text) == (text in ODD)


def test_what_is_no_text_is_told() -> None:
    assert Strings(["é", "\ud7ff", "\U0001f600"]).is_text
    assert not Strings(["é", "caf\udce9"]).is_text


def test_of_files_with_one_uri_the_first_stays() -> None:
    files = [File("b", 1, 1.0), File("a", 2, 2.0), File("b", 3, 3.0), File("a", 4, 4.0)]
    assert Files(files).once() == (files[1], files[0])
    in_order = Files([File("a", 1, 1.0), File("b", 2, 0.1)])
    assert in_order.once() is in_order


def test_a_view_of_files_is_some_of_them() -> None:
    files = [File(f"gs://b/{n}", 10**12 + n, n / 7) for n in range(9)]
    part = Files(files)[2:7]
    assert part == tuple(files[2:7])
    assert (part.size, part[1:][0]) == (5 * 10**12 + 20, files[3])
    assert list(part.facts()) == [(f.uri, f.size, f.updated) for f in files[2:7]]
    assert part.take(np.array([3, 2])) == (files[5], files[4])
    assert pickle.loads(pickle.dumps(part)) == part


def test_a_part_of_many_files_does_not_take_them_along() -> None:
    files = Files(File(f"gs://bucket/{n}", n, 0.0) for n in range(10_000))
    assert len(pickle.dumps(files[7:9])) < 500


def test_a_column_is_little_more_than_the_bytes() -> None:
    strings = Strings(f"gs://bucket/data/{n:08d}.jpg" for n in range(100_000))
    used = sys.getsizeof(strings._bytes) + sys.getsizeof(strings._ends)
    assert used < 1.3 * 100_000 * (29 + 8)
