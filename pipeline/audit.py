"""One part, proven from its one or two files: bytes, metadata, rows."""

import hashlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from transforms import EMBEDDINGS, ERRORS, PartTotals, Shard, parquet
from transforms.part import totals_of

from . import rows
from .inventory import parse_stem
from .options import FORMATS
from .problems import Problem, span_text

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)
"""What damaged Parquet and metadata make the readers raise."""

Reader = Callable[[str, str], bytes]
"""Gives the content of a file, by its table and stem; raises what storage raises."""


@dataclass(frozen=True)
class Expected:
    """What all parts of an output have in common; None where it is not known.

    Attributes:
      identity: Digest, as `run.json` has it.
      embedding: Type and length of the vectors.
    """

    identity: str | None = None
    embedding: tuple[str, int] | None = None


@dataclass(frozen=True)
class Audit:
    """What was found in a part.

    Attributes:
      stem: The part.
      totals: What it holds; None: its files do not tell, or not of this part.
      problems: What is wrong with it.
      schema: Of its embeddings file, in words; empty where it was not looked at.
      files: A number for each plain file behind its rows, none where a shard is one
        file; the same for the same file.
    """

    stem: str
    totals: PartTotals | None = None
    problems: tuple[Problem, ...] = ()
    schema: str = ""
    files: npt.NDArray[np.uint64] = field(
        default_factory=lambda: np.empty(0, np.uint64)
    )


class _HopelessError(Exception):
    """Nothing more can be said of a file than the one problem."""

    def __init__(self, kind: str, path: str, what: str) -> None:
        super().__init__(what)
        self.problem = Problem(kind, path, what)


@dataclass(frozen=True)
class _File:
    """A file of a part, read."""

    path: str
    content: bytes
    description: dict[str, Any]
    digest: str


def audit_part(
    stem: str, *, has_errors: bool, read: Reader, expected: Expected
) -> Audit:
    """Proves that a part is whole and as its metadata says, or finds what is not.

    Bytes that are not those written may be anything: their rows are not looked at.

    Args:
      stem: The part, which has an embeddings file.
      has_errors: Whether an errors file was listed.
      read: Reads a file.
      expected: What it has in common with all others.
    """
    try:
        good = _open(EMBEDDINGS, stem, read=read)
        totals = _totals(good, stem=stem)
    except _HopelessError as error:
        return Audit(stem, problems=(error.problem,))
    except FileNotFoundError:
        gone = Problem("missing", f"{EMBEDDINGS}/{stem}.parquet", "has just gone")
        return Audit(stem, problems=(gone,))
    found = [*_check_identity(good, expected), *_check_bytes(good, totals)]
    bad = None
    try:
        bad = _open_errors(good, totals, has_errors=has_errors, read=read)
        if bad:
            found += _check_errors_file(bad, good=good, totals=totals)
    except _HopelessError as error:
        found.append(error.problem)
    if found:
        return Audit(stem, totals, tuple(found))
    try:
        return _audit_rows(good, bad, totals=totals, expected=expected)
    except _UNREADABLE as error:
        return Audit(stem, totals, (Problem("damaged", good.path, _reason(error)),))


def _open(table: str, stem: str, *, read: Reader) -> _File:
    path = f"{table}/{stem}.parquet"
    try:
        content = read(table, stem)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _HopelessError("unreadable", path, f"cannot be read: {error}") from error
    try:
        description, digest = parquet.read_description(io.BytesIO(content))
    except _UNREADABLE as error:
        raise _HopelessError("damaged", path, _reason(error)) from error
    if not isinstance(description, dict):
        raise _HopelessError("damaged", path, "has metadata that is not bitbeam's")
    return _File(path, content, description, digest)


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, parquet.NotOursError):
        return text
    return f"cannot be read as Parquet: {text}"


