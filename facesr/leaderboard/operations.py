"""What organisers do at the command line, beside serving and scoring; each function is a subcommand."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from facesr.errors import ConfigError
from facesr.leaderboard import phases, teams
from facesr.leaderboard.competition import Place
from facesr.leaderboard.founding import add_baselines, make_competition
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.standing import PRIVATE, PUBLIC, Standing, standing
from facesr.names import shown_path
from facesr.web.database import Database


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Place, Database]]:
    """Yields a competition with its database, whose tables are brought up to date and which knows all phases.

    Raises:
        FaceSRError: the folder is no competition's, or the database cannot be opened.
    """
    place = Place(folder)
    database = Database(place.url)
    try:
        upgrade(database)
        with database.write() as session:
            told = phases.sync(database, session, place.competition)
        for line in told:
            print(line)
        yield place, database
    finally:
        database.close()


def init(options: argparse.Namespace) -> None:
    """Makes a competition and tells how to go on."""
    token = make_competition(
        options.folder,
        high=options.high,
        low=options.low,
        title=options.title,
        protocol=options.protocol,
        database_url=options.database,
    )
    folder = shown_path(options.folder)
    print(f"{folder} is a competition; its settings are in {folder}/competition.yaml.")
    # Before anything can fail: it is nowhere else.
    print("organiser's token, shown this once; keep it secret:\n")
    print(f"  {token}\n", flush=True)
    if not options.no_baselines:
        print("restoring the baselines ...", flush=True)
        with opened(options.folder) as (place, database):
            names = add_baselines(place, database)
        print(f"baselines wait for a worker: {', '.join(names)}")
    print(f"next: facesr board serve {folder}, then open http://127.0.0.1:8000")


def invite(options: argparse.Namespace) -> None:
    """Prints invitation codes."""
    with opened(options.folder) as (_, database), database.write() as session:
        codes = [teams.invite(database, session, uses=options.teams, label=options.label) for _ in range(options.count)]
    print("\n".join(codes))


def token(options: argparse.Namespace) -> None:
    """Prints a new token."""
    with opened(options.folder) as (_, database), database.write() as session:
        team = None if options.team is None else teams.team_named(session, options.team)
        scope = teams.ORGANISER if team is None else teams.TEAM
        if options.revoke:
            teams.revoke_tokens(database, session, scope, team)
        made = teams.issue_token(database, session, scope, team, "made at the command line")
    print(made)


def baseline(options: argparse.Namespace) -> None:
    """Restores with methods and queues what comes out."""
    with opened(options.folder) as (place, database):
        names = add_baselines(place, database, options.methods)
    print(f"baselines wait for a worker: {', '.join(names)}")


def phase(options: argparse.Namespace) -> None:
    """Lists the phases, or changes one, or tells what changing it would show."""
    starts, ends = _moment("--starts", options.starts), _moment("--ends", options.ends)
    changes = options.close or starts is not None or ends is not None
    if options.close and ends is not None:
        raise ConfigError("--close and --ends exclude each other; give one of them.")
    with opened(options.folder) as (place, database):
        if options.name is None:
            if changes:
                raise ConfigError("a change needs the name of a phase: facesr board phase DIR NAME ...")
            _list(place, database)
            return
        settings = place.competition.phase(options.name)
        if options.dry_run or not changes:
            with database.read() as session:
                print(_preview(place, database, standing(place, session, settings, PUBLIC, is_over=True)))
                if settings.public_share < 1:
                    print(_preview(place, database, standing(place, session, settings, PRIVATE, is_over=True)))
            return
        with database.write() as session:
            if options.close:
                phases.close(database, session, options.name, options.reason)
            else:
                phases.move(database, session, options.name, starts=starts, ends=ends, reason=options.reason)
        _list(place, database)


def _list(place: Place, database: Database) -> None:
    with database.read() as session:
        now = database.now(session)
        for settings in place.competition.phases:
            times = phases.times_of(session, settings.name)
            state = phases.state_of(times, now)
            span = f"{times.starts:%Y-%m-%d %H:%M} to {times.ends:%Y-%m-%d %H:%M} UTC"
            print(f"{settings.name}  {state}  {span}  {settings.title}")


def _preview(place: Place, database: Database, table: Standing) -> str:
    lines = [f"{table.phase.name}, {table.view} scores, {table.num_faces} {table.phase.unit}:"]
    for entry in table.entries:
        score = f"{entry.means[table.ranking_metric or '']:.4f}"
        lines.append(f"  {entry.place or '-':>5}  {score}  {entry.team.name}")
    if not table.entries:
        lines.append("  nothing is scored yet")
    return "\n".join(lines)


def _moment(key: str, text: str | None) -> datetime | None:
    """Returns a moment that was given at the command line.

    Raises:
        ConfigError: it is none, or has no time zone.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{key} {text[:40]} is no moment; give one in UTC, such as 2026-12-01T18:00:00Z.") from error
    if found.tzinfo is None:
        raise ConfigError(f"{key} {text} has no time zone; end it in Z for UTC.")
    try:
        return found.astimezone(UTC)
    except OverflowError as error:
        raise ConfigError(f"{key} {text} lies outside the years 1 to 9999 in UTC; give another moment.") from error
