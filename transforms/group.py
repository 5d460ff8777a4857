"""Groups of plain files, each of which counts as one shard."""

import hashlib
import os
from array import array
from collections.abc import Iterable

from .file import File, uri_text
from .files import Files
from .shards import Shards
from .strings import Strings

_HASHES = 1 << 64


def group_files(files: Iterable[File], *, group_size: int = 4096) -> Shards:
    """Groups image files into shards that stay as they are when files come and go.

    A group begins where a file's own name says so: its hash, one in group_size. A
    file that is added or removed changes the group that it falls in and no other, but
    where it is itself the first of a group. Without a whole group, the others are the
    same: what is left of a run is grouped as it was. For that there is no largest
    size; a long group has more parts.

    Args:
      files: In the order of their URIs, each once.
      group_size: Files in a group, on average.

    Returns:
      The groups, in the order of their files.
    """
    table = Files.of(files)
    limit = _HASHES // group_size
    names, ends = Strings(), array("q", [0])
    digest = hashlib.sha256()
    first = last = ""
    for row, uri in enumerate(table.uris):
        name = uri.encode() if uri.isascii() else os.fsencode(uri)
        if row and _hash(name) < limit:
            names.append(_name(first, last, digest.hexdigest()))
            ends.append(row)
            digest = hashlib.sha256()
            first = uri
        digest.update(name + b"\0")
        first, last = first or uri, uri
    if len(table):
        names.append(_name(first, last, digest.hexdigest()))
        ends.append(len(table))
    return Shards.of_runs("files", table, names=names, ends=ends)


def _hash(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def _name(first: str, last: str, digest: str) -> str:
    # A folder of the first and the last of a sorted list is one of all.
    folder = first.rpartition("/")[0]
    while folder and not last.startswith(f"{folder}/"):
        folder = folder.rpartition("/")[0]
    return uri_text(f"{folder}#{digest[:16]}")
