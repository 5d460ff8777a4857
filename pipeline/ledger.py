"""The parts of a table together: gapless, once each, and as the summary says."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from transforms import EMBEDDINGS, ERRORS, PartTotals
from transforms.write import summary_of

from .audit import Audit
from .identity import is_as_written
from .inventory import Inventory, parse_stem
from .output import RUN_JSON, SUMMARY_JSON, run_digest
from .problems import Problem, span_text

Manifest = Mapping[str, Sequence[Any]]
"""By stem a part's first row, end row, good rows, bad rows and digest."""


@dataclass(frozen=True)
class Span:
    """The rows of a part, as far as they are known.

    Attributes:
      stem: The part.
      name: The shard and its version; `family`: the shard.
      first: Its first row.
      end: The row after its last; None: its files do not tell.
      is_last: The shard's last part.
    """

    stem: str
    name: str
    family: str
    first: int
    end: int | None
    is_last: bool


def spans_of(audits: Mapping[str, Audit], *, manifest: Manifest) -> Iterator[Span]:
    """The rows of the parts that are there, and of those that should be."""
    ends = {stem: entry[1] for stem, entry in manifest.items()}
    for stem, audit in audits.items():
        ends[stem] = audit.totals.end_row if audit.totals else None
    for stem, end in ends.items():
        named = parse_stem(stem)
        if named is not None:
            yield Span(stem, named.name, named.family, named.first, end, named.is_last)


def _path(stem: str, table: str = EMBEDDINGS) -> str:
    return f"{table}/{stem}.parquet"


def check_strays(inventory: Inventory, *, finished: bool) -> Iterator[Problem]:
    """Finds files that are no part of the tables.

    A run that was killed may leave errors without embeddings and halves of files; one
    that has finished has removed them.
    """
    for path in inventory.strange:
        yield Problem("stray", path, "is no file of bitbeam's")
    if finished:
        for path in inventory.partial:
            yield Problem("stray", path, "is what a killed process left of a write")
        for stem in inventory.bad.keys() - inventory.good.keys():
            what = f"is of no part: there is no {_path(stem)}"
            yield Problem("orphan", _path(stem, ERRORS), what)


def read_manifest(content: bytes) -> Manifest:
    """The parts that a summary lists.

    Raises:
      ValueError: It is not a summary.
    """
    summary = json.loads(content)
    manifest = summary.get("manifest") if isinstance(summary, dict) else None
    if not isinstance(manifest, dict):
        raise ValueError("it has no manifest")
    for stem, entry in manifest.items():
        kinds = [type(each) for each in entry] if isinstance(entry, list) else []
        if kinds != [int, int, int, int, str]:
            raise ValueError(f"its manifest has {entry!r} for {stem}")
    return manifest


def check_spans(spans: Iterable[Span], *, finished: bool) -> Iterator[Problem]:
    """Checks that the parts of each shard follow each other from 0 to the last.

    Args:
      spans: Of all parts.
      finished: Parts may not be missing, nor be of two versions of a shard.
    """
    ordered = sorted(spans, key=attrgetter("family", "name", "first", "stem"))
    for _, family in itertools.groupby(ordered, attrgetter("family")):
        names = []
        for name, parts in itertools.groupby(family, attrgetter("name")):
            names.append(name)
            yield from _check_shard(list(parts), finished=finished)
        if finished and len(names) > 1:
            files = ", ".join(f"{EMBEDDINGS}/{name}-*" for name in names)
            what = f"are {len(names)} versions of one shard"
            yield Problem("versions", files, what)


def _check_shard(parts: list[Span], *, finished: bool) -> Iterator[Problem]:
    expected: int | None = 0
    for part in parts:
        if expected is not None and part.first < expected:
            what = f"begins at row {part.first}, which a part before it has"
            yield Problem("overlap", _path(part.stem), what)
        elif expected is not None and part.first > expected and finished:
            what = f"{span_text(expected, part.first)} before it are in no part"
            yield Problem("missing", _path(part.stem), what)
        if part.is_last and part is not parts[-1]:
            what = "is the last part of its shard by its name, but not by its rows"
            yield Problem("overlap", _path(part.stem), what)
        expected = part.end
    if finished and not parts[-1].is_last:
        what = "is the end of its shard, whose last part is missing"
        yield Problem("missing", _path(parts[-1].stem), what)


def check_schemas(audits: Iterable[Audit]) -> Iterator[Problem]:
    """Checks that all parts have the columns that most of them have."""
    stems: dict[str, list[str]] = {}
    for audit in audits:
        if audit.schema:
            stems.setdefault(audit.schema, []).append(audit.stem)
    usual = max(stems, key=lambda schema: len(stems[schema]), default="")
    for schema in stems.keys() - {usual}:
        lines = set(schema.splitlines()) ^ set(usual.splitlines())
        for stem in stems[schema]:
            what = f"has other columns than most: {'; '.join(sorted(lines))[:200]}"
            yield Problem("schema", _path(stem), what)


def check_files(audits: Sequence[Audit]) -> Iterator[Problem]:
    """Checks that no plain file is in the table twice."""
    values = [audit.files for audit in audits if len(audit.files)]
    if not values:
        return
    found, counts = np.unique(np.concatenate(values), return_counts=True)
    twice = found[counts > 1]
    if not len(twice):
        return
    for audit in audits:
        shared = np.intersect1d(audit.files, twice)
        if len(shared):
            what = f"{len(shared)} of its plain files are rows of another part too"
            yield Problem("twice", _path(audit.stem), what)


def check_manifest(
    manifest: Manifest, audits: Mapping[str, Audit]
) -> Iterator[Problem]:
    """Checks that the parts are those that the summary lists.

    Parts with a problem of their own are only looked for.

    Args:
      manifest: Of the summary.
      audits: Of all parts that are there.
    """
    for stem in sorted(manifest.keys() - audits.keys()):
        rows = span_text(manifest[stem][0], manifest[stem][1])
        what = f"is missing: {SUMMARY_JSON} lists it with {rows}"
        yield Problem("missing", _path(stem), what)
    for stem, audit in audits.items():
        if stem not in manifest:
            what = f"is not listed in {SUMMARY_JSON}"
            yield Problem("unlisted", _path(stem), what)
        elif audit.totals and not audit.problems:
            said, found = list(manifest[stem]), _entry(audit.totals)
            if said != found:
                what = f"is {found}, but {SUMMARY_JSON} lists {said}"
                yield Problem("unlike_summary", _path(stem), what)


def _entry(part: PartTotals) -> list[object]:
    [entry] = summary_of([part])["manifest"].values()
    return list(entry)


def check_summary(
    content: bytes, parts: Iterable[PartTotals], *, run_json: bytes
) -> Iterator[Problem]:
    """Checks that the summary is, to the byte, the one of the parts and of `run.json`.

    Args:
      content: Of the file.
      parts: All, and none has a problem.
      run_json: Content of `run.json`.
    """
    said = json.loads(content)
    summary = {**summary_of(parts), "run_digest": run_digest(run_json)}
    if said.get("run_digest", "") != summary["run_digest"]:
        what = f"is not as it was when {SUMMARY_JSON} was written"
        yield Problem("damaged", RUN_JSON, what)
        summary["run_digest"] = said.get("run_digest")
    for name in sorted({*summary, *said} - {"manifest"}):
        if said.get(name) != summary.get(name):
            what = f"says {name} {said.get(name)}; the parts have {summary.get(name)}"
            yield Problem("unlike_parts", SUMMARY_JSON, what)
    if said == summary and not is_as_written(content, summary):
        yield Problem("damaged", SUMMARY_JSON, "is not as it was written")
