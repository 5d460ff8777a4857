"""What the Flex Template's launcher runs: its parameters become a command line.

The launcher gives each parameter as one `--name=value`, also for options that take
several values or none.
"""

import argparse
import sys

from pipeline.arguments import build_parser
from pipeline.cli import main


def run_actions() -> list[argparse.Action]:
    """The options of `bitbeam run`."""
    [commands] = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return list(commands.choices["run"]._actions)


def command_line(parameters: list[str]) -> list[str]:
    """Arguments of `bitbeam` for the launcher's.

    Several values are parted by spaces; an option without a value is `true` or
    `false`; what is empty was not given.

    Args:
      parameters: Of the form `--name=value`; others pass as they are.
    """
    actions = {option: a for a in run_actions() for option in a.option_strings}
    arguments = ["run"]
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        action = actions.get(name)
        if action is None:
            arguments.append(parameter)
        elif action.nargs == 0:
            arguments += [name] if value.lower() == "true" else []
        elif isinstance(action, argparse._AppendAction):
            arguments += [f"{name}={each}" for each in value.split()]
        elif action.nargs == "+":
            arguments += [name, *value.split()]
        elif value:
            arguments.append(parameter)
    return arguments


if __name__ == "__main__":
    sys.exit(main(command_line(sys.argv[1:])))
