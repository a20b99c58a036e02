"""The entries of a study that compares: what they are, what each is called, and its restored pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, DataError
from facesr.evaluation.request import is_archive
from facesr.evaluation.result import Subject
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import restored_by, restored_subject, submitted_subject
from facesr.methods.method import INTERPOLATIONS, PULSE
from facesr.methods.open import Asked, open_asked
from facesr.snapshots.shipped import PREFIX
from facesr.snapshots.snapshot import BEST


@dataclass(frozen=True)
class Entry:
    """What one point stands for.

    Attributes:
        name: its label, unlike all others.
        folder: restored pictures, or None for a method or an archive.
        method: as `method=` takes it, or None for a folder or an archive.
        archive: a submission archive as it was given, or None.
        share: of the second snapshot in the method's weights; None where nothing is interpolated.
        family: name of the curve that it lies on, or "".
    """

    name: str
    folder: Path | None = None
    method: str | None = None
    archive: str | None = None
    share: float | None = None
    family: str = ""

    def asked(self, settings: EvaluateSettings) -> Asked:
        """Returns the method that the entry asks for."""
        assert self.method is not None
        return Asked(self.method) if self.share is None else Asked(self.method, settings.interpolate_with, self.share)


def entries_of_study(settings: EvaluateSettings) -> list[Entry]:
    """Returns the entries that the settings ask for; synthetic pictures, without folders, are low-resolution too."""
    with_low = settings.low is not None or settings.high is None
    return entries_of(
        settings.entries, settings.method, settings.interpolate_with, settings.curve_weights, with_low, settings.study
    )


def entries_of(
    specs: Sequence[str],
    method: str | None,
    interpolate_with: str | None,
    shares: Sequence[float],
    with_low: bool,
    study: str | None = "tradeoff",
) -> list[Entry]:
    """Returns the entries of the study: bicubic, then `specs`, then the curve from `method` to `interpolate_with`.

    Args:
        specs: folders of restored pictures, submission archives, and methods.
        method: beginning of the curve, or None for no curve.
        interpolate_with: its end.
        shares: of `interpolate_with`, along the curve.
        with_low: whether methods have something to restore.
        study: its name.

    Raises:
        ConfigError: there is nothing to show, or a method and no low-resolution pictures.
        DataError: a folder is missing.
    """
    wanted = list(dict.fromkeys(["bicubic", *specs] if with_low else specs))
    entries: list[Entry] = []
    for spec in wanted:
        path = Path(spec).expanduser()
        if is_archive(spec):
            name = _unlike(path.stem, [entry.name for entry in entries])
            entries.append(Entry(name, archive=spec))
            continue
        is_snapshot = spec.startswith(PREFIX) or path.is_file() or (path / BEST).is_file()
        is_method = spec in (*INTERPOLATIONS, PULSE) or is_snapshot
        if not is_method and not path.is_dir():
            raise DataError(f"entries: {spec} is neither a folder of pictures nor an archive or a method; give one.")
        if is_method and not with_low:
            raise ConfigError(f"entries: {spec} is a method, which restores low=DIR; give that folder, too.")
        name = _unlike(_name_of(path, is_method), [entry.name for entry in entries])
        entries.append(Entry(name, method=spec) if is_method else Entry(name, folder=path))
    if method is not None and interpolate_with is not None:
        if not with_low:
            raise ConfigError("the curve from method to interpolate_with restores low=DIR; give that folder, too.")
        first, second = (_name_of(Path(spec).expanduser(), True) for spec in (method, interpolate_with))
        family = f"{first} to {second}"
        for share in shares:
            name = _unlike(f"{first}+{share:g}*{second}", [entry.name for entry in entries])
            entries.append(Entry(name, method=method, share=float(share), family=family))
    if not entries:
        raise ConfigError(f"study={study} has nothing to show; give entries=[DIR,...] or low=DIR.")
    return entries


def subject_of(entry: Entry, number: int, job: Job, low: Path | None) -> Subject:
    """Returns an entry's restored pictures, restored now where it is a method.

    Args:
        entry: of the study.
        number: its place among the entries.
        job: of the study.
        low: what methods restore.

    Raises:
        FaceSRError: something is not as it has to be.
    """
    settings = job.settings
    if entry.folder is not None:
        return restored_subject(entry.folder, settings)
    if entry.archive is not None:
        return submitted_subject(settings, entry.archive, job.archives[entry.archive])
    assert entry.method is not None and low is not None
    asked = entry.asked(settings)
    # An inner point of a curve is checked with its ends, and opened when it is its turn.
    method = job.methods.get(asked) or open_asked(settings, job.options.device, asked)
    beside = job.out / "details" / f"{number:02d}"
    return restored_by(method(), low, settings, job.options.device, beside)[0]


def _name_of(path: Path, is_method: bool) -> str:
    """Returns a label: a folder called as all its kind are, or a snapshot in a run, gets its parent's name."""
    if path.name.startswith(PREFIX):
        return path.name.removeprefix(PREFIX)
    if is_method and path.is_file():
        return path.parent.parent.name if path.parent.name == BEST.parent.name else path.stem
    resolved = path.resolve() if path.exists() else path
    common = ("restored", "pictures", "HR_images", "high")
    return resolved.parent.name if resolved.name in common and resolved.parent.name else resolved.name or str(path)


def _unlike(name: str, others: Sequence[str]) -> str:
    """Returns the name, numbered where it is taken."""
    number, found = 2, name
    while found in others:
        found, number = f"{name} ({number})", number + 1
    return found
