"""WebDataset: tar archives in which files of one stem make one sample."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from ..block import Fault
from ..shard import Shard
from .archive import Archive, Member
from .kept import fit
from .names import IMAGE_SUFFIXES, TEXT_SUFFIXES, suffix
from .record import Columns, DamagedShardError, Opener, Record
from .stream import Stream

_MOST_HELD = 64
"""Images of one sample that wait for sidecars which may follow. More than these are
no sample but numbered files (`frame.0001.jpg`), and would fill the memory."""


def read(shard: Shard, columns: Columns, *, open_input: Opener) -> Iterator[Record]:
    """Reads a `.tar` or `.tar.gz` in one pass.

    A member's key is its name up to the first dot after the last slash, its extension
    what follows that dot. Consecutive members of one key are a sample: a row for each
    of its images, or one with a fault if it has none. Hidden files, links, folders and
    files without an extension are passed over, as WebDataset does.

    Args:
      shard: Of one file.
      columns: `image` is the extension of the images where the usual ones do not tell;
        `keep` has extensions of sidecars; `key` does not apply.
      open_input: Opens the file.

    Raises:
      DamagedShardError: The archive is cut off or corrupt, after all that precedes.
    """
    sample = _Sample(key="")
    with contextlib.closing(open_input(shard.files[0].uri)) as file:
        archive = Archive(Stream(file, start=shard.start_offset))
        try:
            for member in archive:
                key, extension = split_name(member.name)
                if not extension or key.rsplit("/", 1)[-1] == "":
                    continue
                if key != sample.key:
                    yield from sample.finish()
                    sample = _Sample(key, member.begin)
                sample.add(member, extension, archive=archive, columns=columns)
                if sample.held >= (_MOST_HELD if len(columns.keep) else 1):
                    yield from sample.release()
        except DamagedShardError:
            yield from sample.release()
            raise
        yield from sample.finish()


def split_name(name: str) -> tuple[str, str]:
    """The key and the extension of a member's name."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension


def kept_type(extension: str) -> pa.DataType:
    """The type of a sidecar where the user names none: text or bytes."""
    return pa.string() if suffix(f".{extension}") in TEXT_SUFFIXES else pa.binary()


@dataclass
class _Sample:
    """What has been read of one key."""

    key: str
    begin: int | None = None
    images: list[bytes | Fault] = field(default_factory=list)
    rows: int = 0
    extensions: list[str] = field(default_factory=list)
    kept: dict[str, object] = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def held(self) -> int:
        return len(self.images)

    def add(
        self, member: Member, extension: str, *, archive: Archive, columns: Columns
    ) -> None:
        """Takes the member in: its bytes if they are wanted, else its name."""
        self.extensions.append(extension)
        keep = _find_field(columns.keep, extension=extension)
        is_image = _is_image(extension, image=columns.image)
        if not is_image and keep is None:
            return
        if member.sparse:
            message = f"{member.name!r} is stored as a sparse file, which is not read"
            if is_image:
                self.images.append(Fault("read", "sparse_member", message))
            return
        data = archive.read(member)
        if keep is not None:
            self._keep(data, keep=keep, name=member.name)
        if is_image:
            self.images.append(data)

    def _keep(self, data: bytes, *, keep: pa.Field, name: str) -> None:
        try:
            self.kept[keep.name] = fit(data, keep.type)
        except ValueError as error:
            self.fault = Fault("read", "column_mismatch", f"{name!r}: {error}")

    def release(self) -> Iterator[Record]:
        """The images so far."""
        offset = self.begin if not self.rows else None
        self.rows += len(self.images)
        images, self.images = self.images, []
        # A copy: sidecars that follow must not change rows that are out already.
        kept = dict(self.kept)
        for image in images:
            if isinstance(image, Fault):
                yield Record(self.key, None, kept, image, offset)
            else:
                yield Record(self.key, image, kept, self.fault, offset)
            offset = None

    def finish(self) -> Iterator[Record]:
        """The images so far, or the fault that there were none."""
        yield from self.release()
        if self.rows == 0 and self.extensions and not self._is_meta():
            found = ", ".join(self.extensions[:10])
            message = f"no image among the members of this key: {found}"
            fault = Fault("read", "no_image", message)
            yield Record(self.key, None, self.kept, fault, self.begin)

    def _is_meta(self) -> bool:
        base = self.key.rsplit("/", 1)[-1]
        return base.startswith("__") and base.endswith("__")


def _is_image(extension: str, *, image: str | None) -> bool:
    if image is None:
        return suffix(f".{extension}") in IMAGE_SUFFIXES
    return f".{extension}".lower().endswith(f".{image}".lower())


def _find_field(keep: pa.Schema, *, extension: str) -> pa.Field | None:
    for wanted in keep:
        if wanted.name.lower() == extension.lower():
            return wanted
    return None
