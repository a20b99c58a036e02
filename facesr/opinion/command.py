"""The command ``facesr opinion``: people rate restored faces, and what may be concluded from it.

facesr opinion init DIR folders=[A,B] high=DIR    a new study; init --help lists its keys
facesr opinion plan                               how many raters and faces give which interval
facesr opinion invite DIR --count N               personal links for raters
facesr opinion serve DIR                          the study's pages
facesr opinion status DIR                         how far it is, without any score
facesr opinion analyse DIR                        the result: report.html, ratings.csv, raters.csv
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from facesr.arguments import Parser, number
from facesr.config import OpinionSettings
from facesr.errors import ConfigError, exit_code_of
from facesr.opinion.options import add_analyse_options, add_plan_options
from facesr.overrides import quoted
from facesr.ranges import Count
from facesr.script import run_script

# What a user without the extra lacks, and is told of.
_NEEDED = ("fastapi", "sqlalchemy", "alembic", "uvicorn", "pydantic")
INIT = "init"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == [INIT]:
        run_script(_init, "opinion", OpinionSettings, with_dir(given[1:]))
    options = _parser().parse_args(given)

    def run() -> None:
        _require_extra()
        # Only what a subcommand needs is imported: torch alone takes seconds.
        module = importlib.import_module(f"facesr.opinion.{options.module}")
        getattr(module, options.function)(options)

    return exit_code_of(run)


def with_dir(arguments: Sequence[str]) -> list[str]:
    """Returns init's arguments with the folder as ``dir=``, quoted so that any name is read as it is."""
    is_name = bool(arguments) and not arguments[0].startswith("-") and "=" not in arguments[0]
    return [f"dir={quoted(arguments[0])}", *arguments[1:]] if is_name else list(arguments)


def _init(settings: OpinionSettings) -> None:
    _require_extra()
    from facesr.opinion.making import make_study, told

    print("\n".join(told(make_study(settings))))


def _require_extra() -> None:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"facesr opinion needs the package {error.name or name}; "
                "run uv run --extra board facesr opinion ..., or pip install 'facesr[board]'."
            ) from error


def _parser() -> Parser:
    parser = Parser(prog="facesr opinion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, module: str, function: str, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text)
        found.set_defaults(module=module, function=function)
        return found

    def on_folder(name: str, module: str, function: str, text: str) -> argparse.ArgumentParser:
        found = add(name, module, function, text)
        found.add_argument("folder", metavar="DIR", type=Path, help="the study's folder")
        return found

    # `main` has dealt with it before; here it stands for the list of commands.
    commands.add_parser(INIT, help="make a study: DIR KEY=VALUE ...; init --help lists the keys")
    add_plan_options(add("plan", "planning", "plan", "how many raters and faces give which interval"))

    invite = on_folder("invite", "operations", "invite", "make personal links, or a code for everybody")
    invite.add_argument("--count", type=number(Count), default=1, help="links")
    invite.add_argument("--url", default="http://127.0.0.1:8000", help="where raters reach the study")
    invite.add_argument("--open", action="store_true", help="one link with which raters register themselves")
    invite.add_argument("--close", action="store_true", help="end that; those who have joined go on")

    serve = on_folder("serve", "serving", "serve", "show the study's pages")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine's")
    serve.add_argument("--port", type=number(Count), default=8000)
    serve.add_argument("--behind-proxy", action="store_true", help="believe X-Forwarded-For and -Proto of a proxy")

    on_folder("status", "operations", "status", "tell how far the study is, without any score")
    add_analyse_options(on_folder("analyse", "analysing", "analyse", "write report.html and the raw tables"))
    return parser
