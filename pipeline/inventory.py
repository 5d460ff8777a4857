"""What lies in an output, by one listing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from transforms import EMBEDDINGS, ERRORS, storage

from .output import RUN_JSON, SUMMARY_JSON

_STEM = re.compile(
    r"(?P<name>(?P<family>.+-[gs][0-9a-f]{16})-[0-9a-f]{10})"
    r"-(?P<first>\d{10})(?P<last>-last)?"
)


class Stem(NamedTuple):
    """What the name of a part tells.

    Attributes:
      name: One version of a shard.
      family: All versions of it.
      first: The part's first row.
      is_last: The shard's last part.
    """

    name: str
    family: str
    first: int
    is_last: bool


def parse_stem(stem: str) -> Stem | None:
    """Takes a part's name apart; None: it is none."""
    match = _STEM.fullmatch(stem)
    if match is None:
        return None
    is_last = match["last"] is not None
    return Stem(match["name"], match["family"], int(match["first"]), is_last)


@dataclass(frozen=True)
class Inventory:
    """The files of an output; paths are below it.

    Attributes:
      good: Bytes of the files in `embeddings/` by stem.
      bad: Bytes of the files in `errors/` by stem.
      own: Which of run.json and summary.json there are.
      partial: What a process that was killed has left of a write.
      strange: What readers may take for a part of the tables, and is none.
    """

    good: Mapping[str, int]
    bad: Mapping[str, int]
    own: frozenset[str]
    partial: tuple[str, ...]
    strange: tuple[str, ...]


def take_inventory(output: str) -> Inventory:
    """Lists an output.

    A file beside the tables that is neither ours nor Parquet is nobody's business.

    Raises:
      OSError: The storage fails.
    """
    tables: dict[str, dict[str, int]] = {EMBEDDINGS: {}, ERRORS: {}}
    own, partial, strange = set[str](), list[str](), list[str]()
    for file in storage.match(storage.join(output, "**")):
        path = file.path[len(output) :].lstrip("/")
        table, stem = _split(path)
        if table in tables and parse_stem(stem):
            tables[table][stem] = file.size_in_bytes
        elif path in (RUN_JSON, SUMMARY_JSON):
            own.add(path)
        elif path.endswith(".partial"):
            partial.append(path)
        elif not path.endswith("/") and _may_be_read(path):
            strange.append(path)
    return Inventory(
        good=dict(sorted(tables[EMBEDDINGS].items())),
        bad=dict(sorted(tables[ERRORS].items())),
        own=frozenset(own),
        partial=tuple(sorted(partial)),
        strange=tuple(sorted(strange)),
    )


def _split(path: str) -> tuple[str, str]:
    """The table and the stem that a path would be of; empty if it is of none."""
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".parquet")
    return (folder, stem) if stem != name else ("", "")


def _may_be_read(path: str) -> bool:
    return path.endswith(".parquet") or path.split("/")[0] in (EMBEDDINGS, ERRORS)
