"""Globs, files and folders to the shards that they stand for."""

import hashlib
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

from . import storage
from .formats.names import format_of, suffix
from .shard import File, Shard, uri_text

Match = Callable[[str], Iterable[FileMetadata]]
"""Lists what a Beam file pattern matches."""

_FOLDER_MARKS = ("/", "_$folder$")
"""Ends of the names of empty objects that the consoles and Hadoop put for folders."""

_HASHES = 1 << 64


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

    shards: tuple[Shard, ...]
    ignored: Mapping[str, int]


def match_files(pattern: str) -> Iterable[FileMetadata]:
    """Lists what a pattern matches, as Beam's FileSystems read it."""
    if storage.is_local(pattern):
        return _match_local(pattern)
    return storage.match(pattern)


def list_shards(
    inputs: Sequence[str],
    *,
    form: str | None = None,
    group_size: int = 4096,
    match: Match = match_files,
) -> Listing:
    """Lists the shards of all inputs; an object that several inputs match counts once.

    Hidden files and all in hidden folders are passed over, links to folders are not
    followed, and empty objects that mark a folder in an object store are none.

    Args:
      inputs: Each a glob (`*` within a folder, `**` across folders), a file or a folder
        (with all below it); local, `gs://` or `s3://`. What exists under a name is
        meant by it, even if the name reads as a glob.
      form: Format of all files; None: by their names, others being ignored.
      group_size: Image files that make one shard, on average.
      match: Lists what a pattern matches.

    Raises:
      InputError: An input matches nothing that can be read, or cannot be listed.
    """
    found: defaultdict[str, list[File]] = defaultdict(list)
    ignored: Counter[str] = Counter()
    for text in inputs:
        _take_in(text, form=form, match=match, found=found, ignored=ignored)
    shards = list(group_files(_once(found.pop("files", [])), group_size=group_size))
    for kind, files in found.items():
        shards += (Shard(file.key, kind, (file,)) for file in _once(files))
    return Listing(tuple(sorted(shards, key=attrgetter("uri"))), dict(ignored))


def group_files(files: Iterable[File], *, group_size: int = 4096) -> Iterator[Shard]:
    """Groups image files into shards that stay as they are when files come and go.

    A group begins where a file's own name says so: its hash, one in group_size. A
    file that is added or removed changes the group that it falls in and no other, but
    where it is itself the first of a group. Without a whole group, the others are the
    same: what is left of a run is grouped as it was. For that there is no largest
    size; a long group has more parts.

    Args:
      files: In the order of their URIs, each once.
      group_size: Files in a group, on average.
    """
    group: list[File] = []
    for file in files:
        if group and _hash(file.uri) < _HASHES // group_size:
            yield _group(group)
            group = []
        group.append(file)
    if group:
        yield _group(group)


def _take_in(
    text: str,
    *,
    form: str | None,
    match: Match,
    found: defaultdict[str, list[File]],
    ignored: Counter[str],
) -> None:
    """Adds the files of one input to those found, by format, or to the ignored."""
    matched, base = _list_input(text, match=match)
    taken = 0
    passed: Counter[str] = Counter()
    for file in matched:
        if base is not None and _is_hidden(file.path, base=base):
            continue
        kind = form or format_of(file.path)
        if kind is not None:
            taken += 1
            updated = file.last_updated_in_seconds
            found[kind].append(File(file.path, file.size_in_bytes, updated))
        elif base is None:
            raise InputError(
                f"the name of {text} does not tell its format: give --input_format"
            )
        else:
            ending = suffix(file.path)
            passed[f".{ending}" if ending else ""] += 1
    if not taken:
        why = f"{passed.total()} files of no known format" if passed else "no files"
        raise InputError(f"nothing to read in {text}: it matches {why}")
    ignored.update(passed)


def _list_input(
    text: str, *, match: Match
) -> tuple[Iterable[FileMetadata], str | None]:
    """The files of one input, and what their names begin with; None for one file."""
    try:
        if storage.is_local(text):
            return _list_local(os.path.abspath(text), match=match)
        return _list_remote(text, match=match)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot list {text}: {_reason(error)}") from error


def _list_local(
    path: str, *, match: Match
) -> tuple[Iterable[FileMetadata], str | None]:
    if os.path.isdir(path):
        return _below(path.rstrip("/"), match=match)
    if os.path.exists(path):
        return _metadata(path), None
    return list(match(path)), _fixed_part(path)


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
        matched = list(match(uri)) if _is_glob(uri) else []
        if matched:
            return matched, _fixed_part(uri)
    return _below(folder, match=match)


def _below(folder: str, *, match: Match) -> tuple[Iterable[FileMetadata], str]:
    matched = match(f"{_loosely(folder)}/**")
    return [file for file in matched if file.path.startswith(f"{folder}/")], folder


def _match_local(pattern: str) -> Iterator[FileMetadata]:
    """As Beam's local file system, but a folder that cannot be read is an error."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    wanted = re.compile(FileSystem.translate_pattern(pattern))
    for folder, _, names in os.walk(_fixed_part(pattern) or "/", onerror=fail):
        for name in names:
            path = os.path.join(folder, name)
            if wanted.match(path):
                yield from _metadata(path)


def _metadata(path: str) -> list[FileMetadata]:
    """Of the file, if there is one: it may go, and a link may lead nowhere."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return []
    return [FileMetadata(path, status.st_size, status.st_mtime)]


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


def _once(files: list[File]) -> Iterator[File]:
    """The files in order, those of one name once."""
    files.sort(key=attrgetter("uri"))
    return (next(same) for _, same in itertools.groupby(files, attrgetter("uri")))


def _hash(uri: str) -> int:
    digest = hashlib.blake2b(os.fsencode(uri), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _group(files: list[File]) -> Shard:
    # A folder of the first and the last of a sorted list is one of all.
    folder = files[0].uri.rpartition("/")[0]
    while folder and not files[-1].uri.startswith(f"{folder}/"):
        folder = folder.rpartition("/")[0]
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.uri) + b"\0")
    return Shard(uri_text(f"{folder}#{digest.hexdigest()[:16]}"), "files", tuple(files))


def _reason(error: Exception) -> str:
    """The innermost error in one line; Beam puts them into each other."""
    while isinstance(error, BeamIOError) and error.exception_details:
        error = next(iter(error.exception_details.values()))
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
