"""`bitbeam verify --input` reads the images again and holds each against its row."""

import os
import tarfile
from pathlib import Path

import pytest

from pipeline.cli import main
from tests import photos, shards, tables
from tests.conftest import Verify
from tests.tables import changed


def _rewrite_unnoticed(path: Path, content: bytes) -> None:
    """Replaces a file so that a listing does not show it."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_input_of_a_table_agrees_with_it(
    verify: Verify, small_source: Path
) -> None:
    code, lines = verify("--input", str(small_source))
    assert code == 0, lines
    assert lines[0].startswith("bitbeam: verified: 58 images in ")
    assert lines[0].endswith("nothing lost, nothing twice, as in the input")


@pytest.mark.parametrize("name", ["a.tar", "b.parquet", "d/007.jpg"])
def test_an_image_that_was_replaced_unnoticed_is_found(
    verify: Verify, small_source: Path, name: str
) -> None:
    path = small_source / name
    content = bytearray(path.read_bytes())
    picture = (small_source / "d/007.jpg").read_bytes()
    content[content.index(picture) + len(picture) // 2] ^= 1
    with changed(path):
        _rewrite_unnoticed(path, bytes(content))
        code, lines = verify("--input", str(small_source))
    assert code == 1
    [line] = lines
    assert ("row 7 of " if name != "d/007.jpg" else "row ") in line
    assert str(path.parent) in line
    assert line.endswith("is another image now: its sha256 differs")


def test_a_bad_image_of_another_size_is_found(
    verify: Verify, small_source: Path
) -> None:
    path = small_source / "a.tar"
    content = path.read_bytes()
    at = content.index(b"no image at all")
    shorter = bytearray(content)
    shorter[at - 512 : at] = _header_of_size(content[at - 512 : at], size=9)
    with changed(path):
        _rewrite_unnoticed(path, bytes(shorter))
        code, lines = verify("--input", str(small_source))
    assert code == 1
    assert lines[0].endswith(f"row 2 of {path} has 9 bytes now, not 15")


def _header_of_size(header: bytes, *, size: int) -> bytes:
    """A tar header with another size of its member."""
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("name", ["a.tar", "b.parquet", "d/007.jpg"])
def test_what_changed_since_is_named(
    verify: Verify, small_source: Path, name: str
) -> None:
    path = small_source / name
    with changed(path):
        os.utime(path, (1.0, 1.0))
        code, lines = verify("--input", str(small_source))
    assert code == 1
    [line] = lines
    assert line.startswith(f"bitbeam: {path}: has changed since its row")


def test_what_is_not_in_the_table_is_named(verify: Verify, small_source: Path) -> None:
    picture = photos.encode(photos.photograph(32, 32), "jpeg")
    tar, file = small_source / "new.tar", small_source / "d/new.jpg"
    with changed(tar, file):
        shards.write_tar(tar, [("0", {"jpg": picture})])
        file.write_bytes(picture)
        code, lines = verify("--input", str(small_source))
    assert code == 1
    assert lines == [
        f"bitbeam: {tar}: is not in the table",
        f"bitbeam: {file}: is not in the table",
    ]


def test_rows_whose_images_are_gone_stay(
    small_table: Path, small_source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar, file = small_source / "a.tar", small_source / "d/003.jpg"
    with changed(tar, file):
        tar.unlink()
        file.unlink()
        code = main(["verify", str(small_table), "--input", str(small_source)])
    assert code == 0
    assert capsys.readouterr().err.splitlines() == [
        "bitbeam: 2 shards and files of the table are not in the input"
    ]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (slice(0, 17), "has no rows 17 to 19, which the table has"),
        (slice(0, 20), ""),
        (slice(0, None), "rows 20 to 21 are not in the table"),
    ],
)
def test_rows_more_or_less_are_found(
    verify: Verify, small_source: Path, samples: slice, message: str
) -> None:
    path = small_source / "a.tar"
    pictures = [*tables.images(20), b"more", b"again"]
    named = [(f"{n:03d}", {"jpg": each}) for n, each in enumerate(pictures)]
    with changed(path):
        before = path.stat()
        shards.write_tar(path, named[samples])
        # Zeros end an archive, however many: so the size can be what it was.
        content = path.read_bytes().rstrip(b"\0")
        path.write_bytes(content.ljust(before.st_size, b"\0"))
        assert path.stat().st_size == before.st_size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        code, lines = verify("--input", str(small_source))
    assert code == (1 if message else 0)
    if message:
        assert lines == [f"bitbeam: {path}: {message}"]
