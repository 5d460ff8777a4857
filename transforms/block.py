"""Blocks: what travels between the steps of the graph."""

import json
from dataclasses import asdict, dataclass

import pyarrow as pa
from apache_beam import coders

from .views import nbytes_of

KEPT = "kept:"
"""Prefix of the columns that are carried from the input, so that none of them can
collide with a column of ours."""

FAULT_FIELDS = (
    pa.field("stage", pa.string()),
    pa.field("error", pa.string()),
    pa.field("message", pa.string()),
)
"""Columns of every block that say what is wrong with a row; null in a good one."""

VERSION = "version"
"""Column of the blocks of plain files: each file's version when it was listed."""

_PLACE = b"bitbeam.place"


@dataclass(frozen=True)
class Place:
    """Where a block belongs.

    Attributes:
      shard: The shard's URI.
      name: The shard's name, the stem of its part files.
      part: First row of the part that the block lies in.
      row: The block's own first row in the shard.
      ends_part: The part's last block.
      ends_shard: The shard's last block, so its last part's last.
      resume_at: At the end of a part, the byte of the shard from which reading gives
        the next row; None where there is none such.
    """

    shard: str
    name: str
    part: int
    row: int
    ends_part: bool
    ends_shard: bool
    resume_at: int | None = None


@dataclass(frozen=True)
class Fault:
    """Why a row is bad.

    Attributes:
      stage: `read`, `decode` or `predict`.
      error: A short stable name, `snake_case`.
      message: One line for a person.
    """

    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one part, in order, as an Arrow record batch.

    A block never crosses the border of a part. It may have no rows: an empty shard
    is one empty block that ends it.
    """

    place: Place
    rows: pa.RecordBatch

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.place.row + self.rows.num_rows

    @property
    def nbytes(self) -> int:
        """Bytes of the rows' values."""
        return sum(map(nbytes_of, self.rows.columns))


class BlockCoder(coders.Coder):
    """A block as one Arrow IPC stream, its place in the schema's metadata.

    Without it Beam would pickle whole batches to guess their size, and pickling a
    slice of a batch writes all of its parent's buffers.
    """

    def encode(self, value: Block) -> bytes:
        place = {_PLACE: json.dumps(asdict(value.place), sort_keys=True).encode()}
        rows = value.rows.replace_schema_metadata(place)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_batch(rows)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> Block:
        rows = pa.ipc.open_stream(encoded).read_next_batch()
        place = Place(**json.loads(rows.schema.metadata[_PLACE]))
        return Block(place, rows.replace_schema_metadata(None))

    def estimate_size(self, value: Block) -> int:
        return value.nbytes

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Block]:
        return Block


coders.registry.register_coder(Block, BlockCoder)
