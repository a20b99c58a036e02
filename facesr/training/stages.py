"""Where the stages of a recipe stand, by their folders alone, and which of them are no longer what they were.

Nothing is written or loaded here. A stage that was trained as a run of its own counts as one of the recipe.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from facesr import dist
from facesr.errors import CheckpointError, ConfigError, FaceSRError
from facesr.snapshots.rules import read_about
from facesr.snapshots.shipped import start_files
from facesr.snapshots.snapshot import BEST, digests_beside, newest_clock
from facesr.training.outcome import FINAL_SCORES
from facesr.training.recipe import Recipe, Stage
from facesr.training.rundir import (
    START,
    conflicting_keys,
    earlier_config,
    named,
    plain_config,
    recorded_start,
    run_folder,
)
from facesr.weights import sha256_of


@dataclass(frozen=True)
class Standing:
    """How far a stage is.

    Attributes:
        num_images: seen at its newest whole state, 0 where it has not begun.
        finished: whether nothing is left to do.
        start_known: whether its folder says which snapshot it started from, or it started from none.
        seconds: that its training took so far; None where stats.jsonl does not say.
    """

    num_images: int
    finished: bool
    start_known: bool
    seconds: float | None


def standings(recipe: Recipe) -> list[Standing]:
    """Returns on every rank how far each stage is, by the folders that rank 0 sees.

    Raises:
        FaceSRError: a stage was changed since it was trained, or one before it was, or a file of it is damaged; the
            stage is named.
    """

    def look() -> list[Standing]:
        found: list[Standing] = []
        for stage in recipe.stages:
            before = recipe.stages[stage.number - 2] if found else None
            try:
                _check_configuration(stage)
                standing = _standing_of(stage)
                if standing.num_images:
                    if before is not None and not found[-1].finished:
                        raise ConfigError(_out_of_order(stage, before))
                    _check_start(stage, recorded_start(run_folder(stage.settings)))
                if standing.finished:
                    _check_best(run_folder(stage.settings))
            except FaceSRError as error:
                raise type(error)(f"{stage.label}: {error}") from error
            found.append(standing)
        return found

    return dist.once(look)


def _check_configuration(stage: Stage) -> None:
    folder = run_folder(stage.settings)
    different = conflicting_keys(folder, earlier_config(folder), plain_config(stage.settings))
    if different:
        raise ConfigError(
            f"{folder} was trained with another configuration, which differs in {named(different)}; give it those "
            f"values again (stages.{stage.number}.KEY=VALUE), or {_anew(stage)}"
        )


def _anew(stage: Stage) -> str:
    later = " and those of the stages after it" if stage.number < stage.count else ""
    return f"remove {run_folder(stage.settings)}{later} to train it anew."


def _standing_of(stage: Stage) -> Standing:
    folder, settings = run_folder(stage.settings), stage.settings
    num_images = newest_clock(folder / "state")
    finished = num_images >= settings.duration_kimg * 1000 and _scored_at(folder) == f"{num_images / 1000:g}"
    known = settings.start_from is None or recorded_start(folder) is not None
    return Standing(num_images, finished, known, _seconds_of(folder))


def _scored_at(folder: Path) -> str:
    """Returns the clock of a run's final scores, which are the last thing that it writes; empty without."""
    try:
        lines = (folder / FINAL_SCORES).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return lines[1].split(",")[1] if len(lines) > 1 and lines[1].count(",") else ""


def _seconds_of(folder: Path) -> float | None:
    try:
        lines = (folder / "stats.jsonl").read_text(encoding="utf-8-sig").splitlines()
        return next(
            (float(told["seconds"]) for line in reversed(lines) if "seconds" in (told := json.loads(line))), None
        )
    except (OSError, ValueError, TypeError):
        return None


def _out_of_order(stage: Stage, before: Stage) -> str:
    earlier = run_folder(before.settings)
    return (
        f"{run_folder(stage.settings)} has begun, but {before.label}, which it starts from, is not finished in "
        f"{earlier}; put that folder back as it was, with the same duration_kimg, or {_anew(stage)}"
    )


def _check_start(stage: Stage, recorded: tuple[str, ...] | None) -> None:
    """Raises where a stage that has begun started from another file than the one that is there now."""
    if recorded is None or stage.settings.start_from is None:
        return
    files = start_files(stage.settings.start_from)
    if len(files) != len(recorded):
        raise CheckpointError(f"it started from {len(recorded)} snapshots, not {len(files)}; put start_from= back.")
    for file, digest in zip(files, recorded, strict=True):
        if not file.is_file():  # of the first stage; if it is still needed, the run itself says so
            continue
        now = sha256_of(file)
        if now != digest:
            raise CheckpointError(
                f"it started from another {file} than the one that is there now (sha256 {digest[:12]}... in "
                f"{run_folder(stage.settings) / START}, {now[:12]}... now); put that file back, or {_anew(stage)}"
            )


def _check_best(folder: Path) -> None:
    """Raises CheckpointError where the best snapshot of a finished stage is missing or damaged."""
    best = folder / BEST
    if best.is_file():
        if sha256_of(best) in (digests_beside(best) or (sha256_of(best),)):
            read_about(best)
            return
        what = f"{best} is damaged: its sha256 is not the one beside it"
    else:
        what = f"{best} is missing"
    wanted = digests_beside(best)
    twin = next((one for one in sorted(best.parent.glob("0*.safetensors")) if sha256_of(one) in wanted), None)
    advice = f"copy {twin} over it, which is the same snapshot" if twin else "put a copy of it back"
    raise CheckpointError(f"{what}; {advice}, or remove {folder} and the folders of the stages after it to train anew.")


def best_scores(stage: Stage) -> dict[str, float]:
    """Returns what a finished stage's best snapshot says of itself: ID similarity, if any, and PSNR."""
    scores: dict[str, float] = read_about(run_folder(stage.settings) / BEST)["scores"]
    return {name: value for name, value in scores.items() if name.startswith("is/") or name == "psnr_rgb"}
