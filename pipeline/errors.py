"""What can go wrong, and the exit code that each leads to."""

DONE, FAILED, USAGE, TOO_MANY_BAD, INTERRUPTED = 0, 1, 2, 3, 130


class UsageError(Exception):
    """What was asked for is wrong. One line: what, the value, the remedy."""


class JobError(Exception):
    """The job ended without being done. One line."""
