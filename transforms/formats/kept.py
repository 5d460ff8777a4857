"""Columns that are carried from the input to the output: their types and values."""

import pyarrow as pa

from .record import ColumnError

FAILED_CASTS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
)
"""What pyarrow raises where a value does not fit a type."""


def parse_keep(text: str) -> tuple[str, pa.DataType | None]:
    """Splits `name` or `name:type`.

    The types are Arrow's, by their names: `int64`, `float32`, `string`, `binary`,
    `bool`, `timestamp[us]`, `list<float32>` and so on.

    Raises:
      ColumnError: There is no name, or no such type.
    """
    name, colon, kind = text.rpartition(":")
    if not colon:
        name, kind = kind, ""
    if not name or (colon and not kind):
        raise ColumnError(f"a column to keep is `name` or `name:type`, not {text!r}")
    return name, parse_type(kind) if colon else None


def parse_type(text: str) -> pa.DataType:
    """The Arrow type of that name; `list<item>` of any of them.

    Raises:
      ColumnError: There is none.
    """
    if text.startswith("list<") and text.endswith(">"):
        return pa.list_(parse_type(text[5:-1]))
    try:
        return pa.type_for_alias(text)
    except ValueError as error:
        raise ColumnError(
            f"no type {text!r}: use int64, float32, float64, bool, string, binary,"
            " timestamp[us], list<int64>, ..."
        ) from error


def fit(value: object, kind: pa.DataType) -> object:
    """The value as one that an Arrow array of that type takes, if nothing is lost.

    Text that is not UTF-8 has its odd bytes replaced by backslash escapes: a caption
    in another encoding is no reason to give up its image.

    Args:
      value: bytes, str, bool, int, float or None.
      kind: Any type that is not nested.

    Raises:
      ValueError: The value cannot be had in this type.
    """
    if value is None or (type(value) is int and kind == pa.int64()):
        return value
    if isinstance(value, bytes):
        if is_bytes(kind):
            return value
        value = value.decode("utf-8", "backslashreplace")
        if is_text(kind):
            return value
        value = value.strip()
    try:
        return pa.array([value]).cast(kind)[0].as_py()
    except FAILED_CASTS as error:
        raise ValueError(f"{_short(value)} is no {kind}") from error


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values of the type are bytes of any length."""
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def is_text(kind: pa.DataType) -> bool:
    """Whether values of the type are text."""
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
