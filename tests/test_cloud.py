"""`gs://` and `s3://` with the real clients, against emulators that may fail."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import storage as google_storage

from pipeline.cli import main
from tests import emulators, outputs, photos, shards
from tests.emulators import BUCKET, FAULTS, S3
from transforms import gcs as gcs_store
from transforms import s3 as s3_store
from transforms import storage
from transforms.retry import DEFAULT, Retries

gcs, s3 = emulators.gcs, emulators.s3
_gcs_port, _s3_port = emulators._gcs_port, emulators._s3_port
google_credentials = emulators.google_credentials

SMALL = ("--image_size", "64", "--batch_size", "4", "--rows_per_part", "12")
QUICK = Retries(tries=8, first_wait=0.01)
GS, S3_URI = f"gs://{BUCKET}", f"s3://{BUCKET}"


@pytest.fixture(params=["gs", "s3"])
def root(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """URI of an empty bucket of either emulator."""
    if request.param == "gs":
        request.getfixturevalue("gcs")
        yield GS
    else:
        options = PipelineOptions(request.getfixturevalue("s3").arguments)
        monkeypatch.setattr(FileSystems, "_pipeline_options", options)
        yield S3_URI


def test_an_object_is_written_read_and_removed(root: str) -> None:
    uri = storage.join(root, "a", "b")
    data = np.random.default_rng(1).bytes(20_000_000)
    assert not storage.exists(uri)
    storage.write_whole(uri, memoryview(b"a longer one before"))
    storage.write_whole(uri, data)
    assert storage.exists(uri)
    with storage.open_input(uri) as source:
        assert source.read() == data
        assert source.seek(-5, os.SEEK_END) == 19_999_995
        assert source.read(100) == data[-5:]
        assert source.read(100) == b""
        source.seek(17_000_000)
        assert source.read(10) == data[17_000_000:17_000_010]
        assert source.tell() == 17_000_010
    storage.remove(uri)
    storage.remove(uri)
    assert not storage.exists(uri)
    with pytest.raises(FileNotFoundError, match=f"no such object: '{uri}'"):
        storage.open_input(uri)


def test_an_empty_object_is_empty(root: str) -> None:
    storage.write_whole(f"{root}/empty", b"")
    with storage.open_input(f"{root}/empty") as source:
        assert source.read() == b""


def test_globs_match_as_beam_reads_them(root: str) -> None:
    for name in ("a/1.tar", "a/2.tar", "a/b/3.tar", "a/4.txt", "c[1].tar", "c1.tar"):
        storage.write_whole(f"{root}/{name}", name.encode())

    def matches(pattern: str) -> list[str]:
        return [uri.removeprefix(root) for uri in storage.list_uris(root + pattern)]

    assert matches("/a/*.tar") == ["/a/1.tar", "/a/2.tar"]
    assert matches("/a/**.tar") == ["/a/1.tar", "/a/2.tar", "/a/b/3.tar"]
    assert matches("/a/1.tar") == ["/a/1.tar"]
    assert matches("/c[[]1].tar") == ["/c[1].tar"]
    assert matches("/c[1].tar") == ["/c1.tar"]
    assert matches("/none/*") == []
    [found] = storage.match(f"{root}/a/4.txt")
    assert found.size_in_bytes == 7
    assert abs(found.last_updated_in_seconds - time.time()) < 60
    storage.remove_all(f"{root}/a/**")
    assert matches("/**") == ["/c1.tar", "/c[1].tar"]


NAMES = [f"many/{number:04d}" for number in range(2500)]


def test_a_listing_has_all_pages(
    gcs: google_storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulators.put_many_gcs(NAMES)
    with emulators.faulty(monkeypatch, rate=0.0) as proxy:
        found = storage.list_uris(f"{GS}/many/*")
        assert found == [f"{GS}/{name}" for name in NAMES]
        assert len(proxy.requests) == 3


def test_a_listing_of_s3_has_all_pages(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_many(NAMES)
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(s3.arguments))
    found = storage.list_uris(f"{S3_URI}/many/*")
    assert found == [f"{S3_URI}/{name}" for name in NAMES]


# The emulator of gs:// gives any generation; the next test has the request.
@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_what_is_replaced_while_it_is_read_is_an_error(root: str) -> None:
    storage.write_whole(f"{root}/a", b"1" * 5_000_000)
    with storage.open_input(f"{root}/a") as source:
        assert source.read(10) == b"1" * 10
        storage.write_whole(f"{root}/a", b"2" * 5_000_000)
        with pytest.raises(storage.StorageError, match=f"{root}/a was replaced"):
            source.read()


def test_only_the_generation_that_was_opened_is_read(
    gcs: google_storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_whole(f"{GS}/a", b"x" * 5_000_000)
    generation = gcs.get_blob("a").generation
    with (
        emulators.faulty(monkeypatch, rate=0.0) as proxy,
        storage.open_input(f"{GS}/a") as source,
    ):
        source.read()
    reads = [request for request in proxy.requests if "alt=media" in request]
    assert reads
    assert all(f"ifGenerationMatch={generation}" in read for read in reads)


@pytest.mark.parametrize("way", FAULTS)
def test_a_call_that_fails_is_made_again(
    gcs: google_storage.Bucket, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(gcs_store, "_TIMEOUT", (0.5, 0.5))
    data = np.random.default_rng(1).bytes(9_000_000)  # an upload in several requests
    with emulators.faulty(monkeypatch, rate=0.4, ways=(way,), most=8) as proxy:
        storage.write_whole(f"{GS}/big", data, retries=QUICK)
        for _ in range(3):
            with storage.open_input(f"{GS}/big", retries=QUICK) as source:
                assert source.read() == data
        for number in range(3):
            storage.write_whole(f"{GS}/{number}", b"%d" % number, retries=QUICK)
        assert len(storage.list_uris(f"{GS}/*", retries=QUICK)) == 4
        storage.remove_all(f"{GS}/*", retries=QUICK)
        assert not storage.exists(f"{GS}/big", retries=QUICK)
    assert proxy.faults[way] >= 3


def test_a_call_that_always_fails_ends_in_one_line(
    gcs: google_storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emulators.faulty(monkeypatch, rate=1.0, ways=("503",)) as proxy:
        with pytest.raises(storage.StorageError) as raised:
            storage.write_whole(f"{GS}/a", b"x", retries=Retries(tries=3, first_wait=0))
        # As often as was asked for: nothing below it tries on its own.
        assert len(proxy.requests) == 3
    assert str(raised.value).startswith(f"cannot write {GS}/a: ServiceUnavailable: 503")
    assert "\n" not in str(raised.value)
    assert list(gcs.list_blobs()) == []


def test_the_client_of_s3_does_not_retry_by_itself(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = s3["s3_endpoint_url"].removeprefix("http://")
    with emulators.FaultyProxy(target, rate=1.0, ways=("503",)) as proxy:
        options = PipelineOptions(S3(proxy.url).arguments)
        monkeypatch.setattr(FileSystems, "_pipeline_options", options)
        with pytest.raises(storage.StorageError, match="cannot list s3://bucket/a/"):
            limit = Retries(tries=3, first_wait=0)
            storage.list_uris(f"{S3_URI}/a/*", retries=limit)
        assert len(proxy.requests) == 3


# To gs:// it is resumable, and has no name until it is whole.
@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_an_upload_that_fails_half_way_leaves_nothing(
    s3: S3, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store, "_PIECE_BYTES", 5 << 20)
    # The emulator may leave a piece of an upload that is gone without an answer.
    monkeypatch.setattr(s3_store, "_READ_SECONDS", 2.0)
    monkeypatch.setattr(storage, "_stores", {})
    storage.exists(f"{root}/a")  # makes the client
    client = storage._stores["s3"].store._client  # type: ignore[attr-defined]
    pieces = []

    def fail(**_: Any) -> None:
        pieces.append(1)
        if len(pieces) == 2:
            raise ConnectionResetError(104, "reset")

    client.meta.events.register("before-call.s3.UploadPart", fail)
    with pytest.raises(storage.StorageError, match="cannot write s3://"):
        data = bytes(2 * s3_store._PIECE_BYTES + 1)
        storage.write_whole(f"{root}/a", data, retries=Retries(tries=1))
    assert len(pieces) >= 2
    assert storage.list_uris(f"{root}/*") == []
    assert "Uploads" not in s3.client.list_multipart_uploads(Bucket=BUCKET)


# Access


@pytest.mark.parametrize("name", ["a", "a/*.tar", ""])
def test_what_is_there_can_be_accessed(root: str, name: str) -> None:
    storage.check_access(f"{root}/{name}")


def test_a_missing_bucket_is_one_line(root: str) -> None:
    start = time.monotonic()
    missing = root.replace(BUCKET, "no-such-bucket")
    with pytest.raises(FileNotFoundError, match=r"no such bucket: '.*no-such-bucket/a"):
        storage.check_access(f"{missing}/a")
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        storage.list_uris(f"{missing}/*")
    assert time.monotonic() - start < 2


def test_a_denied_permission_is_one_line(
    gcs: google_storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emulators.faulty(monkeypatch, rate=1.0, ways=("403",)) as proxy:
        with pytest.raises(PermissionError, match=f"no permission to list.*'{GS}/a"):
            storage.check_access(f"{GS}/a/*")
        with pytest.raises(PermissionError, match="no permission to write"):
            storage.write_whole(f"{GS}/a", b"x")
        assert len(proxy.requests) == 2


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gs://bucket/a", "there are no Google credentials: run `gcloud"),
        ("s3://bucket/a", "there are no AWS credentials: run `aws configure`"),
    ],
)
def test_missing_credentials_are_one_line_within_seconds(
    tmp_path: Path, uri: str, says: str
) -> None:
    code = (
        "import time; from transforms import storage; start = time.monotonic()\n"
        f"try: storage.check_access({uri!r})\n"
        "except OSError as error: print(error)\n"
        "print(time.monotonic() - start)"
    )
    kept = ("PATH", "PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(tmp_path),
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_GCE_CHECK": "true",
        },
    )
    message, seconds = done.stdout.splitlines()
    assert says in message
    assert float(seconds) < 10


def test_a_missing_client_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setattr(storage, "_stores", {})
    with pytest.raises(storage.StorageError, match=r"pip install 'bitbeam\[aws\]'"):
        storage.check_access("s3://bucket/a")


def test_another_scheme_is_one_line() -> None:
    with pytest.raises(storage.StorageError, match="hdfs:// is not known"):
        storage.check_access("hdfs://host/a")


# Whole runs


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of three formats: 14 images in each archive, 30 as files."""
    folder = tmp_path_factory.mktemp("corpus")
    pictures = list(photos.photographs().values())
    encoded = [
        photos.encode(
            pictures[number % len(pictures)].resize((90 + number, 80)), "jpeg"
        )
        for number in range(58)
    ]
    members = [(f"{number:03d}", {"jpg": encoded[number]}) for number in range(14)]
    shards.write_tar(folder / "a.tar", members)
    rows = [{"image": image} for image in encoded[14:28]]
    shards.write_parquet(folder / "b.parquet", rows, rows_per_group=5)
    files = {f"{number:03d}.jpg": encoded[number] for number in range(28, 58)}
    shards.write_files(folder / "c", files)
    return folder


