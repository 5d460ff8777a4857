"""Plain files become rows, in order, several fetched at a time."""

import io
import threading
import time
from pathlib import Path

import pytest
from apache_beam.io.filesystem import BeamIOError

from tests.shards import drain, write_files
from transforms.formats import Columns, Record, read_records
from transforms.shard import File, Shard


def _group(*uris: str) -> Shard:
    return Shard("g#1", "files", tuple(File(uri, 1, 1.0) for uri in uris))


def _threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("bitbeam-files")]


def test_files_are_rows_in_order(tmp_path: Path) -> None:
    write_files(tmp_path, {"b.jpg": b"b", "d/a.png": b"a", "empty.jpg": b""})
    uris = [f"{tmp_path}/{name}" for name in ("d/a.png", "b.jpg", "empty.jpg")]
    assert drain(_group(*uris)) == (
        [Record(uris[0], b"a"), Record(uris[1], b"b"), Record(uris[2], b"")],
        None,
    )


def test_a_group_of_no_files_is_empty() -> None:
    assert drain(_group()) == ([], None)


class _HttpError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}\nand a page of HTML")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file"),
        PermissionError(13, "Permission denied"),
        IsADirectoryError(21, "Is a directory"),
        _HttpError(404),
        _HttpError(403),
        BeamIOError("failed", {"gs://b/gone": _HttpError(404)}),
        BeamIOError("failed", {"gs://b/gone": FileNotFoundError(2, "gone")}),
    ],
)
def test_a_file_that_is_gone_costs_its_row_only(error: Exception) -> None:
    def opener(uri: str) -> io.BytesIO:
        if uri == "gone":
            raise error
        return io.BytesIO(uri.encode())

    records = list(read_records(_group("a", "gone", "b"), Columns(), open_input=opener))
    assert [record.image for record in records] == [b"a", None, b"b"]
    fault = records[1].fault
    assert fault is not None and fault.error == "unreadable"
    assert fault.message.startswith(type(error).__name__) and "\n" not in fault.message


@pytest.mark.parametrize(
    "error",
    [
        _HttpError(503),
        ConnectionResetError(104, "reset"),
        BeamIOError("failed", {"a": _HttpError(404), "b": TimeoutError()}),
        BeamIOError("failed"),
    ],
)
def test_a_storage_that_fails_raises_what_it_raised(error: Exception) -> None:
    def opener(uri: str) -> io.BytesIO:
        if uri == "bad":
            raise error
        return io.BytesIO(uri.encode())

    records = read_records(_group("a", "bad", "b"), Columns(), open_input=opener)
    assert next(records).image == b"a"
    with pytest.raises(type(error)) as raised:
        next(records)
    assert raised.value is error
    assert _threads() == []


def test_eight_files_are_in_flight_and_come_out_in_order() -> None:
    lock, open_now, most = threading.Lock(), 0, 0
    opened: list[str] = []

    def opener(uri: str) -> io.BytesIO:
        nonlocal open_now, most
        with lock:
            opened.append(uri)
            open_now += 1
            most = max(most, open_now)
        # The first of each eight is the slowest.
        time.sleep(0.02 if int(uri) % 8 == 0 else 0.005)
        with lock:
            open_now -= 1
        return io.BytesIO(uri.encode())

    uris = [str(number) for number in range(40)]
    records = read_records(_group(*uris), Columns(), open_input=opener)
    assert next(records).image == b"0"
    assert len(opened) <= 9
    assert [record.image for record in records] == [b"%d" % n for n in range(1, 40)]
    assert most == 8


def test_the_threads_end_with_the_generator() -> None:
    opened: list[str] = []

    def opener(uri: str) -> io.BytesIO:
        opened.append(uri)
        return io.BytesIO()

    records = read_records(_group(*map(str, range(1000))), Columns(), open_input=opener)
    next(records)
    assert _threads() != []
    records.close()
    assert _threads() == []
    assert len(opened) < 20


def test_a_name_that_is_not_utf8_becomes_a_key_with_escapes(tmp_path: Path) -> None:
    path = bytes(tmp_path) + b"/gr\xfcn.jpg"
    with open(path, "wb") as sink:
        sink.write(b"x")
    records, _ = drain(_group(path.decode("utf-8", "surrogateescape")))
    assert records == [Record(f"{tmp_path}/gr\\xfcn.jpg", b"x")]
