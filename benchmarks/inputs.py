"""Writes what the rows about the pipeline read.

    python -m benchmarks.inputs shards FOLDER --images 20000
    python -m benchmarks.inputs model FOLDER --model random:R50x1:1000

In a process of its own, as what starts a benchmark must stay small.
"""

import argparse
import os
from pathlib import Path

IMAGES_A_SHARD = 2_000
"""500 x 375 JPEGs of a tar file; more images are more names of the same file."""


def main() -> None:
    """Writes one input."""
    parser = argparse.ArgumentParser(prog="benchmarks.inputs")
    parser.add_argument("what", choices=("shards", "model"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=IMAGES_A_SHARD)
    parser.add_argument("--model", default="random:R50x1:1000")
    args = parser.parse_args()
    if args.what == "shards":
        write_shards(args.folder, images=args.images)
    else:
        from .peers import saved_model

        saved_model.write(args.model, args.folder)


def write_shards(folder: Path, *, images: int) -> None:
    """Writes tar files of photographs, of 2,000 each and one of the rest.

    All whole ones are the same file: the disk holds it once. A pipeline reads, decodes
    and writes each.
    """
    from . import photographs

    folder.mkdir(parents=True)
    shards, rest = divmod(images, IMAGES_A_SHARD)
    if rest:
        photographs.write_tar(folder / "rest.tar", images=rest)
    for number in range(shards):
        path = folder / f"{number:04d}.tar"
        if number:
            os.link(folder / "0000.tar", path)
        else:
            photographs.write_tar(path, images=IMAGES_A_SHARD)


if __name__ == "__main__":
    main()
