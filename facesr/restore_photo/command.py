"""The command ``facesr restore``: photographs in, photographs with restored faces out."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from facesr import dist, ranks
from facesr.config import RestoreSettings
from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.evaluation.judges import named_judge, on_device
from facesr.files import is_inside
from facesr.methods.method import PULSE
from facesr.methods.open import open_method
from facesr.names import folded, shown, shown_path
from facesr.photos.decode import list_pictures
from facesr.photos.detect import detector
from facesr.photos.photo_file import Photo, read_photo, suffixes_of, write_photo
from facesr.restore_photo.background import Pace, background_of
from facesr.restore_photo.decide import chosen_of
from facesr.restore_photo.photo import Means, Restored, Wishes, restore_photo, scale_for
from facesr.restore_photo.report import Report, check_place
from facesr.restore_photo.sidecar import REMARK, Origin, is_made_of, read_told, told_of, write_sidecar
from facesr.script import run_script
from facesr.weights import sha256_of

JUDGE = "builtin"
CUBIC = "bicubic"
# What the sidecar calls the background of a photograph that is not enlarged.
AS_IT_IS = "the photograph"
SCALES = ("auto", "1", "2", "3", "4")


@dataclass(frozen=True)
class Job:
    """One photograph: where it lies and where its restoration goes."""

    source: Path
    target: Path


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Restores as arguments say, by default the command line's, and exits: files, folders and KEY=VALUE."""
    run_script(run, "restore", RestoreSettings, with_inputs(sys.argv[1:] if arguments is None else arguments))


def with_inputs(arguments: Sequence[str]) -> list[str]:
    """Returns arguments whose files and folders are one ``inputs=[...]``, quoted so that any name is read as it is."""
    names: list[str] = []
    rest: list[str] = []
    for argument in arguments:
        is_name = not argument.startswith("-") and ("=" not in argument or Path(argument).exists())
        (names if is_name else rest).append(argument)
    if not names:
        return rest
    quoted = [f"'{_quoted(name)}'" for name in names]
    return [f"inputs=[{','.join(quoted)}]", *rest]


def _quoted(name: str) -> str:
    """Returns a name as it stands inside single quotes in Hydra's grammar.

    Backslashes count only before a quote, the end, and ``${``, which would else refer to another key.
    """
    plain = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", name)
    return re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (r"\'" if found[2] else ""), plain)


def run(settings: RestoreSettings) -> None:
    """Restores every photograph that is asked for, one after the other.

    Raises:
        FaceSRError: nothing could be done, or, at the end, some photographs could not be restored.
    """
    if ranks.world_size() > 1:
        raise ConfigError("facesr restore runs as one process; start it without torchrun.")
    jobs = jobs_of(settings)
    if settings.report:
        check_place(_out_of(settings), [(job.source, job.target) for job in jobs])
    chosen_of(settings.faces, 0)
    if settings.scale not in SCALES:
        raise ConfigError(f"scale={settings.scale} is unknown; give one of {', '.join(SCALES)}.")
    if PULSE in (settings.method, settings.background):
        raise ConfigError("pulse restores no photographs; give a snapshot, a run or pretrained:NAME.")
    device = dist.choose_device(settings.device)
    # The guard is one of faces; what is no face has no fallback.
    background = None if settings.background == CUBIC else open_method(settings.background, device, guard=False)
    judge = on_device(named_judge(JUDGE, "judge"), device)
    behind = None if background is None else background_of(background, device)
    means = Means(open_method(settings.method, device), behind, detector(str(device)), judge, device)
    report = Report(_out_of(settings)) if settings.report else None
    wrong: list[str] = []
    for job in jobs:
        try:
            print(f"{shown_path(job.source)}: {_restore(job, settings, means, report)}", flush=True)
        except FaceSRError as error:
            if len(jobs) == 1:
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            wrong.append(job.source.name)
            if report is not None:
                report.add_failure(str(error))
    if report is not None:
        print(f"report: {shown_path(report.write(means.method.name, settings.background))}", flush=True)
    if wrong:
        raise DataError(f"{len(wrong)} of {len(jobs)} photographs were not restored: {shown(wrong)}; see above.")


def jobs_of(settings: RestoreSettings) -> list[Job]:
    """Returns the photographs to restore, and where each goes.

    Raises:
        FaceSRError: no input or no `out`, an input that is not there, or two that would go to one place.
    """
    if not settings.inputs:
        raise ConfigError("no photograph is given; name files or folders: facesr restore PHOTO out=DIR.")
    if not settings.out:
        raise ConfigError("out has no value; give out=DIR, the folder to write to.")
    out, jobs = _out_of(settings), list[Job]()
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={shown_path(out)} is a file; give a folder.")
    for name in settings.inputs:
        source = Path(name).expanduser()
        if source.is_dir():
            if is_inside(out, source):
                raise ConfigError(f"out={shown_path(out)} lies inside {shown_path(source)}; give a folder elsewhere.")
            found = list_pictures(source)
            if not found:
                raise DataError(f"{shown_path(source)} holds no picture; give a folder of photographs.")
            jobs += [Job(source / inner, out / inner) for inner in found]
        elif source.exists():
            jobs.append(Job(source, out / source.name))
        else:
            raise DataError(f"{shown_path(source)} does not exist; give a photograph or a folder of them.")
    taken: dict[str, Path] = {}
    for job in jobs:
        if job.target.exists() and job.target.samefile(job.source):
            raise ConfigError(f"{shown_path(job.source)} would be written over; give another folder as out.")
        other = taken.setdefault(folded(str(job.target)), job.source)
        if other is not job.source:
            raise ConfigError(
                f"{shown_path(other)} and {shown_path(job.source)} would both become {shown_path(job.target)}; "
                "restore them into two folders."
            )
    return jobs