@pytest.fixture(scope="module")
def local_rows(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a run on local files gives."""
    output = tmp_path_factory.mktemp("local")
    assert _run(str(corpus), str(output)) == 0
    return _rows(output)


def _run(source: str, output: str, *options: str) -> int:
    places = ("--input", source, "--output", output)
    return main(["run", "--model", "random:R14x1:1000", *places, *SMALL, *options])


def _rows(output: Path) -> list[Any]:
    """The rows without what says where their images lie, by image."""
    table = pq.read_table(output / "embeddings").to_pylist()
    assert outputs.errors(output) == []
    return sorted(
        (row["sha256"], row["width"], row["height"], row["embedding"]) for row in table
    )


def _assert_same(rows: list[Any], expected: list[Any]) -> None:
    assert len(rows) == 58
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    vectors = np.array([row[3] for row in rows])
    np.testing.assert_allclose(vectors, [row[3] for row in expected], atol=1e-5)


def _upload(folder: Path, bucket: google_storage.Bucket) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = f"in/{path.relative_to(folder)}"
            bucket.blob(name).upload_from_filename(str(path))


def _download(bucket: google_storage.Bucket, folder: Path) -> dict[str, int]:
    """Fetches the output; returns the generation of each object."""
    generations = {}
    for blob in bucket.list_blobs(prefix="out/"):
        path = folder / blob.name.removeprefix("out/")
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new one, as this one's link is to the proxy.
        path.write_bytes(bucket.blob(blob.name).download_as_bytes())
        generations[blob.name] = blob.generation
    return generations


def test_a_run_on_a_faulty_store_ends_right_and_resumes(
    gcs: google_storage.Bucket,
    corpus: Path,
    local_rows: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gcs_store, "_TIMEOUT", (1.0, 1.0))
    # The same tries as ever, with shorter waits.
    monkeypatch.setitem(vars(DEFAULT), "first_wait", 0.1)
    _upload(corpus, gcs)
    with emulators.faulty(monkeypatch, rate=0.1) as proxy:
        assert _run(f"{GS}/in", f"{GS}/out") == 0
        assert set(proxy.faults) == set(FAULTS)
        first = _download(gcs, tmp_path / "first")
        _assert_same(_rows(tmp_path / "first"), local_rows)
        del proxy.requests[:]
        assert _run(f"{GS}/in", f"{GS}/out") == 0
        reads = [each for each in proxy.requests if "alt=media" in each]
        # Of the input nothing but the footer that tells the column of the images.
        inputs = {each.split("?")[0] for each in reads if "/o/in%2F" in each}
        assert {each.rpartition("%2F")[2] for each in inputs} == {"b.parquet"}
        second = _download(gcs, tmp_path / "second")
    parts = [name for name in first if name.endswith(".parquet")]
    assert len(parts) >= 7
    assert {name: second[name] for name in parts} == {
        name: first[name] for name in parts
    }


def test_a_run_from_s3_to_s3(
    s3: S3, corpus: Path, local_rows: list[Any], tmp_path: Path
) -> None:
    for path in corpus.rglob("*"):
        if path.is_file():
            name = f"in/{path.relative_to(corpus)}"
            s3.client.upload_file(str(path), BUCKET, name)
    assert _run(f"{S3_URI}/in", f"{S3_URI}/out", *s3.arguments) == 0
    for each in s3.client.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]:
        path = tmp_path / each["Key"].removeprefix("out/")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.client.download_file(BUCKET, each["Key"], str(path))
    _assert_same(_rows(tmp_path), local_rows)
