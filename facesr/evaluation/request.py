"""What evaluate.py was asked: settings that fit together, and the question that its folder is claimed for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, DataError
from facesr.evaluation.perceptual import Perceptual
from facesr.evaluation.studies.operators import cases_of
from facesr.files import is_inside
from facesr.methods.method import EQUAL_SHARES, PULSE
from facesr.protocols import Embedder
from facesr.snapshots.shipped import PREFIX
from facesr.snapshots.snapshot import BEST

SUBJECTS = ("restored", "method", "submission")
BUILTIN_JUDGE = "facesr.embedders.builtin.BuiltinEmbedder"  # what embedder= is unless it is given
STUDIES = ("resolution", "tradeoff", "robustness", "audit", "verification", "pulse_paper")


def checked(settings: EvaluateSettings) -> EvaluateSettings:
    """Returns the settings with paths expanded and `method` and `out` filled in.

    Raises:
        ConfigError: keys contradict each other or one is missing.
    """
    if settings.power_limit_watts is not None and settings.study is not None:
        raise ConfigError("power_limit_watts checks one submission, method or restored folder; leave out study=.")
    settings = replace(settings)
    for key in ("restored", "submission", "high", "low", "attributes", "identities", "out"):
        if (value := getattr(settings, key)) is not None:
            setattr(settings, key, str(Path(value).expanduser()))
    given = [key for key in SUBJECTS if getattr(settings, key) is not None]
    _check_protocol(settings)
    if settings.entries and settings.study not in ("tradeoff", "verification", "pulse_paper"):
        raise ConfigError(
            "entries belongs to study=tradeoff and study=verification; add one, or give restored=DIR or method=NAME."
        )
    if settings.operators and settings.study not in ("robustness", "pulse_paper"):
        raise ConfigError("operators belongs to study=robustness; add that, or leave it out.")
    if settings.study != "audit" and (settings.group_by or settings.changes or not settings.intersections):
        raise ConfigError("group_by, intersections and changes belong to study=audit; add that, or leave them out.")
    if settings.interpolate_with is not None and settings.method is None:
        raise ConfigError("interpolate_with needs method=, the first snapshot or run.")
    restores = settings.method is not None or bool(settings.entries) or not (given or settings.high or settings.low)
    if not settings.guard and not restores:
        raise ConfigError(
            "guard=off needs method=, whose pictures it leaves as they are; the others are restored already."
        )
    if settings.interpolate_with is None and settings.interpolation_weight != EQUAL_SHARES:
        weight = settings.interpolation_weight
        raise ConfigError(f"interpolation_weight={weight:g} needs interpolate_with=RUN, the second snapshot or run.")
    if settings.identities is not None and settings.study != "verification":
        raise ConfigError("identities= is what study=verification reads; leave it out, or give that study.")
    if settings.study is not None:
        return _checked_study(settings, given)
    if not given and settings.high is None and settings.low is None:
        settings, given = replace(settings, method="bicubic"), ["method"]
    if len(given) != 1:
        listed = " and ".join(given) or "none"
        raise ConfigError(f"give one of restored=DIR, method=NAME and submission=FILE.zip; {listed} was given.")
    if settings.method is None and settings.high is None:
        raise ConfigError("high has no value; give high=DIR, the folder of the originals.")
    if settings.method is not None and settings.low is None and settings.high is not None:
        raise ConfigError("method restores low=DIR; give it beside high=DIR, or none of them for synthetic faces.")
    if only_restores(settings):
        _check_only_restores(settings)
    if settings.self_ensemble and settings.method is None:
        raise ConfigError("self_ensemble=true needs method=; the other pictures are restored already.")
    return _with_out(settings, given[0])


def only_restores(settings: EvaluateSettings) -> bool:
    """Returns whether pictures are to be restored and there is nothing to compare them with."""
    return settings.study is None and settings.method is not None and settings.low is not None and settings.high is None


def _check_only_restores(settings: EvaluateSettings) -> None:
    """Raises ConfigError for keys that compare, where there are no originals to compare with."""
    compares = {
        "attributes": settings.attributes is not None,
        "judges": bool(settings.judges),
        "embedder": settings.embedder.get("_target_") != BUILTIN_JUDGE,
    }
    for key in (key for key, is_given in compares.items() if is_given):
        raise ConfigError(f"{key} compares with originals; give high=DIR, their folder, or leave {key}= out.")


def _with_out(settings: EvaluateSettings, kind: str) -> EvaluateSettings:
    """Returns the settings with `out` filled in: a name that says what is scored, an archive's with its digest.

    Archives of many teams have one name, and each result is to stay.

    Raises:
        ConfigError: `out` lies in a folder that is read.
        DataError: there is no archive to take the digest of.
    """
    if settings.out is None:
        path = Path(getattr(settings, kind))
        name = path.name.replace(PREFIX, "pretrained_")
        if kind == "submission":
            name = f"{path.stem}-{sha256_of_archive(path)[:12]}"
        settings = replace(settings, out=default_out(name))
    _check_out(settings)
    return settings


def sha256_of_archive(path: Path) -> str:
    """Returns the sha256 of a submission archive.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError as error:
        raise DataError(f"{path} is not a file; give the path of a submission archive.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give the path of a submission archive.") from error


