"""What a run has written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def parts(folder: Path) -> dict[str, bytes]:
    """Content of the two tables' files, by name."""
    return {
        name: content
        for name, content in files(folder).items()
        if name.endswith(".parquet")
    }


def embeddings(folder: Path) -> pa.Table:
    """The good rows, in order of shard and row."""
    return _sorted(folder / "embeddings")


def errors(folder: Path) -> list[dict[str, Any]]:
    """The bad rows, in order of shard and row."""
    if not (folder / "errors").exists():
        return []
    return _sorted(folder / "errors").to_pylist()


def _sorted(folder: Path) -> pa.Table:
    return pq.read_table(folder).sort_by([("shard", "ascending"), ("row", "ascending")])
