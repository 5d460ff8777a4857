"""What a few shards of each format tell of all of them."""

import contextlib
import io
import itertools
import zlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow.parquet as pq
from PIL import Image

from transforms import Columns, DamagedShardError, Record, Shard, storage
from transforms.formats import read_records

_SHARDS, _ROWS = 3, 64
"""Of a format, and of each of these."""


@dataclass(frozen=True)
class Sample:
    """What was seen of some shards.

    Attributes:
      rows: How many there are in `covered`.
      covered: Bytes of the shards, as far as their rows are known.
      images: How many images were looked at.
      encoded: Bytes of these.
      megapixels: Of all whose headers could be read.
      headers: How many could.
    """

    rows: int = 0
    covered: int = 0
    images: int = 0
    encoded: int = 0
    megapixels: float = 0.0
    headers: int = 0

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(
            rows=self.rows + other.rows,
            covered=self.covered + other.covered,
            images=self.images + other.images,
            encoded=self.encoded + other.encoded,
            megapixels=self.megapixels + other.megapixels,
            headers=self.headers + other.headers,
        )

    def rows_of(self, shard: Shard) -> int:
        """How many images a shard has, in all likelihood."""
        if shard.format == "files":
            return len(shard.files)
        return round(shard.size * self.rows / self.covered) if self.covered else 0

    @property
    def mean_megapixels(self) -> float:
        """Of an image."""
        return self.megapixels / self.headers if self.headers else 0.0


def take_sample(shards: Sequence[Shard], columns: Columns) -> Sample:
    """Reads the beginnings of a few shards of one format: first, middle and last.

    Raises:
      OSError: The storage fails.
    """
    step = max(1, (len(shards) - 1) // max(1, _SHARDS - 1))
    chosen = dict.fromkeys([*shards[::step][: _SHARDS - 1], shards[-1]])
    return sum((_read(shard, columns) for shard in chosen), Sample())


def _read(shard: Shard, columns: Columns) -> Sample:
    records, is_whole = _first_records(shard, columns)
    images = [record.image for record in records if record.image is not None]
    sizes = list(_megapixels(images))
    rows, covered = (len(records), shard.size) if is_whole else _extent(shard, records)
    encoded = sum(map(len, images))
    return Sample(rows, covered, len(images), encoded, sum(sizes), len(sizes))


def _first_records(shard: Shard, columns: Columns) -> tuple[list[Record], bool]:
    """Some records, and whether they are all."""
    records: list[Record] = []
    reader = cast("Generator[Record, None, None]", read_records(shard, columns))
    with contextlib.closing(reader) as rows:
        try:
            records.extend(itertools.islice(rows, _ROWS))
        except DamagedShardError:
            return records, True
    return records, len(records) < _ROWS


def _extent(shard: Shard, records: Sequence[Record]) -> tuple[int, int]:
    """How many rows are known to lie in how many bytes of a shard."""
    if shard.format == "parquet":
        with storage.open_input(shard.uri) as source:
            return pq.ParquetFile(source).metadata.num_rows, shard.size
    before, last = records[:-1], records[-1]
    if last.offset is not None:
        return len(before), last.offset
    # Only a compressed file tells no offsets.
    images = b"".join(record.image or b"" for record in before)
    return len(before), len(zlib.compress(images))


def _megapixels(images: Iterable[bytes]) -> Iterable[float]:
    for image in images:
        # Whatever is wrong with a picture, the run will say; Pillow raises many kinds.
        with contextlib.suppress(
            OSError, ValueError, SyntaxError, Image.DecompressionBombError
        ):
            width, height = Image.open(io.BytesIO(image)).size
            yield width * height / 1e6
