"""Globs, files and folders to the shards that they stand for."""

import contextlib
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apache_beam.io.filesystem import BeamIOError, FileMetadata

from . import storage
from .files import Files
from .formats.names import format_of, suffix
from .group import group_files
from .shards import Shards

Match = Callable[[str], Iterable[FileMetadata]]
"""Lists what a Beam file pattern matches."""

_FOLDER_MARKS = ("/", "_$folder$")
"""Ends of the names of empty objects that the consoles and Hadoop put for folders."""


class InputError(ValueError):
    """The input cannot be listed, or nothing in it can be read."""


@dataclass(frozen=True)
class Listing:
    """What the inputs stand for.

    Attributes:
      shards: By URI.
      ignored: How many files were passed over, by extension with its dot; those without
        an extension by the empty string.
    """

    shards: Shards
    ignored: Mapping[str, int]


def list_shards(
    inputs: Sequence[str],
    *,
    form: str | None = None,
    group_size: int = 4096,
    but_below: str | None = None,
    match: Match = storage.match,
) -> Listing:
    """Lists the shards of all inputs; an object that several inputs match counts once.

    What comes from the store goes into a table of files as it comes: a million of them
    are no million objects.

    Hidden files and all in hidden folders are passed over, links to folders are not
    followed, and empty objects that mark a folder in an object store are none.

    Args:
      inputs: Each a glob (`*` within a folder, `**` across folders), a file or a folder
        (with all below it); local, `gs://` or `s3://`. What exists under a name is
        meant by it, even if the name reads as a glob.
      form: Format of all files; None: by their names, others being ignored.
      group_size: Image files that make one shard, on average.
      but_below: A folder of which no file is taken.
      match: Lists what a pattern matches.

    Raises:
      InputError: An input matches nothing that can be read, or cannot be listed.
    """
    found: defaultdict[str, Files] = defaultdict(Files)
    ignored: Counter[str] = Counter()
    for text in inputs:
        files = _Found(found, ignored, f"{but_below}/" if but_below else None)
        files.take_in(text, form=form, match=match)
    groups = group_files(found.pop("files", Files()).once(), group_size=group_size)
    alone = [Shards.of_files(kind, files.once()) for kind, files in found.items()]
    return Listing(Shards.in_order([groups, *alone]), dict(ignored))


@dataclass(frozen=True)
class _Found:
    """What was found so far.

    Attributes:
      files: By format.
      ignored: Files of no known format, by their ending.
      but: What begins so is not taken.
    """

    files: defaultdict[str, Files]
    ignored: Counter[str]
    but: str | None

    def take_in(self, text: str, *, form: str | None, match: Match) -> None:
        """Adds the files of one input.

        Raises:
          InputError: There are none, or their names do not tell their format.
        """
        taken = 0
        passed: Counter[str] = Counter()
        for file, base in _list_input(text, match=match):
            path = file.path
            if base is not None and _is_hidden(path, base=base):
                continue
            kind = form or format_of(path)
            if kind is not None:
                taken += 1
                if self.but is None or not path.startswith(self.but):
                    updated = file.last_updated_in_seconds
                    self.files[kind].append(path, file.size_in_bytes, updated)
            elif base is None:
                raise InputError(
                    f"the name of {text} does not tell its format: give --input_format"
                )
            else:
                ending = suffix(path)
                passed[f".{ending}" if ending else ""] += 1
        if not taken:
            why = f"{passed.total()} files of no known format" if passed else "no files"
            raise InputError(f"nothing to read in {text}: it matches {why}")
        self.ignored.update(passed)


def _list_input(
    text: str, *, match: Match
) -> Iterator[tuple[FileMetadata, str | None]]:
    """The files of one input, and what their names begin with; None for one file."""
    try:
        if storage.is_local(text):
            matched, base = _list_local(os.path.abspath(text), match=match)
        else:
            matched, base = _list_remote(text, match=match)
        for file in matched:
            yield file, base
    except (OSError, ValueError) as error:
        raise InputError(f"cannot list {text}: {_reason(error)}") from error


def _list_local(
    path: str, *, match: Match
) -> tuple[Iterable[FileMetadata], str | None]:
    if os.path.isdir(path):
        return _below(path.rstrip("/"), match=match)
    if os.path.exists(path):
        return _metadata(path), None
    return match(path), _fixed_part(path)


def _list_remote(
    uri: str, *, match: Match
) -> tuple[Iterable[FileMetadata], str | None]:
    folder = uri.rstrip("/")
    if uri == folder:
        # Other signs of a glob match themselves, brackets do not.
        if "[" in uri or not _is_glob(uri):
            alone = [file for file in match(_loosely(uri)) if file.path == uri]
            if alone:
                return alone, None
        matched = iter(match(uri) if _is_glob(uri) else ())
        for first in matched:
            return itertools.chain([first], matched), _fixed_part(uri)
    return _below(folder, match=match)


def _below(folder: str, *, match: Match) -> tuple[Iterable[FileMetadata], str]:
    matched = match(f"{_loosely(folder)}/**")
    return (file for file in matched if file.path.startswith(f"{folder}/")), folder


def _metadata(path: str) -> Iterator[FileMetadata]:
    """Of a file whose name may read as a glob; of none, if it has gone."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(path)
        yield FileMetadata(path, status.st_size, status.st_mtime)


def _is_glob(text: str) -> bool:
    return re.search(r"[*?[]", text) is not None


def _loosely(text: str) -> str:
    """A pattern that matches the text, and perhaps others: Beam has no quoting."""
    return re.sub(r"[*?[]", "?", text)


def _fixed_part(pattern: str) -> str:
    """The folder above the first sign of a glob."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0]


def _is_hidden(path: str, *, base: str) -> bool:
    return "/." in path[len(base) :] or path.endswith(_FOLDER_MARKS)


def _reason(error: Exception) -> str:
    """The innermost error in one line; Beam puts them into each other."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
