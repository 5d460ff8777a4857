"""Columns of bytes that are not copied."""

import pyarrow as pa
import pytest

from transforms import views
from transforms.views import column_of, nbytes_of, values_of

VALUES = [b"", None, b"twelve bytes", b"thirteen byte", b"x" * 100_000, None, b"y"]


@pytest.mark.parametrize("values", [VALUES, VALUES[::-1], [None], [b""], []])
def test_a_column_holds_the_values(values: list[bytes | None]) -> None:
    column = column_of(values)
    column.validate(full=True)
    assert column.type == pa.binary_view()
    assert column.to_pylist() == values


def test_a_long_value_is_not_copied() -> None:
    value = b"z" * 1000
    [_, _, data] = column_of([value]).buffers()
    assert data.address == pa.py_buffer(value).address


@pytest.mark.parametrize("values", [VALUES, [None], [b""], []])
@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary()])
def test_the_values_of_a_column_are_read(
    values: list[bytes | None], kind: pa.DataType
) -> None:
    assert values_of(pa.array(values, kind)) == values


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.large_binary()])
def test_the_values_of_a_slice_are_read(kind: pa.DataType) -> None:
    assert values_of(pa.array(VALUES, kind)[2:6]) == VALUES[2:6]


def test_a_value_too_long_for_a_view_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_LARGEST", 12)
    column = column_of(VALUES)
    assert column.type == pa.large_binary()
    assert values_of(column) == VALUES


def test_the_bytes_of_a_column_are_those_of_its_values() -> None:
    column = column_of(VALUES)
    # A view has 16 bytes.
    shown = sum(len(value) for value in VALUES if value)
    assert nbytes_of(column) == 16 * len(VALUES) + shown
    assert nbytes_of(column[5:]) == 2 * 16 + 1
    assert nbytes_of(column_of([])) == 0
    numbers = pa.array([1, 2, 3], pa.int64())
    assert nbytes_of(numbers) == 24