def _check_out(settings: EvaluateSettings) -> None:
    """Raises ConfigError where `out` lies in a folder of pictures: what is written there would be one of them."""
    written = {"out": Path(settings.out or "")}
    if settings.method is not None or settings.entries:
        written["restored_dir"] = Path(settings.restored_dir).expanduser()
    read = {key: getattr(settings, key) for key in ("high", "low", "restored")}
    read |= {f"entries: {entry}": entry for entry in settings.entries if Path(entry).expanduser().is_dir()}
    for key, folder in read.items():
        is_run = folder is not None and (Path(folder).expanduser() / BEST).is_file()
        if folder is None or is_run:
            continue
        named = key if key.startswith("entries") else f"{key}={folder}"
        for place, path in written.items():
            # What restored_dir collects may be scored again; only the very folder that is read must not grow.
            if place == "restored_dir" and path.resolve() != Path(folder).expanduser().resolve() and key != "low":
                continue
            if is_inside(path, Path(folder).expanduser()):
                raise ConfigError(f"{place}={path} lies in {named}, which is read; choose another place for {place}.")


def _check_protocol(settings: EvaluateSettings) -> None:
    """Raises ConfigError for rules of the protocol that contradict each other, or judges where nobody asks them."""
    rules = settings.protocol.perceptual
    if rules is None:
        return
    name = settings.protocol.name
    if settings.judges or settings.embedder.get("_target_") != BUILTIN_JUDGE:
        raise ConfigError(f"protocol {name} scores no faces, so it asks no judge; leave embedder= and judges= out.")
    if not settings.protocol.strict:
        raise ConfigError(f"protocol.strict=false is the 2019 script of the final; protocol {name} has none.")
    if len(rules.rmse_window) != 2 or not rules.rmse_window[0] < rules.rmse_window[1]:
        raise ConfigError("protocol.perceptual.rmse_window has to be two numbers, the smaller first.")
    if rules.region_rmse != sorted(rules.region_rmse):
        raise ConfigError("protocol.perceptual.region_rmse has to rise from region to region.")


