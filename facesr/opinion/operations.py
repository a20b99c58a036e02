"""What organisers do at the command line while a study runs; each function is a subcommand."""

import argparse
import re

from facesr.errors import ConfigError
from facesr.opinion import raters
from facesr.opinion.opening import opened

_ADDRESS = re.compile(r"https?://[^\s/?#]+", re.ASCII)


def invite(options: argparse.Namespace) -> None:
    """Prints personal links, or the link with which raters register themselves."""
    address = options.url.rstrip("/")
    if not _ADDRESS.fullmatch(address):
        raise ConfigError("--url has to be an address such as https://study.example.org, without a path.")
    if options.open and options.close:
        raise ConfigError("--open and --close exclude each other; give one of them.")
    with opened(options.folder) as (_, database):
        if options.open or options.close:
            with database.write() as session:
                code = raters.open_to_all(session) if options.open else ""
                if options.close:
                    raters.close_to_all(session)
            print(f"{address}/join/{code}" if code else "nobody can register any more; personal links stay valid.")
            return
        with database.write() as session:
            tokens = [raters.invite(database, session) for _ in range(options.count)]
        for token in tokens:
            print(f"{address}/r/{token}")


def status(options: argparse.Namespace) -> None:
    """Prints how far the study is.

    No score is told before the study is over: who knows how it stands may stop, or ask on, when it suits.
    """
    with opened(options.folder) as (study, database):
        with database.read() as session:
            found = raters.progress(database, session, study)
        planned = study.settings.design.raters
        print(f"{study.settings.title}: {found.finished} of {planned} planned raters have finished")
        print(f"joined      {found.joined}")
        print(f"withdrawn   {found.withdrawn}")
        print(f"resting     {found.resting} for more than {study.settings.abandoned_after_hours:g} h")
        print(f"links       {found.invited}, those of withdrawn raters included")
        print(f"sessions    {found.free} free of {len(study.plan.sessions)}")
        print(f"answers     {found.answers}")
        print(f"plan        sha256 {study.plan.sha256}")
