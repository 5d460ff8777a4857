"""`bitbeam models`: what --model may be."""

from rich.console import Console
from rich.table import Table

from transforms.bit.architecture import Architecture

_FORMS = """\
--model may be
  PATH.npz                       an official checkpoint
  random:ARCH[:CLASSES[:SEED]]   random weights, for dry runs: the results mean nothing
"""
_ARCHITECTURES = (
    ("R50", 1),
    ("R50", 3),
    ("R101", 1),
    ("R101", 3),
    ("R152", 2),
    ("R152", 4),
    ("R14", 1),
)


def print_models() -> None:
    """Prints the forms of a model's name, and the architectures."""
    table = Table("architecture", "embedding", "parameters", "weights, float32")
    for depth, width in _ARCHITECTURES:
        found = Architecture(depth, width)
        size = f"{found.parameters * 4 / 2**20:,.0f} MiB"
        table.add_row(
            found.name, f"{found.embedding_size:,}", f"{found.parameters:,}", size
        )
    print(_FORMS)
    Console().print(table)
    print("R14x1 is not of the collection: it is the smallest network of its kind.")
