"""The command ``facesr opinion``: people rate restored faces, and what may be concluded from it.

facesr opinion init DIR folders=[A,B] high=DIR    a new study; init --help lists its keys
facesr opinion plan                               how many raters and faces give which interval
facesr opinion invite DIR --count N               personal links for raters
facesr opinion serve DIR                          the study's pages
facesr opinion status DIR                         how far it is, without any score
facesr opinion analyse DIR                        the result: report.html, ratings.csv, raters.csv
"""

import sys
from collections.abc import Sequence

from facesr.arguments import Subcommands, number, require_packages
from facesr.config import OpinionSettings
from facesr.errors import exit_code_of
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
    line = _subcommands()
    options = line.parser.parse_args(given)

    def run() -> None:
        require_packages(_NEEDED, "facesr opinion", "board")
        line.run(options)

    return exit_code_of(run)


def with_dir(arguments: Sequence[str]) -> list[str]:
    """Returns init's arguments with the folder as ``dir=``, quoted so that any name is read as it is."""
    is_name = bool(arguments) and not arguments[0].startswith("-") and "=" not in arguments[0]
    return [f"dir={quoted(arguments[0])}", *arguments[1:]] if is_name else list(arguments)


def _init(settings: OpinionSettings) -> None:
    require_packages(_NEEDED, "facesr opinion", "board")
    from facesr.opinion.making import make_study, told

    print("\n".join(told(make_study(settings))))


def _subcommands() -> Subcommands:
    line = Subcommands("facesr opinion", __doc__, "facesr.opinion", "the study's folder")
    add, on_folder = line.add, line.on_folder

    # `main` has dealt with it before; here it stands for the list of commands.
    line.commands.add_parser(INIT, help="make a study: DIR KEY=VALUE ...; init --help lists the keys")
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
    return line
