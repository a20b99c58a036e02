"""What a run yields: validation scores, pictures, snapshots, and the final table."""

from facesr import dist
from facesr.checkpoint import Snapshot, remove_oldest_snapshots, write_snapshot
from facesr.image import to_float, to_uint8
from facesr.restoration import restore_batch
from facesr.training.board import as_columns
from facesr.training.run import Run
from facesr.training.validation import Scores

NUM_GRID_FACES = 12


def validate(run: Run) -> Scores:
    """Returns the averaged generator's scores; writes them, pictures and a snapshot, and keeps the best one by IS."""
    average, clock = run.players.average, run.clock
    scores = run.validator.score(lambda low: restore_batch(average, low))
    if not dist.is_main():
        return scores
    means, ranking = scores.means, run.validator.ranking_metric
    figures = {f"validation/{name}": value for name, value in means.items()}
    run.board.scalars(clock.num_images, figures)
    run.board.histogram(clock.num_images, "validation/is_per_face", scores.per_face[ranking])
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
    )
    folder = run.folder / "snapshots"
    write_snapshot(folder / f"{clock.num_images:09d}.safetensors", snapshot)
    better = means[ranking] > clock.best_score
    if better:
        clock.best_score = means[ranking]
        write_snapshot(folder / "best.safetensors", snapshot)
    remove_oldest_snapshots(folder, run.settings.num_snapshots_kept)
    run.console.say(f"{clock.kimg:9.1f} kimg  validation  {score_line(means)}{'  (best)' if better else ''}")
    return scores


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
    ranking = run.validator.ranking_metric
    rows = [("bicubic", run.bicubic), (run.settings.name, scores)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'IS':>6}  {'PSNR':>8}  {'SSIM':>6}  {'ms/face':>8}   (IS by {ranking.split('/')[1]})"]
    for name, row in rows:
        means = row.means
        lines.append(
            f"{name:{width}}  {means[ranking]:6.4f}  {means['psnr_rgb']:5.2f} dB  {means['ssim']:6.4f}  "
            f"{1000 * row.restore_seconds:8.2f}"
        )
    run.console.say("\n" + "\n".join(lines))
    minutes = run.clock.seconds / 60
    run.console.say(
        f"\n{run.clock.kimg:.1f} kimg in {minutes:.1f} minutes; best snapshot: {run.folder}/snapshots/best.safetensors"
    )
