"""The names that image files, columns and features usually have."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMAGE_SUFFIXES = _words(
    "apng avif avifs bmp dds dib gif icns ico j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx"
    " mpo pbm pcx pfm pgm png pnm ppm psd qoi sgi tga tif tiff webp xbm xpm"
)
"""Last extensions, in lower case, of what Pillow reads as pictures."""

TEXT_SUFFIXES = _words(
    "caption class cls csv html id index json jsonl label md text tsv txt url xml yaml"
    " yml"
)
"""Last extensions, in lower case, of tar members that are text."""

IMAGE_COLUMNS = (
    "image/encoded",
    "image",
    "image_raw",
    "image/raw",
    "image/bytes",
    "image_bytes",
    "img",
    "img_bytes",
    "encoded",
    "encoded_image",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "bytes",
    "content",
)
"""Columns and features that hold the encoded image, the likeliest first."""

KEY_COLUMNS = (
    "__key__",
    "image/key",
    "key",
    "image/filename",
    "filename",
    "file_name",
    "image/source_id",
    "path",
    "image_path",
    "image/id",
    "image_id",
    "id",
    "url",
)
"""Columns and features that name an image, the likeliest first."""

_SHARDS = (
    ("tar", re.compile(r"\.(tar|tar\.gz|tgz)$", re.IGNORECASE)),
    (
        "tfrecord",
        # Also `name.tfrecord-00000-of-00010`, as TensorFlow's writers number shards,
        # and TensorFlow Datasets' `name-train.tfrecord-00000-of-00010`.
        re.compile(
            r"(\.(tfrecords?|tfrec)|tfrecords?.*-\d{5,}-of-\d{5,})(\.gz)?$",
            re.IGNORECASE,
        ),
    ),
    ("parquet", re.compile(r"\.(parquet|pq)$", re.IGNORECASE)),
)


def suffix(name: str) -> str:
    """The last extension in lower case, without its dot; empty if there is none."""
    base = name.rsplit("/", 1)[-1]
    return base.rpartition(".")[2].lower() if "." in base else ""


def format_of(name: str) -> str | None:
    """The shard format that a file's name tells; None if it tells none."""
    if suffix(name) in IMAGE_SUFFIXES:
        return "files"
    base = name.rsplit("/", 1)[-1]
    for form, pattern in _SHARDS:
        if pattern.search(base):
            return form
    return None
