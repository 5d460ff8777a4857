"""Random weights of any architecture: for dry runs, tests and measurements."""

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from .architecture import Architecture, Shape
from .memory import empty_tensor
from .spec import ModelError

PREFIX = "random:"
_CHUNK = 1 << 20


class RandomWeights:
    """Weights drawn from a seed, the same in every process and on every machine.

    They are made of the raw bits of NumPy's Philox generator, whose stream is
    promised never to change; the streams of its distributions are not (NEP 19).
    Each tensor has a stream of its own, keyed by seed and name.
    """

    def __init__(self, architecture: Architecture, *, seed: int = 0) -> None:
        self.architecture = architecture
        self.seed = seed

    @classmethod
    def parse(cls, name: str) -> "RandomWeights":
        """Reads `random:R50x1[:classes[:seed]]`.

        Raises:
          ModelError: The name is not of that form.
        """
        architecture, *numbers = name.removeprefix(PREFIX).split(":")
        if len(numbers) > 2 or not all(map(_is_number, numbers)):
            raise ModelError(
                f"model {name!r} is malformed: give random:R50x1[:classes[:seed]]"
            )
        classes, seed = (*map(int, numbers), 0, 0)[:2] if numbers else (0, 0)
        return cls(Architecture.parse(architecture, classes=classes), seed=seed)

    @property
    def digest(self) -> str:
        """Identity of the weights."""
        of = f"random 1 {self.architecture.name} {self.architecture.classes}"
        return hashlib.sha256(f"{of} {self.seed}".encode()).hexdigest()[:32]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors by name."""
        return self.architecture.shapes()

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Draws the tensors one by one.

        Kernels have the variance 1 / fan-in, gammas lie around 1, betas and biases
        around 0, so that activations stay of order one through any depth.

        Yields:
          Name, and a new float32 array that is the caller's.
        """
        for name, shape in self.shapes.items():
            tensor = self._uniform(name, shape)
            kind = name.rsplit("/", 1)[-1]
            if kind == "kernel":
                tensor *= np.float32(1 / math.sqrt(math.prod(shape[:-1])))
            else:
                tensor *= np.float32(0.1)
            if kind == "gamma":
                tensor += np.float32(1)
            yield name, tensor

    def _uniform(self, name: str, shape: Shape) -> np.ndarray:
        """Uniform numbers of mean 0 and variance 1, float32."""
        key = hashlib.sha256(f"{self.seed}\0{name}".encode()).digest()[:16]
        generator = np.random.Philox(key=int.from_bytes(key, "little"))
        flat = empty_tensor((math.prod(shape),))
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            bits = generator.random_raw((chunk.size + 1) // 2).astype("<u8", copy=False)
            # 24 bits are what a float32 holds exactly.
            np.multiply(
                bits.view("<u4")[: chunk.size] >> np.uint32(8),
                np.float32(2**-24),
                out=chunk,
                casting="unsafe",
            )
        flat -= np.float32(0.5)
        flat *= np.float32(math.sqrt(12))
        return flat.reshape(shape)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