def _checked_study(settings: EvaluateSettings, given: list[str]) -> EvaluateSettings:
    """Returns the settings of a study.

    Raises:
        ConfigError: the study is unknown, or its keys contradict each other.
    """
    if settings.study not in STUDIES:
        raise ConfigError(f"study={settings.study} is unknown; choose one of {', '.join(STUDIES)}.")
    settings = replace(settings, out=settings.out or default_out(settings.study))
    _check_out(settings)
    if settings.study == "resolution":
        if given or settings.high is None:
            raise ConfigError("study=resolution looks at high=DIR alone; give it, and leave the other folders out.")
        _require_faces(settings)
        return settings
    if settings.study == "robustness":
        _check_robustness(settings, given)
        return settings
    if settings.study == "audit":
        _check_audit(settings, given)
        return settings
    if settings.study == "verification":
        _check_verification(settings, given)
        return settings
    if settings.study == "pulse_paper":
        _check_paper(settings, given)
        return replace(settings, method=PULSE)
    if [key for key in given if key != "method"]:
        raise ConfigError("study=tradeoff compares entries=[DIR,...]; put restored folders there.")
    if (settings.method is None) != (settings.interpolate_with is None):
        raise ConfigError(
            "a curve of study=tradeoff needs both method= and interpolate_with=; single methods are entries=."
        )
    has_folders = any(is_archive(entry) or Path(entry).is_dir() for entry in settings.entries)
    if settings.high is None and (settings.low is not None or has_folders):
        raise ConfigError("high has no value; give high=DIR, the folder of the originals.")
    return settings


def _require_faces(settings: EvaluateSettings) -> None:
    """Raises ConfigError where a study that asks judges is to be run under a protocol without faces."""
    if settings.protocol.perceptual is not None:
        raise ConfigError(f"study={settings.study} asks judges of faces; leave protocol= out.")


def _require_no_groups(settings: EvaluateSettings) -> None:
    """Raises ConfigError where a study without groups is given some."""
    if settings.attributes is not None:
        raise ConfigError(f"study={settings.study} has no groups; leave attributes= out.")


def _check_robustness(settings: EvaluateSettings, given: Sequence[str]) -> None:
    """Raises ConfigError for keys that do not go with study=robustness, or an unknown operator."""
    if given != ["method"]:
        raise ConfigError("study=robustness restores again and again; give method=NAME, and no restored or submission.")
    if settings.low is not None:
        raise ConfigError(
            "study=robustness makes the low-resolution pictures itself; give high=DIR, and leave low= out."
        )
    _require_no_groups(settings)
    _require_faces(settings)
    cases_of(settings.operators)


def _check_audit(settings: EvaluateSettings, given: Sequence[str]) -> None:
    """Raises ConfigError for keys that do not go with study=audit, or one that it lacks."""
    if list(given) not in (["method"], ["restored"]):
        raise ConfigError(
            "study=audit looks at one method; give method=NAME or restored=DIR, and nothing else of them."
        )
    lacking = [key for key in ("attributes", "low", "high") if getattr(settings, key) is None]
    if lacking:
        raise ConfigError(f"study=audit needs {lacking[0]}=; give attributes=FILE.csv, low=DIR and high=DIR.")
    _require_faces(settings)


def _check_verification(settings: EvaluateSettings, given: Sequence[str]) -> None:
    """Raises ConfigError for keys that do not go with study=verification, or one that it lacks."""
    if given:
        raise ConfigError("study=verification compares entries=[NAME,DIR,...]; put methods and restored folders there.")
    if settings.interpolate_with is not None:
        raise ConfigError("study=verification interpolates no weights; leave interpolate_with= out.")
    _require_no_groups(settings)
    _require_faces(settings)
    if not settings.protocol.strict:
        raise ConfigError("study=verification pairs every picture; leave protocol.strict= out.")
    if (settings.high is None) != (settings.identities is None) or (settings.low and settings.high is None):
        raise ConfigError(
            "study=verification needs to know who is in the pictures; give high=DIR and identities=FILE.csv together, "
            "or neither for synthetic faces."
        )


