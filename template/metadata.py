"""Makes the Flex Template's metadata from the options of `bitbeam run`.

`python -m template.metadata > template/metadata.json`
"""

import argparse
import json
import re
from typing import Any

from template.main import run_actions

# The template gives the runner; nobody waits for what the launcher prints.
_NOT_PARAMETERS = ("help", "runner", "no_wait", "dry_run")
_NUMBERS = {int: r"^[0-9]+$", float: r"^[0-9]*\.?[0-9]+$"}


def metadata() -> dict[str, Any]:
    """The content of `metadata.json`."""
    return {
        "name": "bitbeam",
        "description": "Shards of images in, a table of BiT embeddings and labels out.",
        "parameters": [
            _parameter(action)
            for action in run_actions()
            if action.dest not in _NOT_PARAMETERS
        ],
    }


def _parameter(action: argparse.Action) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": action.dest,
        "label": action.dest.replace("_", " ").capitalize(),
        "helpText": _help(action),
        "isOptional": not action.required,
    }
    pattern = _pattern(action)
    return {**parameter, "regexes": [pattern]} if pattern else parameter


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    if action.nargs == "+" or isinstance(action, argparse._AppendAction):
        text += "; several are parted by spaces"
    if action.nargs == 0:
        return f"{text}; true or false"
    return f"{text} (default: {action.default})" if action.default else text


def _pattern(action: argparse.Action) -> str | None:
    """What a value must match."""
    if action.choices:
        return f"^({'|'.join(re.escape(choice) for choice in action.choices)})$"
    if action.nargs == 0:
        return "^(true|false)$"
    return _NUMBERS.get(action.type) if isinstance(action.type, type) else None


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
