"""Shards of all formats that become another version of themselves, and back."""

import os
import shutil
from pathlib import Path

from tests import photos, shards


class Source:
    """Shards that become another version of themselves, and back.

    Attributes:
      path: Their folder.
    """

    def __init__(self, path: Path, pictures: int) -> None:
        self.path, self._count = path, pictures
        small = photos.photograph(96, 72)
        good = [
            photos.encode(small.rotate(number), "jpeg") for number in range(pictures)
        ]
        self._pictures = [
            each[: len(each) // 2] if number % 17 == 5 else each
            for number, each in enumerate(good)
        ]

    def become(self, version: int) -> None:
        """Writes the input afresh, with the times that its version has."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        pictures = self._pictures
        tar = pictures if version == 1 else pictures[: len(pictures) // 2]
        samples = [(f"{n:04d}", {"jpg": each}) for n, each in enumerate(tar)]
        shards.write_tar(self.path / "a.tar", samples)
        rows = [{"jpg": each} for each in pictures]
        shards.write_parquet(self.path / "b.parquet", rows)
        examples = [{"image/encoded": each} for each in pictures]
        shards.write_tfrecord(self.path / "c.tfrecord", examples)
        # Which has to be read from its start again.
        shards.write_tar(self.path / "e.tar.gz", samples[:40], gz=True)
        files = {f"{n:04d}.jpg": each for n, each in enumerate(pictures)}
        shards.write_files(self.path / "d", files)
        changed = {"a.tar", "d/0042.jpg"} if version == 2 else set()
        if version == 2:
            (self.path / "b.parquet").unlink()
            (self.path / "d/0042.jpg").write_bytes(pictures[0])
            (self.path / "d/new.jpg").write_bytes(pictures[1])
        for path in self.path.rglob("*.*"):
            new = str(path.relative_to(self.path)) in changed
            os.utime(path, (2e9, 2e9) if new else (1e9, 1e9))