def _check_paper(settings: EvaluateSettings, given: Sequence[str]) -> None:
    """Raises ConfigError for keys that do not go with study=pulse_paper, or an unknown operator."""
    if [key for key in given if key != "method"] or settings.method not in (None, PULSE):
        raise ConfigError("study=pulse_paper searches; leave restored=, submission= and method= out.")
    if settings.low is not None and settings.high is not None:
        raise ConfigError(
            "study=pulse_paper shrinks the originals itself; give high=DIR, or low=DIR without originals."
        )
    _require_no_groups(settings)
    if settings.interpolate_with is not None:
        raise ConfigError("study=pulse_paper interpolates no weights; leave interpolate_with= out.")
    _require_faces(settings)
    if any(is_archive(entry) for entry in settings.entries):
        raise ConfigError(
            "entries of study=pulse_paper are methods and folders; unpack the archive and give its folder."
        )
    cases_of(settings.operators)


def default_out(name: str) -> str:
    """Returns where an evaluation goes that was given no folder."""
    return str(Path("runs") / "evaluations" / name)


def is_archive(entry: str) -> bool:
    """Returns whether an entry of study=tradeoff names a submission archive."""
    return entry.lower().endswith(".zip")


def archives_of(settings: EvaluateSettings) -> dict[str, Path]:
    """Returns the submission archives that are to be scored, by what they are called in the settings."""
    given = [] if settings.submission is None else [settings.submission]
    given += [entry for entry in settings.entries if is_archive(entry)]
    return {name: Path(name).expanduser() for name in given}


def question_of(settings: EvaluateSettings, archives: Mapping[str, str]) -> dict[str, Any]:
    """Returns what is asked, for question.json: not how fast it is answered.

    `with_judges` adds what is known only when judges and models are loaded.

    Args:
        settings: checked.
        archives: sha256 of each submission archive: another content under an old name is another question.
    """
    paths = {key: getattr(settings, key) for key in ("restored", "submission", "high", "low", "attributes")}
    paths |= {"identities": settings.identities} if settings.study == "verification" else {}
    pulse = {"pulse": asdict(settings.pulse), "generator": settings.latent_generator}
    return {
        **{key: None if value is None else str(Path(value).resolve()) for key, value in paths.items()},
        **(pulse if PULSE in (settings.method, *settings.entries) else {}),
        "method": settings.method,
        "self_ensemble": settings.self_ensemble,
        **({} if settings.guard else {"guard": False}),
        "interpolate_with": settings.interpolate_with,
        "interpolation_weight": settings.interpolation_weight if settings.interpolate_with is not None else None,
        "tiles": [settings.tile_px, settings.tile_overlap_px],
        "study": settings.study,
        "entries": list(settings.entries),
        "curve_weights": list(settings.curve_weights) if settings.study == "tradeoff" else [],
        **({"operators": sorted(settings.operators)} if settings.study == "robustness" else {}),
        **(
            {"operators": list(settings.operators), "paper": asdict(settings.paper), "niqe": settings.niqe.model}
            if settings.study == "pulse_paper"
            else {}
        ),
        **(_audit_question(settings) if settings.study == "audit" else {}),
        "protocol": asdict(settings.protocol),
        **({"archives": dict(archives)} if archives else {}),
        **({} if settings.power_limit_watts is None else {"power_limit_watts": settings.power_limit_watts}),
        "num_resamples": settings.num_resamples,
        "seed": settings.seed,
    }


def _audit_question(settings: EvaluateSettings) -> dict[str, Any]:
    further = {
        "group_by": sorted(settings.group_by),
        "intersections": "" if settings.intersections else "none",
        "changes": list(settings.changes),
    }
    return {"min_group_faces": settings.min_group_faces} | {key: value for key, value in further.items() if value}


def with_judges(
    question: Mapping[str, Any], judges: Sequence[Embedder], perceptual: Perceptual | None
) -> dict[str, Any]:
    """Returns a question with the judges that are asked and the models that the perceptual index is taken with."""
    return {
        **question,
        "judges": [judge.name for judge in judges],
        "models": {} if perceptual is None else perceptual.identity(),
    }