def _out_of(settings: RestoreSettings) -> Path:
    return Path(settings.out or "").expanduser()


def _restore(job: Job, settings: RestoreSettings, means: Means, report: Report | None) -> str:
    """Restores one photograph, and returns what there is to say of it."""
    photo = read_photo(job.source)
    height, width = photo.pixels.shape[:2]
    scale = scale_for(width, height) if settings.scale == "auto" else int(settings.scale)
    most = photo.largest_side
    if most is not None and max(height, width) * scale > most:
        raise ConfigError(
            f"{shown_path(job.source)} would have {width * scale}x{height * scale} pixels, and a side of its format "
            f"has {most} at most; give a smaller scale, or save it as PNG."
        )
    if job.target.suffix.lower() not in suffixes_of(photo.format):
        # What a file is, its content says: the name of what is written tells it.
        job = replace(job, target=job.target.with_suffix(suffixes_of(photo.format)[0]))
    origin = origin_of(job, settings, means, scale)
    if job.target.exists():
        if is_made_of(job.target, origin, sha256_of(job.target)):
            if report is not None and report.has_room():
                report.add(job.target, photo, read_photo(job.target), read_told(job.target), was_before=True)
            return f"was restored before, {shown_path(job.target)}"
        if not settings.overwrite:
            raise ConfigError(f"{shown_path(job.target)} is there already; give another out, or overwrite=true.")
    wishes = Wishes(scale, settings.faces, settings.min_face_px, settings.max_turn, settings.strength)
    pace = Pace(lambda line: print(f"{shown_path(job.source)}: {line}", file=sys.stderr, flush=True))
    restored = restore_photo(photo.pixels, photo.alpha, photo.srgb(), photo.holds_no_colour, means, wishes, pace)
    after = replace(photo, pixels=restored.pixels, alpha=restored.alpha)
    _write(job, settings, after, restored, origin, scale)
    if report is not None and report.has_room():
        report.add(job.target, photo, after, told_of(restored.faces))
    return summary(restored)


def origin_of(job: Job, settings: RestoreSettings, means: Means, scale: int) -> Origin:
    """Returns what the restoration of a photograph depends on."""
    keys = ("strength", "faces", "min_face_px", "max_turn", "metadata")
    asked = {key: getattr(settings, key) for key in keys} | {"scale": scale}
    if not isinstance(asked["faces"], str):
        asked["faces"] = [int(number) for number in asked["faces"]]
    background = None if means.background is None else means.background.method
    if scale == 1:
        # The photograph's own pixels, whatever restores what is enlarged.
        name, digest = AS_IT_IS, ""
    else:
        name, digest = (CUBIC, "") if background is None else (background.name, background.weights_sha256)
    return Origin(
        sha256_of(job.source),
        asked,
        means.method.name,
        means.method.weights_sha256,
        name,
        digest,
        JUDGE,
    )


def _write(job: Job, settings: RestoreSettings, after: Photo, restored: Restored, origin: Origin, scale: int) -> None:
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_photo(job.target, after, metadata=settings.metadata, remark=REMARK)
        if settings.sidecar:
            facts = {"scale": scale, "seconds": round(restored.seconds, 3)}
            write_sidecar(job.target, origin, sha256_of(job.target), restored.faces, facts)
    except OSError as error:
        raise DataError(f"{shown_path(job.target)} cannot be written: {error.strerror or error}.") from error


def summary(restored: Restored) -> str:
    """Returns one line, and one more for each face that was left as it is or is less certain."""
    height, width = restored.pixels.shape[:2]
    done = [face for face in restored.faces if not face.reason]
    unsure = [face for face in done if face.less_certain]
    count = f"{len(restored.faces)} face{'' if len(restored.faces) == 1 else 's'}, {len(done)} restored"
    lines = [f"{count}{f' ({len(unsure)} less certain)' if unsure else ''}, {width}x{height}, {restored.seconds:.1f} s"]
    for number, face in enumerate(restored.faces):
        if face.reason:
            lines.append(f"  face {number} is left as it is: {face.reason}")
        elif face.less_certain:
            lines.append(f"  face {number} is less certain: {'; '.join(face.less_certain)}")
    return "\n".join(lines)
