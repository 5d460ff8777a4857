"""Rows of a Parquet file as records."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ..block import Fault
from .kept import FAILED_CASTS, is_text
from .layout import Layout
from .record import Columns, Record


def to_records(
    batch: pa.RecordBatch, *, layout: Layout, columns: Columns
) -> Iterator[Record]:
    """The records of a batch that has the layout's columns, in order."""
    image = _plain(batch.column(layout.image))
    paths: list[str | None] = [None] * len(batch)
    if layout.has_path:
        paths = _texts(pc.struct_field(image, "path"))
    if layout.is_struct:
        image = pc.struct_field(image, "bytes")
    names: list[str | None] = [None] * len(batch)
    if layout.key is not None:
        names = _texts(_plain(batch.column(layout.key)))
    kept = {
        wanted.name: _values(_plain(batch.column(wanted.name)), kind=wanted.type)
        for wanted in columns.keep
        if wanted.name in layout.kept
    }
    images = (image.cast(pa.binary()) if is_text(image.type) else image).to_pylist()
    for row, data in enumerate(images):
        values = {name: column[row] for name, column in kept.items()}
        yield _record(paths[row] or names[row], data, values)


def _record(key: str | None, image: bytes | None, kept: dict[str, object]) -> Record:
    fault = None
    for name, value in kept.items():
        if isinstance(value, _Misfit):
            fault = Fault("read", "column_mismatch", f"{name!r}: {value}")
    if fault is not None:
        kept = {}
    if image is None:
        fault = Fault("read", "no_image", "the image is null")
    return Record(key, image, kept, fault)


class _Misfit(str):
    """Why a value cannot be had in the type that was asked for."""

    __slots__ = ()


def _plain(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.DictionaryArray):
        return _plain(column.dictionary_decode())
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    return column


def _texts(column: pa.Array) -> list[str | None]:
    """Values as text, of a column that may be bytes, numbers or text not in UTF-8."""
    # Neither the writer nor pyarrow checks that a string column is UTF-8.
    values = (column.cast(pa.binary()) if is_text(column.type) else column).to_pylist()
    return [_text(value) for value in values]


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return None if value is None else str(value)


def _values(column: pa.Array, *, kind: pa.DataType) -> list[object]:
    """The column in another type, as Arrow takes it back; misfits in their place."""
    try:
        return _convert(column, kind=kind)
    except (*FAILED_CASTS, UnicodeDecodeError):
        return [_value(column.slice(row, 1), kind=kind) for row in range(len(column))]


def _value(one: pa.Array, *, kind: pa.DataType) -> object:
    try:
        return _convert(one, kind=kind)[0]
    except (*FAILED_CASTS, UnicodeDecodeError) as error:
        return _Misfit(str(error).splitlines()[0])


def _convert(column: pa.Array, *, kind: pa.DataType) -> list[object]:
    if is_text(kind) and (is_text(column.type) or pa.types.is_binary(column.type)):
        return list(_texts(column))
    column = column if column.type == kind else column.cast(kind)
    # As Python values, times would lose their nanoseconds.
    return list(column) if pa.types.is_temporal(kind) else column.to_pylist()
