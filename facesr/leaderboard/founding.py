"""Making a competition: its folder, settings with comments, references, secret, database and baselines."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from facesr.config import SubmitSettings
from facesr.errors import ConfigError, DataError
from facesr.evaluation.pairs import list_pictures
from facesr.files import require_new, whole_folder
from facesr.leaderboard import chain, entries, phases, teams
from facesr.leaderboard.competition import KEY, SETTINGS, Phase, Place
from facesr.leaderboard.faults import NotFound
from facesr.leaderboard.schema import upgrade
from facesr.leaderboard.tables import Event
from facesr.methods.low import LowPictures
from facesr.png import list_png
from facesr.web.database import Database
from facesr.web.secret import write_secret
from facesr.web.strict import yaml_text

DEMO_FACES = 48
BASELINES = {
    "asc19_preliminary": ("bicubic", "pretrained:general"),
    "asc19_final": ("bicubic", "pretrained:asc19_psnr", "pretrained:asc19_final"),
    "open": ("bicubic",),
}
_DAYS = 30
_MAX_BASELINE_BYTES = 1 << 32

_SETTINGS_TEXT = Template("""\
# A face super-resolution competition. Check a change by: facesr board phase FOLDER
title: $title
description: >
  $description
contact: ""                       # whom teams may write to
max_archive_mib: 256              # a larger archive is refused
team_storage_mib: 16384           # archives of a team that are kept, of all phases together
uploads_mib_per_second: 20        # how fast archives come in, all together; more makes pages slower meanwhile
# keep_days: 30                   # facesr board tidy deletes archives that were withdrawn or refused after so many
# database: postgresql+psycopg://USER@HOST/NAME     instead of board.sqlite in this folder

phases:
  - name: final                   # in addresses and commands: a-z, 0-9 and -
    title: ID similarity
    protocol: $protocol         # asc19_final: 24x28 to 96x112; asc19_preliminary: perceptual index; open: any sizes
    starts: $starts   # UTC
    ends: $ends
    references: references/final  # folder with high/ (originals, secret) and low/ (what teams get)
    ranking_judge: builtin        # the recogniser that ranks: a name of configs/embedder
    held_out_judges: []           # shown beside it, for example [edgeface, mobilefacenet_ms1m]
    public_share: $share             # share of the faces whose scores are shown before the end; the others decide
    rank_rule: best               # best: by public score; last: the newest; chosen: by the team
    num_chosen: 2                 # with chosen: how many
    # ladder_step: 0.001          # a new public score is shown only if it is better by more than this
    # power_limit_watts: 3000     # mean power of the restoration, as the manifest states it
    num_examples: 3               # public faces that everybody may see, with their originals; 0: none
    limits:
      scored_per_day: 5           # a day is one of UTC; what fails on the organiser's side counts for nothing
      refused_per_day: 20
      scored_in_all: 100
      waiting: 2                  # at once
