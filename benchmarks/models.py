"""The rows about the model alone."""

from .contest import Contest
from .settings import Settings


def contests(settings: Settings) -> list[Contest]:
    """All of them."""
    return []
