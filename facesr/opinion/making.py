"""Making a study: pictures checked, copied and encoded anew, the plan drawn, everything in a new folder or nothing."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from string import Template

from facesr.config import OpinionSettings
from facesr.errors import ConfigError, DataError
from facesr.files import require_new, whole_folder
from facesr.names import shown, shown_path
from facesr.opinion.design import Chance
from facesr.opinion.plan import Plan, Shown, plan_bytes, read_plan, sessions_of
from facesr.opinion.ratings import ACR, KINDS, ORIGINAL, SAME
from facesr.opinion.sessions import Wishes
from facesr.opinion.sources import (
    ANCHORS,
    Picture,
    Sources,
    anchor_of,
    low_of,
    open_sources,
    read_persons,
    read_picture,
)
from facesr.opinion.study import (
    KEY,
    LANGUAGES,
    PERSON,
    PLAN,
    SETTINGS,
    Study,
    design_of,
    make_private,
    picture_place,
    pixels_sha256,
    rules_of,
)
from facesr.png import write_png
from facesr.web.database import Database
from facesr.web.secret import write_secret
from facesr.web.strict import yaml_text

NUM_TRAINING_FACES = 4

_TEXT = Template("""\
# An opinion study. The upper part may be changed at any time; what raters have agreed to should not change.
title: $title
about: {}                     # by language, for the first page, for example {en: "We compare ..."}
consent: {}                   # by language: what a rater agrees to; empty: a text that comes with facesr
contact: ""                   # whom raters may write to
break_every: 40               # questions after which a break is offered
abandoned_after_hours: 48.0   # a session that rests for so long may be given to somebody else
$database

# Fixed: part of the plan, which was made before the first rater. A change is refused.
design:
$design
rules:                        # who is left out of the result
$rules
""")


def make_study(settings: OpinionSettings) -> Study:
    """Makes a study in a new folder, and returns it.

    Args:
        settings: of configs/opinion.yaml.

    Raises:
        FaceSRError: something does not fit, the folder exists, or nothing can be written.
    """
    if settings.dir is None:
        raise ConfigError("no folder is given; name a new one: facesr opinion init DIR folders=[A,B] high=DIR.")
    folder = Path(settings.dir).expanduser()
    require_new(folder)
    _check_lists(settings)
    sources = open_sources(settings.folders, settings.high, settings.low, settings.anchors)
    faces, training_faces = _faces_of(settings, sorted(sources.high))
    person_of: dict[str, str] = {}
    others: dict[str, list[Path]] = {}
    if settings.persons is not None:
        person_of, others = read_persons(Path(settings.persons).expanduser(), faces)
    # Files of one person have one name, whichever of the person's faces asks for them.
    asked_for = dict.fromkeys(path for paths in others.values() for path in paths)
    files = {path: f"{number:04d}" for number, path in enumerate(asked_for)}
    wishes = Wishes(
        seed=settings.seed,
        kinds=tuple(settings.kinds),
        methods=tuple(sources.methods),
        anchors=tuple(settings.anchors),
        faces=faces,
        training_faces=training_faces,
        training=settings.training,
        repeats=settings.repeats,
        traps=settings.traps,
        with_reference=settings.with_reference,
        persons={face: [f"{PERSON}/{files[path]}" for path in paths] for face, paths in others.items()},
        person_of=person_of,
    )
    sessions = sessions_of(wishes, settings.raters + settings.reserve)
    if settings.database is not None:
        with contextlib.closing(Database(settings.database)) as database:
            database.check()
    plan = Plan(
        design_of(settings).model_dump(),
        rules_of(settings.rules),
        wishes.methods,
        wishes.anchors,
        faces,
        {},
        sessions,
    )
    try:
        with whole_folder(folder) as made:
            make_private(made)
            plan = _write_pictures(made, plan, sources, {name: path for path, name in files.items()})
            data = plan_bytes(plan)
            (made / PLAN).write_bytes(data)
            (made / SETTINGS).write_text(_settings_text(settings), encoding="utf-8")
            (made / LANGUAGES).mkdir()
            write_secret(made / KEY)
            read_plan(data, PLAN)
            Study(made)
    except OSError as error:
        raise DataError(f"{shown_path(folder)} cannot be written ({error.strerror}); choose another place.") from error
    return Study(folder)


def _check_lists(settings: OpinionSettings) -> None:
    for key, given, known in (("kinds", settings.kinds, KINDS), ("anchors", settings.anchors, ANCHORS)):
        unknown = [one for one in given if one not in known]
        if unknown:
            raise ConfigError(f"{key}={unknown[0]} is unknown; choose among {', '.join(known)}.")
        if len(set(given)) < len(given):
            raise ConfigError(f"{key} names one thing twice; name each once.")
    if not settings.kinds:
        raise ConfigError("kinds is empty; choose among acr, pair, same.")
    if settings.persons is not None and SAME not in settings.kinds:
        raise ConfigError("persons is for kinds=[same] alone; leave it out.")
    if "pair" in settings.kinds and len(settings.folders) + len(settings.anchors) < 2:
        raise ConfigError("kinds=[pair] compares two methods; give two folders, or an anchor.")
    if not settings.title or len(settings.title) > 100:
        raise ConfigError("title has to have 1 to 100 characters.")


def _faces_of(settings: OpinionSettings, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the faces of the study, and those of its training: others, where there are enough.

    Raises:
        ConfigError: `faces` is neither a number, ``all`` nor a list of ids that exist.
    """
    given = settings.faces
    drawn = Chance(settings.seed, "faces").shuffled(known)
    if given == "all":
        faces = list(known)
    elif isinstance(given, int) and not isinstance(given, bool):
        if not 2 <= given <= len(known):
            raise ConfigError(f"faces={given} is not possible with {len(known)} pictures; give from 2 to {len(known)}.")
        faces = sorted(drawn[:given])
    elif isinstance(given, list) and given:
        faces = [str(one) for one in given]
        unknown = [one for one in faces if one not in known]
        if unknown:
            raise ConfigError(
                f"faces: {shown(unknown)} is no picture of high; give ids, the files' names without .png."
            )
        if len(set(faces)) < len(faces):
            raise ConfigError("faces names one face twice; name each once.")
    else:
        raise ConfigError("faces has to be a number, all, or a list of ids.")
    rest = [one for one in drawn if one not in set(faces)]
    chosen = rest if len(rest) >= NUM_TRAINING_FACES else [one for one in drawn if one in set(faces)]
    return tuple(faces), tuple(sorted(chosen[:NUM_TRAINING_FACES]))


