"""Command lines of the ``python -m facesr...`` programs: one sentence for a mistake, and numbers with a range.

The scripts train.py, evaluate.py and submit.py take ``key=value`` instead (facesr/build.py).
"""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from facesr.errors import EXIT_USER_ERROR, ConfigError
from facesr.ranges import check_number, plain, range_in


class Parser(argparse.ArgumentParser):
    """A parser that says one sentence instead of its usage, which --help prints."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong with the command line, and exits with 2."""
        print(f"error: {sentence_of(message)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


class Subcommands:
    """The subcommands of a program, each done by a function of a module that is loaded only when it is asked for.

    Attributes:
        parser: of the whole command line.
        commands: to which further ones can be added.
    """

    def __init__(self, prog: str, description: str | None, package: str, folder: str) -> None:
        """Makes a command line without subcommands.

        Args:
            prog: how the program is called.
            description: of --help, printed as it is.
            package: where the modules are.
            folder: what the folder is that most subcommands are about.
        """
        layout = argparse.RawDescriptionHelpFormatter
        self.parser = Parser(prog=prog, description=description, formatter_class=layout)
        self.commands = self.parser.add_subparsers(
            dest="command", required=True, metavar="COMMAND", parser_class=Parser
        )
        self._package, self._folder = package, folder

    def add(self, name: str, module: str, function: str, text: str) -> argparse.ArgumentParser:
        """Returns the parser of a new subcommand; `text` says what it does."""
        found = self.commands.add_parser(name, help=text, description=text)
        found.set_defaults(module=module, function=function)
        return found

    def on_folder(self, name: str, module: str, function: str, text: str) -> argparse.ArgumentParser:
        """Returns the same for a subcommand whose first argument is the folder."""
        found = self.add(name, module, function, text)
        found.add_argument("folder", metavar="DIR", type=Path, help=self._folder)
        return found

    def run(self, options: argparse.Namespace) -> None:
        """Does what parsed options ask for."""
        # Only what a subcommand needs is imported: torch alone takes seconds.
        module = importlib.import_module(f"{self._package}.{options.module}")
        getattr(module, options.function)(options)


def require_packages(names: Sequence[str], command: str, extra: str) -> None:
    """Checks that the packages of an extra can be imported.

    Args:
        names: of modules.
        command: what needs them, for example ``facesr board``.
        extra: of this project.

    Raises:
        ConfigError: one cannot; the sentence says what to run.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"{command} needs the package {error.name or name}; "
                f"run uv run --extra {extra} {command} ..., or pip install 'facesr[{extra}]'."
            ) from error


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


def text(given: str) -> str:
    """Returns an option that is a text for people, for ``type=`` of an argument.

    Raises:
        argparse.ArgumentTypeError: it holds what cannot be printed, such as a byte that is not UTF-8.
    """
    if not given.isprintable():
        raise argparse.ArgumentTypeError("has to be one line of printable characters.")
    return given


def number(hint: Any) -> Callable[[str], int | float]:
    """Returns what reads an option that is a number of a type with a range, for ``type=`` of an argument.

    Args:
        hint: ``Annotated[int, Range(...)]`` or ``Annotated[float, Range(...)]``.
    """
    kind, limits = hint.__origin__, range_in(hint)
    assert limits is not None

    def read(given: str) -> int | float:
        try:
            value: int | float = kind(given)
        except ValueError as error:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{plain(given)} is no {what}; give one {limits}.") from error
        try:
            check_number("", value, hint)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("=")) from error
        return value

    return read
