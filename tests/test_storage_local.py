"""Local folders are listed as stores are, and emptied whole."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.shards import write_files
from transforms import storage
from transforms.retry import Retries

FAST = Retries(tries=5, first_wait=0)
NAMES = ("a/1.tar", "a/2.tar", "a/b/3.tar", "a/4.txt", "c[1].tar", "c1.tar", "a/.5.tar")


def _matches(root: Path, pattern: str) -> list[str]:
    found = storage.list_uris(f"{root}{pattern}", retries=FAST)
    return sorted(path.removeprefix(f"{root}/") for path in found)


def test_globs_match_as_beam_reads_them(tmp_path: Path) -> None:
    write_files(tmp_path, {name: name.encode() for name in NAMES})
    assert _matches(tmp_path, "/a/*.tar") == ["a/.5.tar", "a/1.tar", "a/2.tar"]
    assert _matches(tmp_path, "/a/**.tar") == [
        *("a/.5.tar", "a/1.tar", "a/2.tar", "a/b/3.tar")
    ]
    assert _matches(tmp_path, "/c[[]1].tar") == ["c[1].tar"]
    assert _matches(tmp_path, "/c[1].tar") == ["c1.tar"]
    assert _matches(tmp_path, "/none/*") == []
    assert _matches(tmp_path, "/none") == []
    assert _matches(tmp_path, "/**") == sorted(NAMES)
    [found] = storage.match(f"{tmp_path}/a/4.txt")
    assert (found.path, found.size_in_bytes) == (f"{tmp_path}/a/4.txt", 7)
    assert abs(found.last_updated_in_seconds - time.time()) < 60


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write_files(tmp_path, {"a/1.tar": b"", "b/2.tar": b""})
    (tmp_path / "a/round").symlink_to(tmp_path)
    (tmp_path / "a/3.tar").symlink_to(tmp_path / "b/2.tar")
    (tmp_path / "a/nowhere.tar").symlink_to(tmp_path / "gone")
    assert _matches(tmp_path, "/a/**") == ["a/1.tar", "a/3.tar"]


def test_a_folder_that_a_mount_fails_to_list_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {f"{n}/{m}.tar": b"" for n in range(3) for m in range(9)})
    scandir, faults = os.scandir, iter([OSError(errno.ESTALE, "stale"), None] * 9)

    class Stale:
        """A folder whose listing breaks off."""

        def __init__(self, path: str) -> None:
            self._entries, self._fault = scandir(path), next(faults)

        def __enter__(self) -> "Stale":
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Any:
            for number, entry in enumerate(self._entries):
                if number and self._fault:
                    raise self._fault
                yield entry

    monkeypatch.setattr(os, "scandir", Stale)
    found = _matches(tmp_path, "/**")
    assert found == [f"{n}/{m}.tar" for n in range(3) for m in range(9)]


def test_a_folder_may_not_be_one(tmp_path: Path) -> None:
    write_files(tmp_path, {"a": b""})
    with pytest.raises(NotADirectoryError):
        storage.list_uris(f"{tmp_path}/a/*.parquet", retries=FAST)


def test_all_that_matches_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{n}.{s}": b"" for n in range(200) for s in ("a", "b")})
    storage.remove_all(f"{tmp_path}/*.a")
    assert _matches(tmp_path, "/*") == sorted(f"{n}.b" for n in range(200))
    uris = (f"{tmp_path}/{n}.b" for n in (5, 7, 5, 1000))
    storage.remove_each(uris, retries=FAST)
    assert len(_matches(tmp_path, "/*")) == 198
