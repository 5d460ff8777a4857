"""Gives up where nearly all images are bad: that is a mistake, not data."""

from .block import Block

_IMAGES = 2_000
_NEARLY_ALL = 0.95


class TooManyBadError(Exception):
    """Thousands of images in a row are nearly all bad. One line."""


class BadStreak:
    """Counts the images of a process in stretches of 2,000.

    Args:
      max_error_rate: Share of bad images that is allowed; at 1 nothing is too many.
    """

    def __init__(self, max_error_rate: float) -> None:
        self._limit = max(_NEARLY_ALL, max_error_rate)
        self._images = self._bad = 0

    def add(self, block: Block) -> None:
        """Counts a block.

        Raises:
          TooManyBadError: A stretch is full, and more of it is bad than is allowed.
        """
        errors = block.rows["error"]
        self._images += len(errors)
        self._bad += len(errors) - errors.null_count
        if self._images < _IMAGES:
            return
        if self._bad > self._limit * self._images:
            messages = block.rows["message"].drop_null()
            raise TooManyBadError(
                f"{self._bad:,} of {self._images:,} images in a row are bad, so the"
                " column or the format is likely to be wrong; the last one:"
                f" {messages[len(messages) - 1]} (--max_error_rate 1 reads on)"
            )
        self._images = self._bad = 0
