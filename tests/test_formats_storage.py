"""A storage that fails is not taken for a damaged shard, whatever it raises."""

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shards import write_parquet, write_tar
from transforms.formats import Columns, Record, kept_types, read_records
from transforms.formats.tfrecord import write_tfrecord
from transforms.shard import File, Shard

IMAGES = [bytes([n]) * 5000 for n in range(20)]


class _Failing(io.BytesIO):
    """Raises at the first read that reaches a byte."""

    def __init__(self, data: bytes, *, at: int, error: BaseException) -> None:
        super().__init__(data)
        self._at, self._error = at, error

    def read(self, size: int | None = -1) -> bytes:
        begin = self.tell()
        data = super().read(size)
        if begin + len(data) > self._at >= begin:
            raise self._error
        return data


def _tar(path: Path) -> bytes:
    samples = [(str(n), {"jpg": image}) for n, image in enumerate(IMAGES)]
    return write_tar(path, samples).read_bytes()


def _tfrecord(path: Path) -> bytes:
    write_tfrecord(str(path), [{"image": image, "key": b"k"} for image in IMAGES])
    return path.read_bytes()


def _parquet(path: Path) -> bytes:
    rows = [{"image": image} for image in IMAGES]
    return write_parquet(path, rows, rows_per_group=5, compression="none").read_bytes()


WRITERS: dict[str, Callable[[Path], bytes]] = {
    "tar": _tar,
    "tfrecord": _tfrecord,
    "parquet": _parquet,
}

ERRORS = [
    OSError("short read"),
    ConnectionResetError(104, "reset"),
    EOFError("the connection was closed"),
    ValueError("read of closed file"),
    zlib.error("not ours"),
    RuntimeError("503"),
    MemoryError(),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("form", "packed", "offsets"),
    [
        ("tar", False, (0, 2, 50_000, 100_000)),
        ("tfrecord", False, (0, 2, 50_000, 100_000)),
        # Unpacked in pieces larger than these files: all is read at once.
        ("tar", True, (0, 2, 50_000)),
        ("tfrecord", True, (0, 2, 50_000)),
        # The magic bytes in front are not read, the footer at the end is.
        ("parquet", False, (30, 50_000, 101_000, -30)),
    ],
)
def test_what_the_storage_raises_is_raised(
    tmp_path: Path,
    form: str,
    packed: bool,
    offsets: tuple[int, ...],
    error: BaseException,
) -> None:
    data = WRITERS[form](tmp_path / "a")
    if packed:
        data = gzip.compress(data, compresslevel=0)
    shard = Shard("s", form, (File("s", len(data), 1.0),))
    for at in offsets:

        def opener(uri: str, at: int = at % len(data)) -> io.BytesIO:
            return _Failing(data, at=at, error=error)

        records: list[Record] = []
        with pytest.raises(type(error)) as raised:
            for record in read_records(shard, Columns(), open_input=opener):
                records += [record]
        assert raised.value is error
        assert [record.image for record in records] == IMAGES[: len(records)]


@pytest.mark.parametrize("form", ["tar", "tfrecord", "parquet", "files"])
def test_an_open_that_fails_is_raised(form: str) -> None:
    error = TimeoutError("no answer")

    def opener(uri: str) -> io.BytesIO:
        raise error

    shard = Shard("s", form, (File("s", 1, 1.0),))
    with pytest.raises(TimeoutError) as raised:
        list(read_records(shard, Columns(), open_input=opener))
    assert raised.value is error


@pytest.mark.parametrize("form", ["tar", "tfrecord", "parquet"])
def test_the_file_is_closed_however_the_reading_ends(tmp_path: Path, form: str) -> None:
    data = WRITERS[form](tmp_path / "a")
    shard = Shard("s", form, (File("s", len(data), 1.0),))
    opened: list[io.BytesIO] = []

    def opener(uri: str) -> io.BytesIO:
        opened.append(io.BytesIO(data))
        return opened[-1]

    assert len(list(read_records(shard, Columns(), open_input=opener))) == 20
    records = read_records(shard, Columns(), open_input=opener)
    next(records)
    records.close()
    kept_types(shard, Columns(), [], open_input=opener)
    assert [file.closed for file in opened] == [True] * len(opened)
    assert len(opened) == (2 if form == "tar" else 3)