""")


def make_competition(
    folder: Path,
    *,
    high: Path | None = None,
    low: Path | None = None,
    title: str | None = None,
    protocol: str = "asc19_final",
    database_url: str | None = None,
) -> str:
    """Makes a competition in a new folder, and returns the organiser's token, which is shown this once.

    Args:
        folder: it must not exist yet, or be empty.
        high: originals; without them synthetic faces are drawn, so that everything can be tried.
        low: the low-resolution pictures of these originals.
        title: of the competition.
        protocol: a name of configs/protocol/.
        database_url: of a PostgreSQL database, by default an SQLite file in the folder.

    Raises:
        FaceSRError: the folder is not empty, the pictures do not fit the protocol, or nothing can be written.
    """
    if (high is None) != (low is None):
        raise ConfigError("--high and --low belong together; give both, or none for synthetic faces.")
    require_new(folder)
    if database_url is not None:
        with contextlib.closing(Database(database_url)) as database:
            database.check()
            with database.read() as session:
                _require_empty(session)
    try:
        with whole_folder(folder) as made:
            made.chmod(0o750)
            _copy_references(made / "references" / "final", high, low, protocol)
            write_secret(made / KEY)
            text = _settings_text(title, protocol, is_demo=high is None, database_url=database_url)
            (made / SETTINGS).write_text(text, encoding="utf-8")
            Place(made)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); choose another place.") from error
    place = Place(folder)
    place.store()
    database = Database(place.url)
    try:
        upgrade(database)
        with database.write() as session:
            _require_empty(session)
            data = {"title": place.competition.title, "references": _digests(place)}
            chain.append(database, session, "organiser", "competition made", data)
            phases.sync(database, session, place.competition)
            return teams.issue_token(database, session, teams.ORGANISER, label="made with the competition")
    finally:
        database.close()


def _require_empty(session: Session) -> None:
    if inspect(session.connection()).has_table(Event.__tablename__) and chain.head(session).seq:
        raise DataError("the database holds a competition already; give an empty one.")


def add_baselines(place: Place, database: Database, methods: Sequence[str] = ()) -> list[str]:
    """Restores every phase's pictures with methods and queues them as baselines; returns the methods' names.

    Args:
        place: the competition.
        database: of the board.
        methods: as evaluate.py takes them; none: those of `BASELINES` for the phase's protocol.

    Raises:
        FaceSRError: a method is unknown, or cannot be packed.
    """
    # Restoring needs torch, which the rest of a board does without.
    import torch

    from facesr.build import load_settings
    from facesr.methods.folder import RestoreOptions, restore_folder
    from facesr.methods.open import open_method
    from facesr.submission.attachments import attachments_for
    from facesr.submission.pack import pack
    from facesr.tiles import Tiles

    device = torch.device("cpu")
    wanted = [(phase, spec) for phase in place.competition.phases for spec in methods or BASELINES[phase.protocol]]
    opened = {spec: open_method(spec, device) for spec in dict.fromkeys(spec for _, spec in wanted)}
    for phase, spec in wanted:
        name, method = _baseline_name(spec), opened[spec]
        settings = load_settings("submit", SubmitSettings, [f"protocol={phase.protocol}"])
        settings = replace(settings, method=spec, low=str(place.low(phase)), team=name, out=f"{name}.zip")
        low = LowPictures.open(place.low(phase), settings.protocol)
        options = RestoreOptions(device, settings.batch_size, False, Tiles(settings.tile_px, settings.tile_overlap_px))
        with tempfile.TemporaryDirectory(prefix="facesr-baselines-") as scratch:
            restored = restore_folder(method, low, options, Path(scratch) / "restored", reuse=False)
            packed = pack(
                restored.path,
                Path(scratch) / f"{name}.zip",
                team=name,
                protocol=settings.protocol,
                low=low.folder,
                attachments=attachments_for(settings, method),
            )
            _queue_baseline(place, database, phase, name, packed.path)
    return [_baseline_name(spec) for spec in opened]


def _baseline_name(spec: str) -> str:
    """Returns what a baseline is called: the method, or the name of the file or run."""
    return Path(spec.removeprefix("pretrained:")).stem[:64]


def _queue_baseline(place: Place, database: Database, phase: Phase, name: str, archive: Path) -> None:
    with archive.open("rb") as file:
        stored = place.store().put(iter(lambda: file.read(1 << 20), b""), _MAX_BASELINE_BYTES)
    with database.write() as session:
        try:
            team = teams.team_named(session, name)
        except NotFound:
            team = teams.new_team(database, session, name, is_baseline=True)
        entries.receive(database, session, team, phase, stored, is_baseline=True)


def _copy_references(to: Path, high: Path | None, low: Path | None, protocol: str) -> None:
    if high is None or low is None:
        if protocol == "asc19_preliminary":
            from facesr.data.export import export_dead_leaves

            export_dead_leaves(to)
            return
        from facesr.data.export import export_synthetic

        export_synthetic(to, DEMO_FACES)
        return
    pairs = {"high": list_pictures(high), "low": list_pictures(low)}
    if set(pairs["high"]) != set(pairs["low"]):
        raise DataError(f"{high} and {low} do not hold the same names; both need exactly the same ones.")
    LowPictures.open(low)
    for name, files in pairs.items():
        (to / name).mkdir(parents=True)
        for key, path in files.items():
            shutil.copyfile(path, to / name / f"{key}.png")


def _settings_text(title: str | None, protocol: str, *, is_demo: bool, database_url: str | None) -> str:
    is_general = protocol == "asc19_preliminary"
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    text = _SETTINGS_TEXT.substitute(
        title=yaml_text(title or ("A demo on synthetic pictures" if is_demo else "Super-resolution"), "--title"),
        description="Restore pictures 4x. The score is the perceptual index; lower is better."
        if is_general
        else "Restore faces 4x. The score is the ID similarity of the restored and the original face.",
        protocol=protocol,
        starts=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        ends=f"{now + timedelta(days=_DAYS):%Y-%m-%dT%H:%M:%SZ}",
        share="0.5",
    )
    if is_general:
        text = text.replace("    title: ID similarity\n", "    title: Perceptual index\n")
    if database_url is None:
        return text
    head, mark, rest = text.partition("# database: ")
    return f"{head}database: {yaml_text(database_url, '--database')}\n{mark}{rest}"


def _digests(place: Place) -> dict[str, str]:
    """Returns a digest of the references of every phase: names and bytes of all files."""
    found: dict[str, str] = {}
    for phase in place.competition.phases:
        for kind, folder in (("high", place.high(phase)), ("low", place.low(phase))):
            digest = hashlib.sha256()
            for key, path in sorted(list_png(folder).items()):
                digest.update(f"{key}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
            found[f"{phase.name}/{kind}"] = digest.hexdigest()
    return found