def _write_pictures(made: Path, plan: Plan, sources: Sources, persons: dict[str, Path]) -> Plan:
    """Writes all pictures that the plan shows, and returns the plan with their sizes and digests.

    All pictures of all methods are kept for the faces that are rated, so that judges can score them.
    """
    keys = {key for one in plan.sessions for trial in one for key in trial.shows}
    written: dict[str, Shown] = {}

    def write(key: str, picture: Picture) -> None:
        path = made / picture_place(key, plan.faces)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, picture)
        if key in keys:
            written[key] = Shown(picture.shape[1], picture.shape[0], pixels_sha256(picture))

    shown_faces = {key.partition("/")[2] for key in keys if not key.startswith(f"{PERSON}/")}
    for face in sorted({*shown_faces, *plan.faces}):
        is_rated = face in plan.faces
        high = read_picture(sources.high[face])
        if is_rated or f"{ORIGINAL}/{face}" in keys:
            write(f"{ORIGINAL}/{face}", high)
        for method, paths in sources.methods.items():
            if is_rated or f"{method}/{face}" in keys:
                picture = read_picture(paths[face])
                if picture.shape != high.shape:
                    have, want = picture.shape, high.shape
                    raise DataError(
                        f"{shown_path(paths[face])} is {have[1]}x{have[0]} where its original is {want[1]}x{want[0]}; "
                        "all pictures of a face need one size."
                    )
                write(f"{method}/{face}", picture)
        wanted = [name for name in plan.anchors if is_rated or f"{name}/{face}" in keys]
        low = low_of(sources, face, high) if wanted else high
        for name in wanted:
            write(f"{name}/{face}", anchor_of(name, low, *high.shape[:2]))
    for key in sorted(key for key in keys if key.startswith(f"{PERSON}/")):
        write(key, read_picture(persons[key.partition("/")[2]]))
    return replace(plan, pictures=written)


def _settings_text(settings: OpinionSettings) -> str:
    design = design_of(settings)
    rules = rules_of(settings.rules)
    comments = {
        "kinds": "acr: 1 to 5; pair: which of two; same: is this the same person",
        "raters": "fewer than 15 give an informal result",
        "reserve": "sessions beyond these",
        "training": "questions of each kind that do not count",
        "repeats": "questions of each kind that come a second time",
        "traps": "questions of each kind that say which answer to give",
        "with_reference": "pairs are shown beside the original",
        "enlarge": "so many times, by cubic interpolation, before they are shown",
    }
    lines = []
    for key, value in design:
        listed = f"[{', '.join(value)}]" if isinstance(value, list) else str(value).lower()
        lines.append(f"  {key}: {listed}".ljust(30) + (f"# {comments[key]}" if key in comments else ""))
    ruled = [f"  {key}: {getattr(rules, key)}" for key in rules.__dataclass_fields__]
    database = "# database: postgresql+psycopg://USER@HOST/NAME     instead of study.sqlite in this folder"
    if settings.database is not None:
        database = f"database: {yaml_text(settings.database, 'database')}"
    return _TEXT.substitute(
        title=yaml_text(settings.title, "title"),
        database=database,
        design="\n".join(line.rstrip() for line in lines),
        rules="\n".join(ruled),
    )


def told(study: Study) -> list[str]:
    """Returns what there is to say of a new study."""
    plan = study.plan
    name = shown_path(study.folder)
    parts = [f"{len(plan.methods)} method{'s' * (len(plan.methods) > 1)} ({', '.join(plan.methods)})"]
    parts += [f"the anchors {', '.join(plan.anchors)}"] if plan.anchors else []
    parts += ["the hidden original"] if ACR in plan.kinds else []
    design = study.settings.design
    return [
        f"{name} is a study of {', '.join(parts)} on {len(plan.faces)} faces; its settings are in {name}/{SETTINGS}.",
        f"a rater answers {plan.num_trials} questions, about {plan.minutes} minutes; "
        f"{design.raters} raters are planned, {design.reserve} sessions are in reserve.",
        f"plan: sha256 {plan.sha256} ({name}/{PLAN}); publish it before the first rater",
        f"next: facesr opinion invite {name} --count {design.raters}, then facesr opinion serve {name}",
    ]
