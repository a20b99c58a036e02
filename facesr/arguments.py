"""Command lines of the ``python -m facesr...`` programs: one sentence for a mistake, and numbers with a range.

The scripts train.py, evaluate.py and submit.py take ``key=value`` instead (facesr/build.py).
"""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from facesr.errors import EXIT_USER_ERROR, ConfigError
from facesr.ranges import check_number, plain, range_in


class Parser(argparse.ArgumentParser):
    """A parser that says one sentence instead of its usage, which --help prints."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong with the command line, and exits with 2."""
        print(f"error: {sentence_of(message)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def sentence_of(message: str) -> str:
    """Returns what argparse says of a mistake as a sentence that names the option and what to change."""
    found = re.match(r"argument ([^:]+): invalid choice: (.*?) \(choose from (.*)\)$", message, re.DOTALL)
    if found:
        chosen, offered = plain(found[2].strip("'")), found[3].replace("'", "")
        return f"{found[1]} {chosen} is unknown; choose one of {offered}."
    found = re.match(r"the following arguments are required: (.*)", message)
    if found:
        return f"{found[1]} must be given; see --help."
    found = re.match(r"unrecognized arguments: (.*)", message, re.DOTALL)
    if found:
        return f"{plain(found[1])} is not known here; see --help."
    message = re.sub(r"^argument ([^:]+): ", lambda match: f"{match[1].split('/')[-1]} ", message)
    return message if message.endswith(".") else f"{message}; see --help."


def number(hint: Any) -> Callable[[str], int | float]:
    """Returns what reads an option that is a number of a type with a range, for ``type=`` of an argument.

    Args:
        hint: ``Annotated[int, Range(...)]`` or ``Annotated[float, Range(...)]``.
    """
    kind, limits = hint.__origin__, range_in(hint)
    assert limits is not None

    def read(text: str) -> int | float:
        try:
            value: int | float = kind(text)
        except ValueError as error:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{plain(text)} is no {what}; give one {limits}.") from error
        try:
            check_number("", value, hint)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("=")) from error
        return value

    return read
