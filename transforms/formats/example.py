"""tf.Example without TensorFlow: the message, and what of it makes a record."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from ..block import Fault
from .kept import fit
from .names import IMAGE_COLUMNS, KEY_COLUMNS
from .record import ColumnError, Columns, Record

Features = Mapping[str, Any]
"""Features by name, each a message of kind bytes_list, float_list or int64_list."""

_KINDS = {
    "bytes_list": pa.binary(),
    "float_list": pa.float32(),
    "int64_list": pa.int64(),
}

_Field = descriptor_pb2.FieldDescriptorProto


def parse(data: bytes) -> Features | None:
    """The features of a serialized tf.Example; None if the bytes are none."""
    try:
        return _EXAMPLE.FromString(data).features.feature
    except DecodeError:
        return None


def serialize(features: Mapping[str, bytes]) -> bytes:
    """A tf.Example with one value of bytes in each feature."""
    example = _EXAMPLE()
    for name, value in features.items():
        example.features.feature[name].bytes_list.value.append(value)
    return example.SerializeToString(deterministic=True)


def to_records(features: Features, *, columns: Columns) -> Iterator[Record]:
    """A row for each image of the example, or one with a fault."""
    key = _key(features, name=columns.key)
    images = _images(features, name=columns.image)
    kept, fault = _all_kept(features, keep=columns.keep)
    for image in images:
        yield Record(key, image, kept, fault)
    if not images:
        wanted = columns.image or "image/encoded or the like"
        message = f"no feature {wanted} with bytes; there are {names(features)}"
        yield Record(key, None, kept, Fault("read", "no_image", message))


def kept_type(found: list[Features], *, name: str) -> pa.DataType | None:
    """The type that holds this feature of all examples; None if none has it."""
    values = [_values(features[name]) for features in found if name in features]
    kinds = {kind for kind, held in values if held}
    if not kinds:
        return None
    if len(kinds) > 1:
        raise ColumnError(
            f"feature {name!r} is of several kinds: {', '.join(sorted(kinds))}"
        )
    kind = _KINDS[kinds.pop()]
    if kind == pa.binary() and all(
        _is_utf8(item) for _, held in values for item in held
    ):
        kind = pa.string()
    is_list = any(len(held) > 1 for _, held in values)
    return pa.list_(kind) if is_list else kind


def has_image(features: Features, *, name: str | None) -> bool:
    """Whether the example has the image's feature, be it empty."""
    wanted = IMAGE_COLUMNS if name is None else (name,)
    return any(
        features[each].WhichOneof("kind") == "bytes_list"
        for each in wanted
        if each in features
    )


def names(features: Features) -> str:
    """The names of the features, for a message."""
    return ", ".join(sorted(features)[:40]) or "none"


def _images(features: Features, *, name: str | None) -> list[bytes]:
    for wanted in IMAGE_COLUMNS if name is None else (name,):
        if wanted in features:
            images = list(features[wanted].bytes_list.value)
            if images:
                return images
    return []


def _key(features: Features, *, name: str | None) -> str | None:
    for wanted in KEY_COLUMNS if name is None else (name,):
        if wanted in features:
            _, values = _values(features[wanted])
            if values and values[0] != b"":
                return str(fit(values[0], pa.string()))
    return None


def _all_kept(
    features: Features, *, keep: pa.Schema
) -> tuple[dict[str, object], Fault | None]:
    kept: dict[str, object] = {}
    fault = None
    for wanted in keep:
        if wanted.name in features:
            try:
                kept[wanted.name] = _kept(features[wanted.name], kind=wanted.type)
            except ValueError as error:
                message = f"{wanted.name!r}: {error}"
                fault = Fault("read", "column_mismatch", message)
    return kept, fault


def _kept(feature: Any, *, kind: pa.DataType) -> object:
    _, values = _values(feature)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [fit(value, kind.value_type) for value in values]
    if len(values) > 1:
        raise ValueError(f"{len(values)} values where one was expected")
    return fit(values[0], kind) if values else None


def _values(feature: Any) -> tuple[str, list[Any]]:
    kind = feature.WhichOneof("kind")
    return (kind, list(getattr(feature, kind).value)) if kind else ("", [])


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _field(
    name: str, number: int, kind: int, *, of: str = "", many: bool = False
) -> Any:
    label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
    type_name = f".bitbeam.{of}" if of else None
    return _Field(name=name, number=number, type=kind, label=label, type_name=type_name)


def _example_class() -> Any:
    """Builds tensorflow/core/example/{feature,example}.proto, in a pool of our own.

    The default pool would refuse the file's second definition in a process where
    TensorFlow is loaded.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="bitbeam/example.proto", package="bitbeam", syntax="proto3"
    )

    def message(name: str, *fields: Any) -> Any:
        return file.message_type.add(name=name, field=fields)

    message("BytesList", _field("value", 1, _Field.TYPE_BYTES, many=True))
    message("FloatList", _field("value", 1, _Field.TYPE_FLOAT, many=True))
    message("Int64List", _field("value", 1, _Field.TYPE_INT64, many=True))
    feature = message(
        "Feature",
        _field("bytes_list", 1, _Field.TYPE_MESSAGE, of="BytesList"),
        _field("float_list", 2, _Field.TYPE_MESSAGE, of="FloatList"),
        _field("int64_list", 3, _Field.TYPE_MESSAGE, of="Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    entry = "Features.FeatureEntry"
    features = message(
        "Features", _field("feature", 1, _Field.TYPE_MESSAGE, of=entry, many=True)
    )
    nested = features.nested_type.add(name="FeatureEntry")
    nested.options.map_entry = True
    nested.field.add().CopyFrom(_field("key", 1, _Field.TYPE_STRING))
    nested.field.add().CopyFrom(_field("value", 2, _Field.TYPE_MESSAGE, of="Feature"))
    message("Example", _field("features", 1, _Field.TYPE_MESSAGE, of="Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("bitbeam.Example")
    )


_EXAMPLE = _example_class()
