"""What `run.json` says of a table, and whether it says it of itself."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from transforms import Columns

from .audit import Expected
from .job import identity_digest
from .output import RUN_JSON
from .problems import Problem

FORMAT = 1
"""Of the outputs that this version reads."""

_NOT_IDENTITY = ("bitbeam", "format", "identity", "checks")
"""Fields of `run.json` that may differ between runs on one table."""

_ARROW_TYPES = {"float32": "float", "float16": "halffloat"}


@dataclass(frozen=True)
class Identity:
    """What `run.json` says, as far as it can be believed.

    Attributes:
      expected: Of each part.
      columns: What to look for in the input.
      problems: What is wrong with the file.
    """

    expected: Expected = field(default_factory=Expected)
    columns: Columns = field(default_factory=Columns)
    problems: tuple[Problem, ...] = ()


def read_identity(content: bytes) -> Identity:
    """Reads and checks the content of `run.json`."""
    try:
        run = json.loads(content)
        expected = Expected(
            identity=run["identity"],
            embedding=(
                _ARROW_TYPES[run["embedding_type"]],
                run["model"]["embedding_size"],
            ),
        )
        columns = Columns(image=run["image_column"], key=run["key_column"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"is damaged: {error!r}"
        return Identity(problems=(Problem("damaged", RUN_JSON, what),))
    problems = tuple(
        Problem("damaged", RUN_JSON, what) for what in _check(run, content)
    )
    # What it has in common with the parts is not known then.
    return Identity(Expected() if problems else expected, columns, problems)


def _check(run: Mapping[str, Any], content: bytes) -> Iterator[str]:
    if run.get("format") != FORMAT:
        yield f"is of format {run.get('format')}, and this bitbeam reads {FORMAT}"
    fields = {name: run[name] for name in run if name not in _NOT_IDENTITY}
    digest = identity_digest(fields)
    if digest != run["identity"]:
        yield f"has been edited: its fields have the identity {digest}, not" + (
            f" {run['identity']}"
        )
    elif not is_as_written(content, run):
        yield "has been edited: it is not as it was written"


def is_as_written(content: bytes, value: object) -> bool:
    """Whether a file has, to the byte, what is written for its value."""
    return content == (json.dumps(value, indent=2) + "\n").encode()
