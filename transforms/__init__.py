"""bitbeam's steps for Apache Beam: usable by name in any pipeline."""

from . import storage
from .block import Block, Fault, Place
from .decode import DecodeImages
from .device import Models
from .file import File
from .formats import (
    ColumnError,
    Columns,
    DamagedShardError,
    Record,
    kept_types,
    parse_keep,
)
from .group import group_files
from .image import Preprocess
from .listing import Listing, list_shards
from .loading import describe_model, load_model
from .packed import UnpackShards, UnpackStems, pack_shards, pack_stems
from .part import (
    EMBEDDINGS,
    ERRORS,
    PartTotals,
    part_uri,
    read_members,
    read_resume_at,
)
from .predict import Outputs, PredictImages
from .read import Cut, ReadImages
from .shard import Shard
from .shards import Shards
from .write import ReadTotals, Sink, Summarize, WriteParts

__all__ = [
    "EMBEDDINGS",
    "ERRORS",
    "Block",
    "ColumnError",
    "Columns",
    "Cut",
    "DamagedShardError",
    "DecodeImages",
    "Fault",
    "File",
    "Listing",
    "Models",
    "Outputs",
    "PartTotals",
    "Place",
    "PredictImages",
    "Preprocess",
    "ReadImages",
    "ReadTotals",
    "Record",
    "Shard",
    "Shards",
    "Sink",
    "Summarize",
    "UnpackShards",
    "UnpackStems",
    "WriteParts",
    "describe_model",
    "group_files",
    "kept_types",
    "list_shards",
    "load_model",
    "pack_shards",
    "pack_stems",
    "parse_keep",
    "part_uri",
    "read_members",
    "read_resume_at",
    "storage",
]
