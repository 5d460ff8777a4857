"""Shards: the units of input, and the names of what is made from them."""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from apache_beam import coders

from .file import File, version_text
from .files import Files, facts

FORMATS = ("tar", "tfrecord", "parquet", "files")

_NO_WORD = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard file, or a group of plain image files that counts as one.

    Attributes:
      uri: Names the shard in the output; unique in a run.
      format: One of FORMATS.
      files: The shard file, or the group's image files in row order.
      done_parts: First rows of the parts that need no work. A reader passes over
        their rows.
      start_row: The row at which reading begins: those before it are all done.
      start_offset: Where that row is, in bytes of a tar or TFRecord file.
    """

    uri: str
    format: str
    files: Sequence[File]
    done_parts: frozenset[int] = frozenset()
    start_row: int = 0
    start_offset: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files."""
        files = self.files
        return files.size if isinstance(files, Files) else sum(f.size for f in files)

    @property
    def name(self) -> str:
        """Stem of the shard's part files: readable, unique, and new when it changes.

        `<slug>-<digest of the URI>-<digest of the files' sizes and times>`. Two
        shards of one base name differ in the first digest, two versions of one
        shard in the second. The first digest of a group of files begins with `g`, of
        a shard file with `s`.
        """
        return f"{self.family}-{self.version}"

    @property
    def family(self) -> str:
        """What the names of all versions of the shard begin with."""
        kind = "g" if self.format == "files" else "s"
        return f"{_slug(self.uri)}-{kind}{_digest(self.uri, 16)}"

    @property
    def version(self) -> str:
        """Changes whenever a file's name, size or time does."""
        versions = (
            f"{uri}\n{version_text(size, updated)}"
            for uri, size, updated in facts(self.files)
        )
        return _digest("\0".join(versions), 10)


def _slug(uri: str) -> str:
    base = uri.split("#", 1)[0].rstrip("/").rsplit("/", 1)[-1]
    return _NO_WORD.sub("_", base)[:40].strip("_") or "shard"


def _digest(text: str, length: int) -> str:
    # A local name need not be UTF-8.
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:length]


class ShardCoder(coders.Coder):
    """Shards as compressed JSON: a group of thousands of files stays small."""

    def encode(self, value: Shard) -> bytes:
        files = list(facts(value.files))
        start = (value.start_row, value.start_offset)
        fields = (value.uri, value.format, files, sorted(value.done_parts), *start)
        return zlib.compress(json.dumps(fields).encode())

    def decode(self, encoded: bytes) -> Shard:
        uri, form, files, done, *start = json.loads(zlib.decompress(encoded))
        members = tuple(File(*file) for file in files)
        return Shard(uri, form, members, frozenset(done), *start)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Shard]:
        return Shard


coders.registry.register_coder(Shard, ShardCoder)
