"""Official `.npz` checkpoints, read strictly, one tensor at a time."""

import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import numpy as np

from .architecture import Shape, canonical_name
from .memory import empty_tensor
from .spec import ModelError

_CHUNK = 1 << 22
_DAMAGE = (EOFError, OSError, zipfile.BadZipFile, zlib.error)
_MAX_INFLATION = 8
"""Weights hardly compress. A file that claims to hold more than this many times its
own size is a bomb, not a checkpoint."""


@dataclass(frozen=True)
class Entry:
    """One tensor's place in the file.

    Attributes:
      member: Its name in the archive.
      shape: As its header says.
      fortran: First index fastest.
    """

    member: str
    shape: Shape
    fortran: bool


class Checkpoint:
    """An `.npz` file of float32 tensors, as `np.savez` writes it.

    NumPy's own reader is not used: it would unpickle nothing either, but it trusts
    the sizes that the file declares and names no tensor when one is cut short.
    """

    def __init__(self, path: str) -> None:
        """Opens the file and reads its directory.

        Raises:
          ModelError: It is not there, no zip, truncated, or a bomb.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise ModelError(f"checkpoint {path} does not exist") from None
        except (zipfile.BadZipFile, EOFError):
            raise ModelError(
                f"checkpoint {path} is no .npz file or is truncated: copy it anew"
            ) from None
        except OSError as error:
            raise ModelError(f"checkpoint {path} cannot be read: {error}") from None
        self._check_inflation()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def digest(self) -> str:
        """Identity of the weights, from names, sizes and checksums in the directory.

        The checksum of an entry covers its header, so its shape and type too.
        """
        digest = hashlib.sha256()
        for info in sorted(self._zip.infolist(), key=lambda info: info.filename):
            digest.update(f"{info.filename}\0{info.file_size}\0{info.CRC}\0".encode())
        return digest.hexdigest()[:32]

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All tensors by canonical name, in file order; reads headers only.

        Raises:
          ModelError: A tensor is not float32, is pickled, occurs twice, or its size
            is not that of its shape.
        """
        entries: dict[str, Entry] = {}
        for info in self._zip.infolist():
            name = canonical_name(info.filename.removesuffix(".npy"))
            if name in entries:
                raise self._error(name, "occurs twice")
            entries[name] = self._read_header(name, info)
        return entries

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors by canonical name."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Reads the tensors one by one, in file order.

        Yields:
          Canonical name, and a new float32 array that is the caller's.

        Raises:
          ModelError: A tensor is cut short, damaged, or not finite.
        """
        for name, entry in self.entries.items():
            yield name, self._read(name, entry)

    def _check_inflation(self) -> None:
        declared = sum(info.file_size for info in self._zip.infolist())
        if declared > _MAX_INFLATION * os.path.getsize(self.path):
            raise ModelError(
                f"checkpoint {self.path} claims to unpack to {declared:,} bytes, over "
                f"{_MAX_INFLATION} times its size: it is no official checkpoint"
            )

    def _read_header(self, name: str, info: zipfile.ZipInfo) -> Entry:
        try:
            with self._zip.open(info) as stream:
                shape, fortran, dtype = _npy_header(stream)
                header_size = stream.tell()
        except ValueError as error:
            raise self._error(name, f"has no readable header ({error})") from None
        except _DAMAGE as error:
            raise self._error(name, f"is cut short or damaged ({error})") from None
        if dtype.hasobject:
            raise self._error(name, "is a pickled array, which is never loaded")
        if dtype != np.dtype("<f4"):
            raise self._error(name, f"is {dtype}, not float32")
        if info.file_size != header_size + 4 * math.prod(shape):
            raise self._error(
                name, f"has {info.file_size:,} bytes, not those of its shape {shape}"
            )
        return Entry(info.filename, shape, fortran)

    def _read(self, name: str, entry: Entry) -> np.ndarray:
        flat = empty_tensor((math.prod(entry.shape),))
        try:
            with self._zip.open(entry.member) as stream:
                _npy_header(stream)
                _fill(stream, flat.view(np.uint8).data)
        except _DAMAGE as error:
            raise self._error(name, f"is cut short or damaged ({error})") from None
        if not np.isfinite(flat).all():
            raise self._error(name, "has values that are not finite")
        if entry.fortran:
            return np.ascontiguousarray(flat.reshape(entry.shape[::-1]).T)
        return flat.reshape(entry.shape)

    def _error(self, name: str, problem: str) -> ModelError:
        return ModelError(f"tensor {name} of {self.path} {problem}")


def _npy_header(stream: IO[bytes]) -> tuple[Shape, bool, np.dtype]:
    """Reads a header of at most 10,000 bytes (NumPy's own bound) with no `eval`."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"npy version {version}")


def _fill(stream: IO[bytes], target: memoryview) -> None:
    # In pieces: one read of it all would hold the tensor twice.
    filled = 0
    while filled < len(target):
        piece = stream.read(min(_CHUNK, len(target) - filled))
        if not piece:
            raise EOFError(f"{filled:,} of {len(target):,} bytes")
        target[filled : filled + len(piece)] = piece
        filled += len(piece)
    # zipfile compares the checksum only when it is asked to read past the end.
    if stream.read(1):
        raise EOFError("more bytes than its shape has")
