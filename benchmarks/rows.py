"""All rows of `python -m benchmarks`, in their order."""

from .contest import Contest
from .settings import Settings


def contests(settings: Settings) -> list[Contest]:
    """Every contest that the settings allow."""
    from . import models, pipelines

    return [*models.contests(settings), *pipelines.contests(settings)]
