"""The input of benchmarks: photographs as JPEG in a WebDataset tar."""

from pathlib import Path

from tests import photos, shards


def write_tar(path: Path, *, images: int) -> None:
    """Writes so many samples of 500 x 375, the dozen photographs again and again."""
    pictures = [
        photos.encode(photos.photograph(500, 375, name=name), "jpeg")
        for name in photos.photographs()
    ]
    samples = [
        (f"{number:06d}", {"jpg": pictures[number % len(pictures)]})
        for number in range(images)
    ]
    shards.write_tar(path, samples)