def _totals(good: _File, *, stem: str) -> PartTotals:
    """What the metadata says, if it says it of this part."""
    try:
        totals = totals_of(good.description, digest=good.digest)
        is_sound = (
            0 <= totals.first_row <= totals.end_row
            and totals.good >= 0
            and totals.good + totals.bad == totals.end_row - totals.first_row
            and _is_named_after(totals)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"has metadata that makes no sense: {error!r}"
        raise _HopelessError("damaged", good.path, what) from error
    if totals.stem != stem:
        what = f"is the part {totals.stem} under another name"
        raise _HopelessError("misnamed", good.path, what)
    if not is_sound:
        what = f"has metadata that is not of its own rows: {_where(totals)}"
        raise _HopelessError("damaged", good.path, what)
    return totals


def _where(totals: PartTotals) -> str:
    return f"{span_text(totals.first_row, totals.end_row)} of {totals.shard}"


def _is_named_after(totals: PartTotals) -> bool:
    """Whether the part's name is that of its shard, its first row and its place."""
    named = parse_stem(totals.stem)
    if named is None or (named.first, named.is_last) != (
        totals.first_row,
        totals.last,
    ):
        return False
    return named.family in {Shard(totals.shard, form, ()).family for form in FORMATS}


def _check_identity(good: _File, expected: Expected) -> Iterator[Problem]:
    identity = good.description.get("identity")
    if expected.identity not in (None, identity):
        what = f"is of another run: its identity is {identity}, not {expected.identity}"
        yield Problem("other_run", good.path, what)


def _check_bytes(file: _File, totals: PartTotals) -> Iterator[Problem]:
    footer = parquet.footer_of(file.content)
    data = memoryview(file.content)[: -len(footer) - 8]
    if hashlib.sha256(data).hexdigest() != file.description.get("data_digest"):
        what = f"{_where(totals)}: its bytes are not those that were written"
        yield Problem("altered", file.path, what)


def _open_errors(
    good: _File, totals: PartTotals, *, has_errors: bool, read: Reader
) -> _File | None:
    """The errors file of a part; None if it has none and needs none."""
    path = f"{ERRORS}/{totals.stem}.parquet"
    if has_errors and not totals.bad:
        what = f"is too much: none of {_where(totals)} is bad"
        raise _HopelessError("orphan", path, what)
    try:
        # Also if it was not listed: a run that works may have written it since.
        return _open(ERRORS, totals.stem, read=read) if totals.bad else None
    except FileNotFoundError as error:
        what = f"is missing: {totals.bad} of {_where(totals)} are bad"
        raise _HopelessError("missing", path, what) from error


def _check_errors_file(
    bad: _File, *, good: _File, totals: PartTotals
) -> Iterator[Problem]:
    digests = ("data_digest", "errors_digest")
    said = {name: bad.description[name] for name in bad.description.keys() - digests}
    ours = {name: good.description[name] for name in good.description.keys() - digests}
    if said != ours or bad.digest != good.description.get("errors_digest"):
        what = f"{_where(totals)}: is not the file that was written with {good.path}"
        yield Problem("altered", bad.path, what)
    yield from _check_bytes(bad, totals)


def _audit_rows(
    good: _File, bad: _File | None, *, totals: PartTotals, expected: Expected
) -> Audit:
    schema = pq.read_schema(io.BytesIO(good.content)).remove_metadata()
    found = [
        Problem("schema", good.path, what)
        for what in rows.check_schema(schema, embedding=expected.embedding)
    ]
    if bad:
        errors_schema = pq.read_schema(io.BytesIO(bad.content)).remove_metadata()
        found += [
            Problem("schema", bad.path, what)
            for what in rows.check_errors_schema(errors_schema)
        ]
    if found:
        return Audit(totals.stem, totals, tuple(found))
    members = parquet.members_of(io.BytesIO(good.content))
    tables = [rows.read_rows(good.content, shard=totals.shard)]
    if bad:
        tables.append(rows.read_rows(bad.content, shard=totals.shard))
    for file, table in zip((good, bad), tables, strict=False):
        assert file
        found += [Problem("rows", file.path, what) for what in table.problems]
    found += [
        Problem("rows", good.path, what)
        for what in rows.check_part(tables, members=list(members), totals=totals)
    ]
    words = sys.intern(rows.schema_text(schema))  # kept for each of many parts
    return Audit(totals.stem, totals, tuple(found), words, _numbers(members))


def _numbers(uris: Mapping[str, str]) -> npt.NDArray[np.uint64]:
    digests = (hashlib.blake2b(uri.encode(), digest_size=8).digest() for uri in uris)
    return np.frombuffer(b"".join(digests), np.uint64)
