"""What a run yields: validation scores, pictures, snapshots, and the final table."""

import csv
import io
import math
from collections.abc import Sequence

import numpy as np

from facesr import dist
from facesr.energy import FILE as ENERGY
from facesr.energy import energy_bytes
from facesr.files import write_bytes
from facesr.image import to_float, to_uint8
from facesr.log import shown_kimg
from facesr.methods.restore import restore_batch
from facesr.snapshots.snapshot import Snapshot, remove_oldest_snapshots, write_snapshot
from facesr.training.board import as_columns
from facesr.training.run import Run
from facesr.training.validation import Scores

NUM_GRID_FACES = 12
# Scores of each validation picture at the end of a run; the column that ranks comes first.
FINAL_SCORES = "final_scores.csv"
# Columns of the final table after the judge's: heading, width, metric, and how its value is written.
PIXEL_COLUMNS = (("PSNR", 8, "psnr_rgb", "{:5.2f} dB"), ("SSIM", 6, "ssim", "{:6.4f}"))
GENERAL_COLUMNS = (("PSNR Y", 8, "psnr_y", "{:5.2f} dB"), *PIXEL_COLUMNS)


def validate(run: Run) -> Scores:
    """Returns the averaged generator's scores; writes them, pictures and a snapshot, and keeps the best one."""
    run.require_folder()
    average, clock = run.gan.average, run.clock
    scores = run.validator.score(lambda low: restore_batch(average, low), average)
    if not dist.is_main():
        return scores
    means, ranking = scores.means, run.validator.ranking
    figures = {f"validation/{name}": value for name, value in {**means, **worst_faces(scores)}.items()}
    run.board.scalars(clock.num_images, figures)
    tag = "is_per_face" if ranking.name.startswith("is/") else f"{ranking.name}_per_picture"
    run.board.histogram(clock.num_images, f"validation/{tag}", scores.per_face[ranking.name])
    run.stats.write(clock.num_images, figures)
    shown = slice(0, NUM_GRID_FACES)
    low = run.validator.pairs.low[shown]
    restored = to_uint8(restore_batch(average, to_float(low).to(run.device)))
    run.board.pictures(clock.num_images, as_columns(low, restored, run.validator.pairs.high[shown]))
    snapshot = Snapshot(
        state=dict(average.state_dict()),
        generator=dict(run.settings.generator),
        run=run.settings.name,
        kimg=clock.kimg,
        config_sha256=run.config_sha256,
        loss_judges=run.loss_judges,
        scores=means,
        sha256="",
        framing=run.framing,
    )
    folder = run.folder / "snapshots"
    write_snapshot(folder / f"{clock.num_images:09d}.safetensors", snapshot)
    merit = means[ranking.name] if ranking.higher_is_better else -means[ranking.name]
    better = merit > clock.best_score
    if better:
        clock.best_score = merit
        write_snapshot(folder / "best.safetensors", snapshot)
    remove_oldest_snapshots(folder, run.settings.num_snapshots_kept)
    run.console.say(f"{shown_kimg(clock.kimg):>9} kimg  validation  {score_line(means)}{'  (best)' if better else ''}")
    lost = lost_faces(run.validator.pairs.names, scores, run.bicubic)
    if lost:
        run.console.say(f"{'':9}       {lost}")
    return scores


def worst_faces(scores: Scores) -> dict[str, float]:
    """Returns what the means hide: the lowest PSNR and consistency of a picture, and how far a feature stands out.

    ``largest_feature`` is the largest of all pictures, ``largest_feature_ratio`` that one divided by the median
    picture's; 10 and more says that the network runs away on some picture (`facesr.models.features`).
    """
    lowest = {
        f"{name}_lowest": float(scores.per_face[name].min())
        for name in ("psnr_rgb", "consistency")
        if name in scores.per_face
    }
    largest = scores.largest_feature
    if not len(largest):
        return lowest
    ratio = float(largest.max() / max(float(np.median(largest)), 1e-12))
    return {**lowest, "largest_feature": float(largest.max()), "largest_feature_ratio": ratio}


def lost_faces(names: Sequence[str], scores: Scores, bicubic: Scores) -> str:
    """Returns one sentence about the pictures whose PSNR lies below bicubic interpolation's; empty if there is none."""
    behind = bicubic.per_face["psnr_rgb"] - scores.per_face["psnr_rgb"]
    number = int((behind > 0).sum())
    if not number:
        return ""
    worst = int(behind.argmax())
    return (
        f"worse than bicubic by PSNR: {number} of {len(names)} pictures, most of all {names[worst]!a} with "
        f"{scores.per_face['psnr_rgb'][worst]:.2f} dB, {behind[worst]:.2f} dB below it."
    )


def score_line(means: dict[str, float]) -> str:
    """Returns scores in one line."""
    units = {"psnr_rgb": " dB", "psnr_y": " dB", "consistency": " dB"}
    return "  ".join(
        f"{name} {value:.{2 if name in units else 4}f}{units.get(name, '')}" for name, value in means.items()
    )


def finish(run: Run, scores: Scores) -> None:
    """Prints the table bicubic against trained, and writes hparams with the final scores."""
    if not dist.is_main():
        return
    run.board.final(run.config, scores.means)
    write_bytes(run.folder / FINAL_SCORES, final_scores(run, scores).encode())
    write_bytes(run.folder / ENERGY, energy_bytes(run.energy))
    run.console.say(
        "\n" + final_table(run.validator.ranking.name, [("bicubic", run.bicubic), (run.settings.name, scores)])
    )
    energy = (
        ""
        if math.isnan(run.clock.joules)
        else f" and {run.clock.joules / 1000:.1f} kJ ({', '.join(run.meter.sources)})"
    )
    run.console.say(
        f"\n{shown_kimg(run.clock.kimg)} kimg in {run.clock.seconds / 60:.1f} minutes{energy}; "
        f"best snapshot: {run.folder}/snapshots/best.safetensors"
    )


def final_scores(run: Run, scores: Scores) -> str:
    """Returns final_scores.csv: picture, kimg, then every metric, the ranking one first."""
    ranking = run.validator.ranking.name
    names = [ranking, *(name for name in scores.per_face if name != ranking)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "kimg", *names])
    for place, picture in enumerate(run.validator.pairs.names):
        values = [f"{scores.per_face[name][place]:.6f}" for name in names]
        writer.writerow([picture, f"{run.clock.kimg:g}", *values])
    return text.getvalue()


def final_table(ranking: str, rows: Sequence[tuple[str, Scores]]) -> str:
    """Returns the table of a run's methods; ID similarity is a column where a judge ranks them."""
    judged = ranking.startswith("is/")
    columns = [("IS", 6, ranking, "{:6.4f}"), *PIXEL_COLUMNS] if judged else list(GENERAL_COLUMNS)
    per_picture, told = ("ms/face", f"   (IS by {ranking.split('/')[1]})") if judged else ("ms/picture", "")
    width = max(len(name) for name, _ in rows)
    last = max(len(per_picture), 8)
    head = "  ".join(f"{heading:>{size}}" for heading, size, _, _ in columns)
    lines = [f"{'':{width}}  {head}  {per_picture:>{last}}{told}"]
    for name, scores in rows:
        means = scores.means
        values = "  ".join(f"{form.format(means[metric]):>{size}}" for _, size, metric, form in columns)
        lines.append(f"{name:{width}}  {values}  {1000 * scores.restore_seconds:{last}.2f}")
    return "\n".join(lines)
