"""Subjects: what is scored, restored first where it is a method, and the pictures that it is scored against."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from facesr import dist
from facesr.config import EvaluateSettings
from facesr.data.export import export_dead_leaves, export_synthetic
from facesr.energy import FILE as ENERGY
from facesr.energy import EnergyLog, read_energy
from facesr.evaluation.energy import measured_facts, power_facts
from facesr.evaluation.result import Subject
from facesr.log import Console, Progress
from facesr.methods.folder import PICTURES, RestoreOptions, read_restored, restore_folder
from facesr.methods.guard_facts import guard_by_id
from facesr.methods.low import LowPictures
from facesr.methods.method import Method
from facesr.methods.record import Restoration
from facesr.snapshots.interpolation_parts import InterpolationParts
from facesr.submission.verify import VerifiedSubmission
from facesr.tiles import Tiles


def pairs_to_score(settings: EvaluateSettings, out: Path) -> tuple[Path, Path | None]:
    """Returns (high, low); without them synthetic faces, or general pictures where a protocol wants those, below `out`.

    They are those that train.py validates on, or like them.
    """
    if settings.high is not None:
        return Path(settings.high), Path(settings.low) if settings.low else None
    general = settings.protocol.perceptual is not None
    folder, kind = (out / "pictures", "pictures") if general else (out / "faces", "faces")
    say(f"no folders were given: synthetic {kind} are scored (see --help for high= and low=)")
    export = export_dead_leaves if general else export_synthetic
    dist.together(lambda: export(folder) if dist.is_main() else None)
    return folder / "high", folder / "low"


def restored_by(
    method: Method,
    low: Path,
    settings: EvaluateSettings,
    device: torch.device,
    beside: Path,
    on_batch: Callable[[int], None] = lambda count: None,
) -> tuple[Subject, Restoration]:
    """Returns a method's pictures of `low` as a subject, restored now or found restored, and their record.

    Args:
        method: what restores.
        low: folder of low-resolution pictures.
        settings: where restored folders are kept, and how to restore.
        device: it runs there.
        beside: folder for what the method has to tell beside its pictures.
        on_batch: called after each batch with the number of its pictures.

    Raises:
        FaceSRError: a picture cannot be read or restored, or a folder cannot be written.
    """
    pictures = dist.once(lambda: LowPictures.open(low))
    options = RestoreOptions(
        device, settings.batch_size, settings.self_ensemble, Tiles(settings.tile_px, settings.tile_overlap_px)
    )
    kept_in = Path(settings.restored_dir).expanduser()
    restored = restore_folder(method, pictures, options, kept_in, reuse=settings.reuse, on_batch=on_batch)
    if restored.reused:
        say(f"restored before: {restored.path} (reuse=false restores again)")
    if method.epilogue is not None:
        say(method.epilogue(pictures.by_id, beside))
    facts: dict[str, Any] = {
        "path": "" if method.path is None else str(method.path),
        "pictures": str(restored.path / PICTURES),
        "weights_sha256": method.weights_sha256,
        "config_sha256": method.config_sha256,
        "kimg": method.kimg,
        "self_ensemble": settings.self_ensemble,
    }
    if method.interpolation is not None:
        facts |= {"interpolate_with": str(method.interpolation.path), **interpolation_facts(method.interpolation.parts)}
    energy, facts_of_energy = _energy(restored.path, settings)
    facts |= facts_of_energy
    guard = guard_by_id(restored.restoration.guard)
    subject = Subject(
        "method", method.name, restored.path / PICTURES, method.loss_judges, facts, guard=guard, energy=energy
    )
    return subject, restored.restoration


def _energy(folder: Path, settings: EvaluateSettings) -> tuple[EnergyLog | None, dict[str, Any]]:
    """Returns the energy that a restored folder took, and its facts."""
    energy = dist.once(lambda: read_energy(folder / ENERGY))
    return energy, measured_facts(energy, settings.power_limit_watts)


def submitted_subject(settings: EvaluateSettings, archive: str, submission: VerifiedSubmission) -> Subject:
    """Returns a verified submission as a subject; what its manifest says are claims."""
    made = submission.manifest.restoration
    facts = {
        "team": submission.manifest.team,
        "archive": archive,
        "archive_sha256": submission.sha256,
        "model": made.model,
        "weights_sha256": made.weights_sha256,
        "config_sha256": made.config_sha256,
        "kimg": made.kimg,
        "self_ensemble": made.flip_ensemble,
        "commit": made.commit,
        **interpolation_facts(made.blend),
        **power_facts(made.energy_joules, made.seconds, settings.power_limit_watts),
    }
    name, guard = submission.manifest.team, guard_by_id(made.guard)
    return Subject("submission", name, submission.folder, made.loss_judges, facts, is_claim=True, guard=guard)


def interpolation_facts(blend: InterpolationParts | None) -> dict[str, Any]:
    """Returns what summary.json says of an interpolation; nothing for None."""
    return (
        {} if blend is None else {"interpolation_weight": blend.weight, "interpolation_sha256": blend.weights_sha256[1]}
    )


def restored_subject(folder: Path, settings: EvaluateSettings) -> Subject:
    """Returns a folder of restored pictures as a subject; one that facesr restored has its record beside it."""
    record = read_restored(folder.parent) if folder.name == PICTURES else None
    if record is None:
        limit = measured_facts(None, settings.power_limit_watts)
        return Subject("restored", folder.name, folder, None, {"path": str(folder), **limit})
    energy, facts_of_energy = _energy(folder.parent, settings)
    facts = {"path": str(folder), "weights_sha256": record.weights_sha256, "kimg": record.kimg, **facts_of_energy}
    guard = guard_by_id(record.guard)
    return Subject("restored", record.model, folder, record.loss_judges, facts, guard=guard, energy=energy)


@contextmanager
def progress(what: str, folder: Path) -> Iterator[Callable[[int], None]]:
    """Yields a function that moves a progress bar on by so many pictures of this rank."""
    total = sum(1 for _ in folder.glob("*.png")) if folder.is_dir() else 0
    bar = Progress(total, 0, unit=f" pictures, {what}")
    try:
        yield lambda count: bar.advance(min(count * dist.world_size(), total))
    finally:
        bar.close()


def say(text: str) -> None:
    """Prints on rank 0."""
    Console().say(text)
