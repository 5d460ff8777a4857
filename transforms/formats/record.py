"""What every shard format is read into."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from ..block import Fault

Opener = Callable[[str], BinaryIO]
"""Opens a stored object for reading, from its start, by URI."""


@dataclass(frozen=True)
class Columns:
    """What a reader looks for in a shard.

    Attributes:
      image: Column or feature with the encoded image; None: found by its usual name.
      key: Column or feature with the image's name; None: found by its usual name.
      keep: Columns, features or tar members to carry along, with their types.
    """

    image: str | None = None
    key: str | None = None
    keep: pa.Schema = field(default_factory=lambda: pa.schema([]))


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a shard.

    Attributes:
      key: The image's own name; None where the shard gives it none.
      image: The encoded image; None only where `fault` says why.
      kept: Values of `Columns.keep` by name; a missing one is null.
      fault: What is wrong with the row as far as a reader can tell.
      offset: Byte of a tar or TFRecord file from which reading gives this row and
        those after it; None where there is none such.
    """

    key: str | None
    image: bytes | None
    kept: Mapping[str, object] = field(default_factory=dict)
    fault: Fault | None = None
    offset: int | None = field(default=None, compare=False)


class DamagedShardError(Exception):
    """The shard's content ends here, before its end.

    Not for storage that fails: that raises what the storage raised, and the row
    would be read well another time.

    Attributes:
      error: A short stable name: `truncated_shard` or `corrupt_shard`.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


class ColumnError(ValueError):
    """A column that was asked for is not there, or it cannot be told which is meant."""
