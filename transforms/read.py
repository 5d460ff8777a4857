"""ReadImages: shards to blocks of encoded images."""

import time
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from . import metrics, shift, storage
from .ahead import read_ahead
from .block import FAULT_FIELDS, KEPT, VERSION, Block, Fault, Place
from .formats import Columns, DamagedShardError, Record, read_records
from .shard import Shard
from .views import column_of

_LOCAL_AHEAD_BYTES = 8 << 20
_REMOTE_AHEAD_BYTES = 64 << 20
"""Encoded images that may wait for the decoder, a shard. A store may take long to
answer; a disk does not, and its reader takes the GIL from the first images' decoder."""

_BLOCK_BYTES = 32 << 20
"""Encoded images in a block; one that reaches it ends, however few they are."""


class Cut(NamedTuple):
    """How a shard is cut.

    Attributes:
      block: Rows of a block at most.
      part: Rows of a part, which is one output file.
    """

    block: int
    part: int


def cut_blocks(
    shard: Shard, records: Iterable[Record], *, columns: Columns, cut: Cut
) -> Iterator[Block]:
    """Cuts a shard's records into blocks, none across the border of a part.

    A block has fewer rows than it may where its images are large. Damage to the
    shard becomes a last row, so that what follows it is missed by nobody. A shard
    without records is one empty block. Parts in `shard.done_parts` are passed over.

    Yields:
      Blocks of the columns `key` string, `image` binary_view (large_binary where one
      has 2 GiB), the fault columns and the kept ones, and of plain files `version`
      string; in order, the last marked as the shard's last.
    """
    schema = _schema(columns)
    waiting: list[Record] = []
    first = shard.start_row
    held = 0

    def block(*, following: Record | None) -> Iterator[Block]:
        part = first - first % cut.part
        if part in shard.done_parts:
            return
        ends_shard = following is None
        ends_part = ends_shard or (first + len(waiting)) % cut.part == 0
        resume_at = following.offset if following and ends_part else None
        place = Place(
            *(shard.uri, shard.name, part, first),
            *(ends_part, ends_shard, resume_at),
        )
        rows = _to_rows(waiting, schema=schema)
        if shard.format == "files":
            files = shard.files[first : first + len(waiting)]
            versions = pa.array([file.version for file in files], pa.string())
            rows = rows.append_column(VERSION, versions)
        yield Block(place, rows)

    # A block goes out when the next record has come, so that the last is known.
    for record in _until_damage(records):
        if waiting and (
            len(waiting) == cut.block
            or (first + len(waiting)) % cut.part == 0
            or held >= _BLOCK_BYTES
        ):
            yield from block(following=record)
            first += len(waiting)
            waiting, held = [], 0
        waiting.append(record)
        held += len(record.image or b"")
    yield from block(following=None)


def _until_damage(records: Iterable[Record]) -> Iterator[Record]:
    try:
        yield from records
    except DamagedShardError as damage:
        yield Record(None, None, fault=Fault("read", damage.error, str(damage)))


def _schema(columns: Columns) -> pa.Schema:
    """Of a block but for its images."""
    return pa.schema(
        [
            pa.field("key", pa.string()),
            *FAULT_FIELDS,
            *(field.with_name(KEPT + field.name) for field in columns.keep),
        ]
    )


def _to_rows(records: list[Record], *, schema: pa.Schema) -> pa.RecordBatch:
    faults = [record.fault for record in records]
    columns: dict[str, list[object]] = {
        "key": [record.key for record in records],
        "stage": [fault and fault.stage for fault in faults],
        "error": [fault and fault.error for fault in faults],
        "message": [fault and fault.message for fault in faults],
    }
    for name in schema.names[len(columns) :]:
        bare = name.removeprefix(KEPT)
        columns[name] = [record.kept.get(bare) for record in records]
    rows = pa.RecordBatch.from_pydict(columns, schema=schema)
    return rows.add_column(1, "image", column_of([record.image for record in records]))


def count_faults(rows: pa.RecordBatch, *, stage: str) -> None:
    """Counts the rows that are bad since `stage`, as `bad` and by error."""
    if rows["stage"].null_count == rows.num_rows:
        return
    stages, errors = rows["stage"].to_pylist(), rows["error"].to_pylist()
    for found, error in zip(stages, errors, strict=True):
        if found == stage:
            metrics.count("bad")
            metrics.count(f"bad_{error}")


class ReadImages(beam.PTransform):
    """Reads shards into blocks of encoded images.

    Each shard is read by a background thread some way ahead of its consumer. Put a
    `beam.Reshuffle()` of the shards before it and nothing but fused steps behind.

    Args:
      columns: What to look for in a shard.
      cut: Rows of a block and of a part.
    """

    def __init__(self, columns: Columns, *, cut: Cut) -> None:
        super().__init__()
        self._columns, self._cut = columns, cut

    def expand(
        self, shards: beam.pvalue.PCollection[Shard]
    ) -> beam.pvalue.PCollection[Block]:
        return shards | beam.ParDo(_ReadImages(self._columns, self._cut))


class _ReadImages(beam.DoFn):
    """Shard in, its blocks out.

    Metrics: images_read (rows), shards_read, bytes_read, read_usec (a block's time in
      the reading thread), read_capacity_usec (a bundle's time), bad and bad_<error>.
    Bad records: rows with a fault of stage `read`; a damaged shard ends with one.
      What storage raises is raised.
    """

    def __init__(self, columns: Columns, cut: Cut) -> None:
        self._columns, self._cut = columns, cut

    def start_bundle(self) -> None:
        shift.begin("read", self)

    def process(self, shard: Shard) -> Iterator[Block]:
        blocks = cut_blocks(
            shard,
            read_records(shard, self._columns),
            columns=self._columns,
            cut=self._cut,
        )
        left = shard.size
        for block, size, microseconds in read_ahead(
            _measured(blocks), weight=itemgetter(1), limit=_ahead_bytes(shard)
        ):
            metrics.observe_usec("read_usec", microseconds)
            metrics.count("images_read", block.rows.num_rows)
            used = min(left, size)
            left -= used
            metrics.count("bytes_read", used)
            count_faults(block.rows, stage="read")
            yield block
        # What is no image (headers, other columns) counts as read with the shard.
        metrics.count("bytes_read", left)
        metrics.count("shards_read")

    def finish_bundle(self) -> None:
        metrics.observe_usec("read_capacity_usec", shift.end("read", self).bundle)

    def teardown(self) -> None:
        shift.drop("read", self)


def _ahead_bytes(shard: Shard) -> int:
    return _LOCAL_AHEAD_BYTES if storage.is_local(shard.uri) else _REMOTE_AHEAD_BYTES


def _measured(blocks: Iterator[Block]) -> Iterator[tuple[Block, int, int]]:
    """Blocks, their bytes, and the microseconds that each took."""
    while True:
        start = time.perf_counter_ns()
        block = next(blocks, None)
        if block is None:
            return
        size = block.nbytes
        yield block, size, (time.perf_counter_ns() - start) // 1000
