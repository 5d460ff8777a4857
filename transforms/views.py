"""Columns that show values where they lie, without a copy."""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_LARGEST = (1 << 31) - 1
"""A view has 32 bits for a length."""

# Arrow's columnar format, "Variable-size Binary View Layout": a short value lies in the
# view itself, a long one in a buffer that it names.
_SHORT = struct.Struct("<i12s")
_LONG = struct.Struct("<i4sii")
_MOST_SHORT = 12


def column_of(values: Sequence[bytes | None]) -> pa.Array:
    """A column of values, each of which stays where it is.

    `pa.array` would copy them all, and hold the GIL for it: milliseconds for a block of
    images, in which no decoder goes on.

    Returns:
      binary_view; large_binary, and a copy, where a value has 2 GiB or more.
    """
    if any(value is not None and len(value) > _LARGEST for value in values):
        return pa.array(values, pa.large_binary())
    views, buffers = bytearray(), list[pa.Buffer]()
    for value in values:
        data = b"" if value is None else value
        if len(data) <= _MOST_SHORT:
            views += _SHORT.pack(len(data), data)
        else:
            views += _LONG.pack(len(data), data[:4], len(buffers), 0)
            buffers.append(pa.py_buffer(data))
    valid = validity_of([value is not None for value in values])
    buffers = [valid, pa.py_buffer(bytes(views)), *buffers]
    return pa.Array.from_buffers(pa.binary_view(), len(values), buffers)


def array_of(kind: pa.DataType, values: np.ndarray, *, valid: pa.Buffer) -> pa.Array:
    """`[rows, ...]` as an Arrow array of one value of a fixed size a row.

    Not `pa.array`: between two blocks the caches lose its code, and whatever a thread
    of the decoder does in between, the others wait for the GIL.
    """
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)])


def validity_of(rows: npt.ArrayLike) -> pa.Buffer:
    """Arrow's bitmap of rows that are there, from true and false."""
    bits = np.packbits(np.asarray(rows, np.bool_), bitorder="little")
    return pa.py_buffer(bits)


def values_of(column: pa.Array) -> list[memoryview | None]:
    """The values of a binary_view or large_binary column, where they lie.

    `column[row].as_py()` would copy each twice, and hold the GIL for it.
    """
    _, places, *buffers = column.buffers()
    rows = range(column.offset, column.offset + len(column))
    places, *data = (memoryview(each or b"") for each in (places, *buffers))
    if column.type == pa.large_binary():
        offsets = places.cast("q")
        found = [data[0][offsets[row] : offsets[row + 1]] for row in rows]
    else:
        found = [_seen(places[16 * row : 16 * row + 16], data) for row in rows]
    valid = column.is_valid().to_pylist()
    return [value if there else None for value, there in zip(found, valid, strict=True)]


def nbytes_of(column: pa.Array) -> int:
    """Bytes of a column's values, which older pyarrow cannot say of a binary_view."""
    if column.type != pa.binary_view():
        return int(column.nbytes)
    views = np.frombuffer(column.buffers()[1] or b"", np.int32).reshape(-1, 4)
    rows = slice(column.offset, column.offset + len(column))
    return views[rows].nbytes + int(views[rows, 0].sum())


def _seen(view: memoryview, buffers: Sequence[memoryview]) -> memoryview:
    length, _, buffer, offset = _LONG.unpack(view)
    if length <= _MOST_SHORT:
        return view[4 : 4 + length]
    return buffers[buffer][offset : offset + length]
