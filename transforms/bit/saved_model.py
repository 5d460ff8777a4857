"""SavedModel folders: what variables they have, and those variables, one by one."""

import hashlib
import math
import os
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from .architecture import Architecture, Shape, canonical_name
from .spec import ModelError

# Field numbers of TensorFlow's saved_model.proto, meta_graph.proto,
# saved_object_graph.proto and tensor_shape.proto.
_META_GRAPHS = 2
_OBJECT_GRAPH = 7
_NODES = 1
_VARIABLE = 7
_VARIABLE_SHAPE = 2
_VARIABLE_NAME = 6
_DIM = 2
_DIM_SIZE = 1

_OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


class SavedModelWeights:
    """The variables of a SavedModel of BiT, read as a checkpoint's tensors are.

    Nothing of the SavedModel's own graph is loaded for it.
    """

    def __init__(self, path: str) -> None:
        """Takes the folder of `saved_model.pb`."""
        self.path = path

    @cached_property
    def digest(self) -> str:
        """Identity of the model: of its graph, and of its variables' checksums.

        The index of the variables has the checksum of each, and is small.
        """
        digest = hashlib.sha256()
        for name in ("saved_model.pb", "variables/variables.index"):
            path = os.path.join(self.path, name)
            if os.path.exists(path):
                with open(path, "rb") as file:
                    digest.update(hashlib.sha256(file.read()).digest())
        return digest.hexdigest()[:32]

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of all variables by canonical name, read without TensorFlow.

        Raises:
          ModelError: saved_model.pb cannot be read.
        """
        try:
            with open(os.path.join(self.path, "saved_model.pb"), "rb") as file:
                named = _variables(file.read())
        except (OSError, ValueError) as error:
            raise ModelError(f"SavedModel {self.path} is damaged: {error}") from None
        shapes = {canonical_name(name): shape for name, shape in named}
        # Two variables of one canonical name: not one BiT network.
        return shapes if len(shapes) == len(named) else {}

    @cached_property
    def architecture(self) -> Architecture | None:
        """What the variables are; None if they are not BiT's."""
        shapes = self.shapes
        try:
            return Architecture.from_shapes(shapes)
        except ModelError:
            return None

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Reads the variables one by one.

        Yields:
          Canonical name, and a new float32 array that is the caller's.

        Raises:
          ModelError: A variable is missing, damaged, of another type, or not finite.
        """
        from .runtime import tf

        prefix = os.path.join(self.path, "variables", "variables")
        try:
            reader = tf.train.load_checkpoint(prefix)
            keys = _checkpoint_keys(reader)
            for name, shape in self.shapes.items():
                yield name, self._read(reader, name, key=keys.get(name), shape=shape)
        except ModelError:
            raise
        except (tf.errors.OpError, ValueError, IndexError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise ModelError(
                f"variables of {self.path} are cut short or damaged: {text}"
            ) from None

    def _read(
        self,
        reader: "object",
        name: str,
        *,
        key: str | None,
        shape: Shape,
    ) -> np.ndarray:
        if key is None:
            raise ModelError(f"variable {name} of {self.path} is missing")
        tensor = np.asarray(reader.get_tensor(key))  # type: ignore[attr-defined]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise ModelError(
                f"variable {name} of {self.path} is {tensor.dtype} {tensor.shape}, "
                f"not float32 {shape}"
            )
        if not np.isfinite(tensor).all():
            raise ModelError(
                f"variable {name} of {self.path} has values that are not finite"
            )
        return tensor


def _checkpoint_keys(reader: object) -> dict[str, str]:
    """Keys of the variables in their checkpoint, by canonical name."""
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import (
        TrackableObjectGraph,
    )

    names = reader.get_variable_to_shape_map()  # type: ignore[attr-defined]
    if _OBJECT_GRAPH_KEY not in names:
        return {canonical_name(name): name for name in names}
    packed = reader.get_tensor(_OBJECT_GRAPH_KEY)  # type: ignore[attr-defined]
    graph = TrackableObjectGraph.FromString(packed)
    return {
        canonical_name(attribute.full_name): attribute.checkpoint_key
        for node in graph.nodes
        for attribute in node.attributes
    }


def _variables(packed: bytes) -> list[tuple[str, Shape]]:
    """Reads the variables' names and shapes out of a saved_model.pb."""
    found: list[tuple[str, Shape]] = []
    for meta_graph in _fields(packed, _META_GRAPHS):
        for graph in _fields(meta_graph, _OBJECT_GRAPH):
            for node in _fields(graph, _NODES):
                found.extend(map(_variable, _fields(node, _VARIABLE)))
    return found


def _variable(packed: bytes) -> tuple[str, Shape]:
    name = b"".join(_fields(packed, _VARIABLE_NAME)).decode()
    shape = [
        math.prod(_fields(dim, _DIM_SIZE)) if _fields(dim, _DIM_SIZE) else 0
        for message in _fields(packed, _VARIABLE_SHAPE)
        for dim in _fields(message, _DIM)
    ]
    return name, tuple(shape)


def _fields(packed: bytes, number: int) -> list:  # type: ignore[type-arg]
    """All values of one field of a message, in order.

    Parsed as a message with no known fields: TensorFlow's own classes would take
    seconds to import.
    """
    from google.protobuf.empty_pb2 import Empty
    from google.protobuf.message import DecodeError
    from google.protobuf.unknown_fields import UnknownFieldSet

    try:
        message = Empty.FromString(packed)
    except DecodeError as error:
        raise ValueError(f"saved_model.pb: {error}") from None
    known = UnknownFieldSet(message)
    return [field.data for field in known if field.field_number == number]
