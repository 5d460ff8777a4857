"""WebDataset tar files become rows, up to the byte at which they are damaged."""

import gzip
import io
import random
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests.shards import Sample, drain, shard_of, write_tar
from transforms.formats import (
    Columns,
    DamagedShardError,
    Record,
    archive,
    read_records,
)
from transforms.shard import File, Shard

SAMPLES: list[Sample] = [
    ("a", {"jpg": b"A" * 700, "json": b'{"n": 1}'}),
    ("b", {"jpg": b"B" * 512}),
    ("c", {"jpg": b"C" * 100, "cls": b"7"}),
]
# A header and the padded content of each member; the archive's end is at 5,632.
HEADERS = (0, 1536, 2560, 3584, 4608)
IMAGE_ENDS = {"a": 512 + 700, "b": 2560 + 512 + 512, "c": 3584 + 512 + 100}
END = 5632

JSON = Columns(keep=pa.schema([("json", pa.string())]))


def _archive(*members: tuple[tarfile.TarInfo | str, bytes], form: int = 1) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        for member, content in members:
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def _special(
    name: str, kind: bytes, *, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def _images(records: list[Record]) -> list[tuple[str | None, bytes | None]]:
    return [(record.key, record.image) for record in records]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    return write_tar(path, SAMPLES).read_bytes()


@pytest.mark.parametrize("gz", [False, True])
def test_members_of_one_stem_are_one_row(tmp_path: Path, gz: bool) -> None:
    path = write_tar(tmp_path / "x", SAMPLES, gz=gz)
    records, damage = drain(shard_of(path, "tar"), columns=JSON)
    assert damage is None
    assert records == [
        Record("a", b"A" * 700, {"json": '{"n": 1}'}),
        Record("b", b"B" * 512),
        Record("c", b"C" * 100),
    ]


def test_every_cut_gives_the_rows_before_it_and_says_so(plain: bytes) -> None:
    assert plain[END:].count(0) == len(plain) - END
    # Also all offsets near a border of anything, which strides may miss.
    near = {edge + step for edge in (*HEADERS, END) for step in range(-2, 3)}
    near |= {edge + step for edge in IMAGE_ENDS.values() for step in range(-2, 3)}
    for cut in sorted({*range(1, END, 7), *near, *range(END, len(plain), 499)}):
        if cut <= 0:
            continue
        records, damage = drain(plain[:cut], "tar")
        whole = [key for key, end in IMAGE_ENDS.items() if end <= cut]
        assert [record.key for record in records] == whole, cut
        assert (damage is None) == (cut > END), cut
        if damage:
            assert damage.error == "truncated_shard"
            assert f" {cut:,}" in str(damage) or "header at byte" in str(damage)


def test_a_cut_in_a_sidecar_costs_no_image(plain: bytes) -> None:
    records, damage = drain(plain[: HEADERS[1] + 512 + 3], "tar", columns=JSON)
    assert records == [Record("a", b"A" * 700)]
    assert str(damage) == "the archive ends at byte 2,051, inside of member 'a.json'"


def test_a_cut_packed_archive_gives_what_it_still_holds(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes
    samples = [(f"{n}", {"jpg": noise(2000)}) for n in range(5)]
    packed = write_tar(tmp_path / "a.tar.gz", samples, gz=True).read_bytes()
    for cut in (1, 2, 9, 11, 300, 2300, 2800, len(packed) - 9, len(packed) - 1):
        records, damage = drain(packed[:cut], "tar")
        assert damage is not None and damage.error == "truncated_shard", cut
        # Noise does not shrink: what fits into the bytes is there, but for headers.
        assert len(records) in (cut // 2200, cut // 2100, cut // 2000), cut
        assert [record.image for record in records] == [
            members["jpg"] for _, members in samples[: len(records)]
        ]


@pytest.mark.parametrize("offset", [-8, -4])
def test_a_packed_archive_with_a_wrong_sum_is_damaged_at_its_end(
    tmp_path: Path, offset: int
) -> None:
    packed = bytearray(write_tar(tmp_path / "a.tgz", SAMPLES, gz=True).read_bytes())
    packed[offset] ^= 1
    records, damage = drain(bytes(packed), "tar")
    assert [record.key for record in records] == ["a", "b", "c"]
    assert damage is not None and damage.error == "corrupt_shard"


def test_packed_members_one_after_the_other_are_one_archive(plain: bytes) -> None:
    packed = gzip.compress(plain[:1000]) + gzip.compress(plain[1000:]) + bytes(100)
    records, damage = drain(packed, "tar")
    assert [record.key for record in records] == ["a", "b", "c"]
    assert damage is None


@pytest.mark.parametrize("header", [1536, 3584])
def test_a_header_that_cannot_be_read_is_damage(plain: bytes, header: int) -> None:
    flipped = bytearray(plain)
    flipped[header + 5] ^= 0x40
    records, damage = drain(bytes(flipped), "tar")
    assert len(records) == {1536: 1, 3584: 2}[header]
    assert damage is not None and damage.error == "corrupt_shard"
    assert str(damage) == f"no member can be read at byte {header:,}: bad checksum"


@pytest.mark.parametrize("data", [b"", bytes(10240), gzip.compress(b"")])
def test_an_empty_archive_has_no_rows(data: bytes) -> None:
    assert drain(data, "tar") == ([], None)


def test_archives_one_after_the_other_are_one(plain: bytes) -> None:
    records, damage = drain(plain + plain, "tar")
    assert [record.key for record in records] == ["a", "b", "c", "a", "b", "c"]
    assert damage is None


def test_what_is_no_archive_is_damage_at_its_start() -> None:
    records, damage = drain(b"<html>not found</html>" * 100, "tar")
    assert records == []
    assert damage is not None and "at byte 0:" in str(damage)


def test_two_images_of_one_key_are_two_rows() -> None:
    data = _archive(("k.left.jpg", b"l"), ("k.json", b"{}"), ("k.right.PNG", b"r"))
    records, _ = drain(data, "tar", columns=JSON)
    assert records == [
        Record("k", b"l", {"json": "{}"}),
        Record("k", b"r", {"json": "{}"}),
    ]


def test_a_sample_without_an_image_is_a_row_with_a_fault() -> None:
    data = _archive(("k.json", b"{}"), ("k.heic", b"?"), ("l.jpg", b"l"))
    records, _ = drain(data, "tar")
    assert [(record.key, record.image) for record in records] == [
        ("k", None),
        ("l", b"l"),
    ]
    assert records[0].fault is not None and records[0].fault.error == "no_image"
    assert records[0].fault.message.endswith(": json, heic")


def test_keys_keep_folders_and_end_at_the_first_dot_behind_them() -> None:
    data = _archive(("v1.2/x.seg.png", b"s"), ("./y.jpg", b"y"))
    records, _ = drain(data, "tar")
    assert _images(records) == [("v1.2/x", b"s"), ("./y", b"y")]


def test_what_is_no_member_of_a_sample_is_passed_over() -> None:
    data = _archive(
        _special("dir.jpg", tarfile.DIRTYPE),
        _special("link.jpg", tarfile.SYMTYPE, target="a.jpg"),
        _special("hard.jpg", tarfile.LNKTYPE, target="a.jpg"),
        ("._a.jpg", b"mac"),
        (".hidden/.b.jpg", b"hidden"),
        ("__index__", b"meta"),
        ("__urls__.json", b"meta"),
        ("README", b"no extension"),
        ("a.jpg", b"a"),
    )
    records, damage = drain(data, "tar")
    assert _images(records) == [("a", b"a")]
    assert damage is None


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(form: int) -> None:
    name = "folder/" * 40 + "größe"
    records, damage = drain(
        _archive((f"{name}.jpg", b"x"), ("b.jpg", b"b"), form=form), "tar"
    )
    assert _images(records) == [(name, b"x"), ("b", b"b")]
    assert damage is None


def test_names_that_are_not_utf8_become_escapes() -> None:
    member = tarfile.TarInfo("gr\udcf6\udcdfe.jpg")
    records, _ = drain(_archive((member, b"")), "tar")
    assert records[0].key == "gr\\xf6\\xdfe"


def test_a_size_in_an_extended_header_counts() -> None:
    member = tarfile.TarInfo("a.jpg")
    member.size = 600
    member.pax_headers = {"size": "600", "comment": "x" * 2000}
    data = _archive((member, b"a" * 600), ("b.jpg", b"b"), form=tarfile.PAX_FORMAT)
    assert _images(drain(data, "tar")[0]) == [("a", b"a" * 600), ("b", b"b")]


def test_a_sparse_image_is_a_row_with_a_fault() -> None:
    member = tarfile.TarInfo("a.jpg")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "b.jpg"}
    records, _ = drain(_archive((member, b""), form=tarfile.PAX_FORMAT), "tar")
    assert [record.key for record in records] == ["b"]
    assert records[0].fault is not None and records[0].fault.error == "sparse_member"


def _summed(header: bytearray) -> bytes:
    """The header with the checksum that fits it."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_the_map_of_a_sparse_file_is_passed_over() -> None:
    member = tarfile.TarInfo("a.jpg")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 700
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    more, last = bytearray(512), bytes(512)
    more[504] = 1
    data = _summed(header) + more + last + b"x" * 1024 + _archive(("b.jpg", b"b"))
    records, damage = drain(data, "tar")
    assert _images(records) == [("a", None), ("b", b"b")]
    assert damage is None


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_headers_are_read_as_tarfile_reads_them(form: int) -> None:
    dice = random.Random(form)
    names = ["a.jpg", "f" * 90 + "/" + "n" * 60 + ".jpg", "\u00e4/b.jpg", "\udcff.jpg"]
    # Of name, size, checksum, type, magic and prefix.
    fields = [*range(100), *range(124, 136), *range(148, 157), *range(257, 265)]
    fields += range(345, 500)
    usual = 0
    for name in names:
        member = tarfile.TarInfo(name)
        member.size = dice.randrange(1 << 33)
        header = member.tobuf(form, "utf-8", "surrogateescape")[-512:]
        for _ in range(500):
            # Half of them whole, half of them of a wrong sum.
            changed = bytearray(header)
            changed[dice.choice(fields)] = dice.choice(b"\0 -0178 a\x80\xff")
            some = _summed(changed) if dice.random() < 0.5 else bytes(changed)
            found = archive._parse_usual(some)
            if found is not None:
                usual += 1
                info = tarfile.TarInfo.frombuf(some, "utf-8", "backslashreplace")
                assert found == (info.name, info.type, info.size)
    assert usual > 800


@pytest.mark.parametrize("size", [5 << 30, 1 << 50])
def test_an_absurd_size_is_not_allocated(size: int) -> None:
    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 <= size <= 16 << 20
            return super().read(size)

    member = tarfile.TarInfo("a.jpg")
    member.size = size
    file = Watched(member.tobuf() + b"x" * 2000)
    shard = Shard("s", "tar", (File("s", 1, 1.0),))
    with pytest.raises(DamagedShardError) as damage:
        list(read_records(shard, Columns(), open_input=lambda _: file))
    assert damage.value.error == "truncated_shard"


def test_a_negative_size_is_damage() -> None:
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    header[124:136] = b"\xff" * 12
    records, damage = drain(_summed(header) + bytes(1024), "tar")
    assert records == []
    assert damage is not None and damage.error == "corrupt_shard"


@pytest.mark.parametrize(("columns", "most"), [(Columns(), 2), (JSON, 65)])
def test_frames_numbered_after_the_dot_do_not_fill_the_memory(
    columns: Columns, most: int
) -> None:
    members = [(f"clip.{number:04}.jpg", b"%d" % number) for number in range(200)]
    file = io.BytesIO(_archive(*members, ("clip.json", b"{}")))
    shard = Shard("s", "tar", (File("s", 1, 1.0),))
    records = read_records(shard, columns, open_input=lambda _: file)
    first = next(records)
    assert file.tell() <= most * 1024
    rest = list(records)
    assert [record.image for record in (first, *rest)] == [
        b"%d" % n for n in range(200)
    ]
    # Rows that are out stay as they were when the sidecar comes.
    assert first.kept == {}
    assert rest[-1].kept == ({"json": "{}"} if columns is JSON else {})


def test_sidecars_have_the_types_that_were_asked_for() -> None:
    keep = pa.schema([("cls", pa.int64()), ("txt", pa.string()), ("npy", pa.binary())])
    data = _archive(
        ("a.JPG", b"a"), ("a.cls", b" 12\n"), ("a.TXT", b"gr\xf6n"), ("a.npy", b"\xff"),
        ("b.jpg", b"b"), ("b.cls", b"cat"),
    )  # fmt: skip
    records, _ = drain(data, "tar", columns=Columns(keep=keep))
    assert records[0] == Record(
        "a", b"a", {"cls": 12, "txt": "gr\\xf6n", "npy": b"\xff"}
    )
    assert records[1].image == b"b" and records[1].fault is not None
    assert records[1].fault.error == "column_mismatch"
    assert records[1].fault.message == "'b.cls': 'cat' is no int64"


def test_the_images_extension_can_be_named() -> None:
    data = _archive(("a.mask.png", b"m"), ("a.view.png", b"v"), ("b.raw", b"r"))
    view, _ = drain(data, "tar", columns=Columns(image="view.png"))
    assert [record.image for record in view] == [b"v", None]
    raw, _ = drain(data, "tar", columns=Columns(image="raw"))
    assert [record.image for record in raw] == [None, b"r"]
