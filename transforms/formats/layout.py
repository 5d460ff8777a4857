"""Where in a Parquet schema the image, its name and the kept columns are."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from .kept import is_bytes, is_text
from .names import IMAGE_COLUMNS, KEY_COLUMNS
from .record import ColumnError, Columns


@dataclass(frozen=True)
class Layout:
    """What to read of a file.

    Attributes:
      image: The image's column.
      is_struct: It is Hugging Face's struct of `bytes` and `path`.
      has_path: That struct has a `path`, which is the image's key.
      key: The key's column otherwise; None if there is none.
      kept: The columns to keep that the file has.
    """

    image: str
    is_struct: bool
    has_path: bool
    key: str | None
    kept: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Paths of the columns to read, and no others."""
        image = [f"{self.image}.bytes"] if self.is_struct else [self.image]
        path = [f"{self.image}.path"] if self.has_path else []
        key = [self.key] if self.key is not None else []
        return [*image, *path, *key, *self.kept]


def find_layout(schema: pa.Schema, *, columns: Columns, uri: str) -> Layout:
    """Finds the columns, by their given or their usual names.

    Raises:
      ColumnError: The image's or the key's column is not there, or it cannot be told
        which is the image's.
    """
    image = _find_image(schema, name=columns.image, uri=uri)
    kind = plain_type(schema.field(image).type)
    is_struct = bool(pa.types.is_struct(kind))
    has_path = is_struct and kind.get_field_index("path") >= 0
    if columns.key is not None:
        _check_name(schema, columns.key, uri=uri)
        has_path = False
    kept = tuple(name for name in columns.keep.names if name in schema.names)
    key = columns.key or _first(schema, KEY_COLUMNS, fits=_names_image)
    return Layout(image, is_struct, has_path, key, kept)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves, of a dictionary or an extension type."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return kind


def _find_image(schema: pa.Schema, *, name: str | None, uri: str) -> str:
    if name is not None:
        _check_name(schema, name, uri=uri)
        kind = plain_type(schema.field(name).type)
        if not (_holds_image(kind) or is_text(kind)):
            raise ColumnError(f"column {name!r} of {uri} is {kind}, which is no image")
        return name
    usual = _first(schema, IMAGE_COLUMNS, fits=_holds_image)
    if usual is not None:
        return usual
    able = [field.name for field in schema if _holds_image(plain_type(field.type))]
    if len(able) == 1:
        return str(able[0])
    which = f"one of {', '.join(able)}" if able else f"none of {_names(schema)}"
    raise ColumnError(f"cannot tell the image column of {uri}: {which}; name it")


def _check_name(schema: pa.Schema, name: str, *, uri: str) -> None:
    if schema.get_field_index(name) < 0:
        raise ColumnError(f"no column {name!r} in {uri}: there are {_names(schema)}")


def _first(
    schema: pa.Schema, names: tuple[str, ...], *, fits: Callable[[pa.DataType], bool]
) -> str | None:
    usual = {
        field.name.lower(): str(field.name)
        for field in schema
        if fits(plain_type(field.type))
    }
    return next((usual[name] for name in names if name in usual), None)


def _holds_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and is_bytes(kind.field(at).type)
    return is_bytes(kind)


def _names_image(kind: pa.DataType) -> bool:
    return is_text(kind) or is_bytes(kind) or bool(pa.types.is_integer(kind))


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names[:40]) or "none"
