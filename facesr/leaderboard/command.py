"""The command ``facesr board``: a competition's leaderboard, from its folder to its archive.

facesr board init DIR            a new competition; without --high and --low a demo on synthetic faces
facesr board serve DIR           the board in the browser, with a worker beside it
facesr board worker DIR          another worker, here or on another machine with the folder and the database
facesr board worker URL token=F  a worker anywhere else, which needs the board's address and a token alone
facesr board worker-token DIR N  a token for such a worker, named N; --revoke takes it back
facesr board score DIR FILE...   a ranking of archives without a server
facesr board invite DIR          a code with which a team registers
facesr board phase DIR           the phases; closes, reopens and extends them
facesr board rescore DIR         scores everything anew where metrics, judges or references changed
facesr board verify-log DIR      finds what was changed behind the log's back
facesr board export DIR OUT      everything as CSV, JSON and pages that need no server
facesr board tidy DIR            deletes archives of withdrawn and refused submissions after some days
facesr board backup DIR FILE     everything in one file, while the board runs; restore FILE DIR brings it back
"""

from collections.abc import Sequence
from pathlib import Path

from facesr.arguments import Subcommands, number, require_packages, text
from facesr.errors import exit_code_of
from facesr.ranges import Count, CountFromZero

# What a user without the extra lacks, and is told of.
_NEEDED = ("fastapi", "sqlalchemy", "alembic", "uvicorn", "python_multipart", "pydantic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    line = _subcommands()
    options = line.parser.parse_args(arguments)

    def run() -> None:
        require_packages(_NEEDED, "facesr board", "board")
        line.run(options)

    return exit_code_of(run)


def _subcommands() -> Subcommands:
    line = Subcommands("facesr board", __doc__, "facesr.leaderboard", "the competition's folder")
    add, on_folder = line.add, line.on_folder

    init = on_folder("init", "operations", "init", "make a competition; without pictures a demo on synthetic faces")
    init.add_argument("--high", type=Path, metavar="DIR", help="originals, which stay secret")
    init.add_argument("--low", type=Path, metavar="DIR", help="the low-resolution pictures that teams get")
    init.add_argument("--title", type=text, help="of the competition")
    init.add_argument("--protocol", default="asc19_final", choices=["asc19_final", "asc19_preliminary", "open"])
    init.add_argument("--database", metavar="URL", help="PostgreSQL: postgresql+psycopg://USER@HOST/NAME")
    init.add_argument("--no-baselines", action="store_true", help="no rows of bicubic, asc19_psnr and asc19_final")

    serve = on_folder("serve", "serving", "serve", "show the board in the browser, with workers beside it")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all of this machine's")
    serve.add_argument("--port", type=number(Count), default=8000)
    serve.add_argument("--workers", type=number(CountFromZero), default=1, help="processes that score")
    serve.add_argument("--behind-proxy", action="store_true", help="believe X-Forwarded-For and -Proto of a proxy")

    worker = add("worker", "serving", "worker", "score what waits, until it is stopped")
    worker.add_argument("board", metavar="DIR_OR_URL", help="the competition's folder, or the address of its board")
    worker.add_argument("token", nargs="?", metavar="token=FILE", help="with an address: the file with the token")
    worker.add_argument("--name", type=text, help="with a folder: for the log; by default the machine and the process")
    worker.add_argument("--device", default="cpu", help="cpu or cuda")
    worker.add_argument("--until-idle", action="store_true", help="end when nothing waits")

    score = on_folder("score", "offline", "score", "rank archives without a server: ranking.csv and ranking.html")
    score.add_argument("archives", nargs="+", type=Path, metavar="FILE.zip")
    score.add_argument("--phase", help="by default the first one")
    score.add_argument("--out", type=Path, metavar="DIR", help="by default DIR/ranking")
    score.add_argument("--device", default="cpu", help="cpu or cuda")

    invite = on_folder("invite", "operations", "invite", "make invitation codes")
    invite.add_argument("--teams", type=number(Count), default=1, help="teams that may use the code")
    invite.add_argument("--count", type=number(Count), default=1, help="codes")
    invite.add_argument("--label", type=text, default="", help="for whom, in the log")

    token = on_folder("token", "operations", "token", "make another token for an organiser or a team")
    token.add_argument("--team", type=text, help="whose; without it an organiser's")
    token.add_argument("--revoke", action="store_true", help="revoke the old ones, too")

    workers = on_folder(
        "worker-token", "worker_tokens", "worker_token", "make or revoke a worker's token, or list them"
    )
    workers.add_argument("name", nargs="?", type=text, help="of the worker, in the log; without it all are listed")
    workers.add_argument("--revoke", action="store_true", help="take the worker's token back")

    phase = on_folder("phase", "operations", "phase", "list phases; close, extend or move one")
    phase.add_argument("name", nargs="?", help="of the phase")
    phase.add_argument("--close", action="store_true", help="close it now; private scores are seen from then on")
    phase.add_argument("--ends", metavar="TIME", help="move its end; one that is closed opens again")
    phase.add_argument("--starts", metavar="TIME", help="move its start")
    phase.add_argument("--reason", type=text, default="", help="for the log")
    phase.add_argument("--dry-run", action="store_true", help="tell what would be seen, and change nothing")

    rescore = on_folder("rescore", "rescoring", "rescore", "score everything anew, and publish it when it is done")
    rescore.add_argument("--phase", help="by default the first one")
    rescore.add_argument("--publish", action="store_true", help="show the new scores; tells the moves of ranks first")
    rescore.add_argument("--device", default="cpu", help="cpu or cuda")

    baseline = on_folder("baseline", "operations", "baseline", "restore with a method and queue it as a baseline")
    baseline.add_argument("methods", nargs="+", metavar="METHOD", help="as evaluate.py takes them")

    on_folder("verify-log", "checking", "verify_log", "check the log, the scores and the files against each other")

    export = on_folder("export", "exporting", "export", "write everything as CSV, JSON and static pages")
    export.add_argument("out", type=Path, metavar="OUT", help="a new folder")
    export.add_argument("--all", action="store_true", help="private scores before the end, too: for organisers alone")

    tidy = on_folder("tidy", "tidying", "tidy", "delete archives of withdrawn and refused submissions after keep_days")
    tidy.add_argument("--dry-run", action="store_true", help="tell what would go, and change nothing")

    backup = on_folder("backup", "copies", "backup", "write everything into one file")
    backup.add_argument("file", type=Path, metavar="FILE.tar")
    restore = add("restore", "copies", "restore", "make a competition's folder again from a backup")
    restore.add_argument("file", type=Path, metavar="FILE.tar")
    restore.add_argument("folder", metavar="DIR", type=Path, help="a new folder")
    restore.add_argument("--database", metavar="URL", help="another database than before")
    return line
