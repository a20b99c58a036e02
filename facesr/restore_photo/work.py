"""The photographs and films of a call restored one after the other, and what is told of each."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facesr import dist
from facesr.config import RestoreSettings
from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.evaluation.judges import named_judge, on_device
from facesr.files import remove_leftovers
from facesr.methods.method import PULSE, Method
from facesr.methods.open import open_method
from facesr.names import shown, shown_path
from facesr.photos.crop import Framing
from facesr.photos.detect import detector
from facesr.photos.photo_file import Photo, read_photo, write_photo
from facesr.photos.trained import usable_framing
from facesr.restore_photo.background import Pace, background_of
from facesr.restore_photo.clip_command import restore_film
from facesr.restore_photo.jobs import Job, is_there_already, out_of
from facesr.restore_photo.photo import FaceFacts, Means, Restored, Wishes, restore_photo, scale_for
from facesr.restore_photo.report import Report
from facesr.restore_photo.sidecar import (
    MEANINGS,
    REMARK,
    Facts,
    Origin,
    is_made_of,
    read_size,
    read_told,
    sidecar_of,
    told_of,
    write_sidecar,
)
from facesr.restore_photo.wishes import scale_for_film
from facesr.weights import sha256_of

if TYPE_CHECKING:
    from facesr.clips.stream import About

JUDGE = "builtin"
CUBIC = "bicubic"
# What the sidecar calls the background of a photograph that is not enlarged.
AS_IT_IS = "the photograph"


def restore_all(
    jobs: list[Job], films: Mapping[Path, "About"], refused: Mapping[Path, FaceSRError], settings: RestoreSettings
) -> None:
    """Restores the photographs and films of a call, one after the other, and tells of each.

    Args:
        jobs: all of the call. films: what those that are films are.
        refused: why some of the photographs cannot be restored, as it is known already.
        settings: what is asked for.

    Raises:
        FaceSRError: nothing could be done, or, at the end, some photographs could not be restored.
    """
    wrong: list[str] = []

    def tell(job: Job, error: FaceSRError) -> None:
        print(f"error: {error}", file=sys.stderr, flush=True)
        wrong.append(job.source.name)
        if report is not None:
            report.add_failure(str(error))

    report = Report(out_of(settings)) if settings.report else None
    left = [job for job in jobs if job.source not in refused]
    # Before the networks are opened, which takes seconds: who waits for one photograph sees at once why it is not made.
    for job in jobs:
        if job.source in refused:
            tell(job, refused[job.source])
    if left:
        means = _means(settings)
        _sweep(left)
        for job in left:
            try:
                if job.is_film:
                    told = _film(job, films[job.source], settings, means)
                else:
                    told = _restore(job, settings, means, report)
                print(f"{shown_path(job.source)}: {told}", flush=True)
            except FaceSRError as error:
                if len(jobs) == 1:
                    raise
                tell(job, error)
        if report is not None:
            print(f"report: {shown_path(report.write(means.method.name, settings.background))}", flush=True)
    if wrong:
        raise DataError(f"{len(wrong)} of {len(jobs)} photographs were not restored: {shown(wrong)}; see above.")


def _means(settings: RestoreSettings) -> Means:
    """Opens what restores, finds and judges.

    Raises:
        FaceSRError: one of them is not as it has to be.
    """
    if PULSE in (settings.method, settings.background):
        raise ConfigError("pulse restores no photographs; give a snapshot, a run or pretrained:NAME.")
    device = dist.choose_device(settings.device)
    method = open_method(settings.method, device)
    framing = _framing_for(method, settings.method)
    # The guard is one of faces; what is no face has no fallback.
    background = None if settings.background == CUBIC else open_method(settings.background, device, guard=False)
    judge = on_device(named_judge(JUDGE, "judge"), device)
    behind = None if background is None else background_of(background, device)
    return Means(method, behind, detector(str(device)), judge, device, framing)


def _framing_for(method: Method, name: str) -> Framing:
    try:
        return usable_framing(method.framing)
    except ValueError as what:
        raise ConfigError(
            f"method={name} was trained on {what}, which facesr restore cannot show it; give a snapshot that was "
            "trained on faces of facesr prepare --crop detect or ffhq."
        ) from None


def _sweep(jobs: list[Job]) -> None:
    """Removes what killed calls have left of the files that are to be written."""
    names: dict[Path, set[str]] = {}
    for job in jobs:
        names.setdefault(job.target.parent, set()).update((job.target.name, sidecar_of(job.target).name))
    for folder, own in names.items():
        if folder.is_dir():
            remove_leftovers(folder, own)


def _film(job: Job, about: "About", settings: RestoreSettings, means: Means) -> str:
    """Restores one film, and returns what there is to say of it."""
    scale = scale_for_film(settings.scale, about.width, about.height)
    origin = origin_of(job, settings, means, scale)
    origin = replace(origin, settings={**origin.settings, "frames": settings.frames})
    return restore_film(job.source, about, job.target, settings, means, origin)


def _restore(job: Job, settings: RestoreSettings, means: Means, report: Report | None) -> str:
    """Restores one photograph, and returns what there is to say of it."""
    if job.target.exists():
        # Before the photograph is decoded: most of a folder that is given again was restored before.
        if _was_made(job, settings, means):
            if report is not None and report.has_room():
                before, after = read_photo(job.source), read_photo(job.target)
                report.add(job.target, before, after, read_told(job.target), was_before=True)
            return f"was restored before, {shown_path(job.target)}"
        if not settings.overwrite:
            raise is_there_already(job.target)
    photo = read_photo(job.source)
    height, width = photo.pixels.shape[:2]
    scale = scale_of(settings, width, height)
    most = photo.largest_side
    if most is not None and max(height, width) * scale > most:
        raise ConfigError(
            f"{shown_path(job.source)} would have {width * scale}x{height * scale} pixels, and a side of its format "
            f"has {most} at most; give a smaller scale, or save it as PNG."
        )
    origin = origin_of(job, settings, means, scale)
    wishes = Wishes(scale, settings.faces, settings.min_face_px, settings.max_turn, settings.strength)
    pace = Pace(lambda line: print(f"{shown_path(job.source)}: {line}", file=sys.stderr, flush=True))
    restored = restore_photo(photo.pixels, photo.alpha, photo.srgb(), photo.holds_no_colour, means, wishes, pace)
    after = replace(photo, pixels=restored.pixels, alpha=restored.alpha)
    facts = {"scale": scale, "photo_size": [width, height], "seconds": round(restored.seconds, 3)}
    note, shown_before = photo.note, photo if report is not None and report.has_room() else None
    del photo  # its place is needed for what the encoder holds
    _write(job, settings, after, restored.faces, origin, facts)
    if report is not None and shown_before is not None:
        report.add(job.target, shown_before, after, told_of(restored.faces))
    return summary(restored) + (f"\n  {note}" if note else "")


def scale_of(settings: RestoreSettings, width: int, height: int) -> int:
    """Returns how many times as large a photograph of this size becomes."""
    return scale_for(width, height) if settings.scale == "auto" else int(settings.scale)


def _was_made(job: Job, settings: RestoreSettings, means: Means) -> bool:
    """Returns whether what is there is what this command would make, as the file beside it says."""
    size = read_size(job.target)
    if size is None:
        return False
    try:
        origin = origin_of(job, settings, means, scale_of(settings, *size))
        return is_made_of(job.target, origin, sha256_of(job.target))
    except OSError as error:
        raise DataError(f"{shown_path(job.source)} cannot be read: {error.strerror or error}.") from error


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


def _write(
    job: Job, settings: RestoreSettings, after: Photo, faces: tuple[FaceFacts, ...], origin: Origin, facts: Facts
) -> None:
    def tell(written: Path) -> None:
        # The JSON file first: a kill between the two leaves one without a photograph, and the same command goes on.
        if settings.sidecar:
            write_sidecar(job.target, origin, sha256_of(written), facts | {"faces": told_of(faces)}, MEANINGS)
        else:
            # One of an earlier call would tell of another picture.
            sidecar_of(job.target).unlink(missing_ok=True)

    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_photo(job.target, after, metadata=settings.metadata, remark=REMARK, before_named=tell)
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
