"""One stored object."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """One stored object as a listing shows it.

    Attributes:
      uri: Absolute path or URI, as Beam's FileSystems open it.
      size: Bytes.
      updated: Seconds since 1970; 0.0 where the storage does not tell.
    """

    uri: str
    size: int
    updated: float

    @property
    def version(self) -> str:
        """Changes whenever the content does, as far as a listing tells."""
        return version_text(self.size, self.updated)

    @property
    def key(self) -> str:
        """The URI as the table has it."""
        return uri_text(self.uri)


def version_text(size: int, updated: float) -> str:
    """A file's version, of its size and its time."""
    return f"{size}@{updated!r}"


def uri_text(uri: str) -> str:
    """A local name as text: its bytes need not be UTF-8, but Arrow's strings are."""
    if uri.isascii():
        return uri
    return os.fsencode(uri).decode("utf-8", "backslashreplace")
