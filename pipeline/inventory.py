"""What lies in an output, by one listing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from transforms import EMBEDDINGS, ERRORS, storage
from transforms.listing import match_files

from .output import RUN_JSON, SUMMARY_JSON

_PART = re.compile(
    rf"(?P<table>{EMBEDDINGS}|{ERRORS})"
    r"/(?P<stem>.+-[gs][0-9a-f]{16}-[0-9a-f]{10}-\d{10}(-last)?)\.parquet"
)


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
    for file in match_files(storage.join(output, "**")):
        path = file.path[len(output) :].lstrip("/")
        match = _PART.fullmatch(path)
        if match:
            tables[match["table"]][match["stem"]] = file.size_in_bytes
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


def _may_be_read(path: str) -> bool:
    return path.endswith(".parquet") or path.split("/")[0] in (EMBEDDINGS, ERRORS)
