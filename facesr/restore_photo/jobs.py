"""The photographs and films of a call: where each goes, and which are refused by their heads."""

from dataclasses import dataclass, replace
from pathlib import Path

from facesr.clips.kind import film_format, films_below
from facesr.config import RestoreSettings
from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.files import is_inside
from facesr.names import folded, shown_path
from facesr.photos.decode import SUFFIXES, list_pictures
from facesr.photos.photo_file import check_photo, format_of, suffixes_of
from facesr.restore_photo.sidecar import sidecar_of
from facesr.restore_photo.wishes import film_target


@dataclass(frozen=True)
class Job:
    """One photograph or film: where it lies and where its restoration goes."""

    source: Path
    target: Path
    is_film: bool = False


def jobs_of(settings: RestoreSettings) -> list[Job]:
    """Returns the photographs to restore, and where each goes.

    Raises:
        FaceSRError: no input or no `out`, an input that is not there, or two that would go to one place.
    """
    if not settings.inputs:
        raise ConfigError("no photograph is given; name files or folders: facesr restore PHOTO out=DIR.")
    if not settings.out:
        raise ConfigError("out has no value; give out=DIR, the folder to write to.")
    out, jobs = out_of(settings), list[Job]()
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={shown_path(out)} is a file; give a folder.")
    for name in settings.inputs:
        source = Path(name).expanduser()
        if source.is_dir():
            if is_inside(out, source):
                raise ConfigError(f"out={shown_path(out)} lies inside {shown_path(source)}; give a folder elsewhere.")
            found = list_pictures(source) + films_below(source)
            if not found:
                raise DataError(f"{shown_path(source)} holds no picture; give a folder of photographs.")
            jobs += [Job(source / inner, out / inner) for inner in found]
        elif source.exists():
            jobs.append(Job(source, out / source.name))
        else:
            raise DataError(f"{shown_path(source)} does not exist; give a photograph or a folder of them.")
    taken: dict[str, Path] = {}
    jobs = [_named_by_content(job) for job in jobs]
    sources = {_identity(job.source): job.source for job in jobs}
    for job in jobs:
        lost = sources.get(_identity(job.target)) if job.target.exists() else None
        if lost is not None:
            raise ConfigError(f"{shown_path(lost)} would be written over; give another folder as out.")
        other = taken.setdefault(folded(str(job.target)), job.source)
        if other is not job.source:
            raise ConfigError(
                f"{shown_path(other)} and {shown_path(job.source)} would both become {shown_path(job.target)}; "
                "rename one of them, or restore them into two folders."
            )
    return jobs


def _identity(path: Path) -> tuple[int, int]:
    """Returns what two names of one file have in common."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _named_by_content(job: Job) -> Job:
    """Returns a job as its file's content has it: what a file is, and the name of what is written tells it."""
    film = film_format(job.source)
    if film is not None:
        return replace(job, target=film_target(film, job.target), is_film=True)
    format = format_of(job.source)
    if format is None or job.target.suffix.lower() in suffixes_of(format):
        return job
    suffix = suffixes_of(format)[0]
    # "IMG.2020" has no suffix of a picture: what stands behind its dot is part of its name.
    known = job.target.suffix.lower() in SUFFIXES
    return replace(
        job, target=job.target.with_suffix(suffix) if known else job.target.with_name(job.target.name + suffix)
    )


def refused(jobs: list[Job], settings: RestoreSettings) -> dict[Path, FaceSRError]:
    """Returns why each of these photographs cannot be restored, as far as names and first bytes tell, by its file."""
    found: dict[Path, FaceSRError] = {}
    for job in jobs:
        try:
            if job.target.exists() and not sidecar_of(job.target).exists() and not settings.overwrite:
                raise is_there_already(job.target)
            # One that was restored before is not asked again what it is: nothing needs to read it.
            if not job.is_film and not job.target.exists():
                check_photo(job.source)
        except FaceSRError as error:
            found[job.source] = error
    return found


def is_there_already(target: Path) -> ConfigError:
    """Returns what is said of a file that this command did not make and may not replace."""
    unknown = "" if sidecar_of(target).exists() else " without a JSON file that says how it was made"
    return ConfigError(f"{shown_path(target)} is there already{unknown}; give another out, or overwrite=true.")


def out_of(settings: RestoreSettings) -> Path:
    """Returns the folder to write to."""
    return Path(settings.out or "").expanduser()
