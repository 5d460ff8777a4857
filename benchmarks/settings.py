"""What the rows of `python -m benchmarks` are made from."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from .machine import Machine
from .side import python


@dataclass(frozen=True)
class Settings:
    """What is measured, where, and how thoroughly.

    Attributes:
      machine: This one.
      folder: A temporary one, for inputs, outputs and models.
      quick: Only to see that everything works: tiny sizes, figures without meaning.
      model: The main one.
      image_size: Side of the images in pixels.
      batch_size: Images of a step.
      peers_python: Interpreter that has the extra `peers`.
    """

    machine: Machine
    folder: Path
    quick: bool = False
    model: str = "random:R50x1:1000"
    image_size: int = 224
    batch_size: int = 16
    peers_python: str = field(default=sys.executable)

    def peer(self, module: str, *arguments: object) -> tuple[str, ...]:
        """The command that runs a module of `benchmarks.peers`."""
        module = f"benchmarks.peers.{module}"
        return python(module, *arguments, interpreter=self.peers_python)
