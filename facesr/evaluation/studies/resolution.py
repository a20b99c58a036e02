"""The self-similarity study: how much of a face's identity survives at a given size?

Each original is shrunk until its longer side has so many pixels, enlarged again, and compared with itself by every
judge. Both ways use the antialiased cubic interpolation of facesr.resample; the small and the enlarged picture are
rounded to grey levels. The curve stays high down to about 64 pixels and falls steeply below.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facesr import dist
from facesr.dist import together
from facesr.evaluation.bootstrap import Statistics, describe
from facesr.evaluation.out_folder import write_bytes, write_text
from facesr.evaluation.pairs import Pair, Pairs, batches, list_pictures, png_size
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import progress, say
from facesr.figures.charts import Axes, curves_png
from facesr.image import round_to_grey_levels, to_float
from facesr.metrics.identity_similarity import cosine, embed
from facesr.names import shown_path
from facesr.png import read_png
from facesr.protocols import Embedder
from facesr.resample import resize

# Source: the study that accompanied the ASC19 final.
SIZES = (256, 128, 64, 40, 32, 20, 16)


@dataclass(frozen=True)
class ResolutionCurve:
    """Self-similarity by size.

    Attributes:
        num_pictures: how many originals there were.
        statistics: judge -> size in pixels of the longer side, falling -> statistics over the originals that are
            at least that large.
    """

    num_pictures: int
    statistics: dict[str, dict[int, Statistics]]


def shrink_and_enlarge(batch: Tensor, size: int) -> Tensor:
    """Returns (N, 3, H, W) in [0, 1] after a stay at `size` pixels along the longer side."""
    height, width = batch.shape[-2:]
    factor = size / max(height, width)
    small = resize(batch, max(1, round(height * factor)), max(1, round(width * factor)))
    return round_to_grey_levels(resize(round_to_grey_levels(small), height, width))


def resolution_curve(
    high: Path,
    judges: Sequence[Embedder],
    device: torch.device,
    batch_size: int,
    num_resamples: int,
    seed: int,
    on_batch: Callable[[int], None] = lambda count: None,
) -> ResolutionCurve | None:
    """Returns the curve of each judge over the pictures of a folder on rank 0, None on the others.

    Raises:
        DataError: the folder is missing or empty.
        ImageError: a picture cannot be read.
    """
    pairs = Pairs(tuple(Pair(key, path, path, None, png_size(path)) for key, path in list_pictures(high).items()))
    mine = batches(pairs, batch_size)[dist.rank() :: dist.world_size()]

    def work() -> list[tuple[str, str, int, float]]:
        rows: list[tuple[str, str, int, float]] = []
        for batch in mine:
            pictures = to_float(np.stack([read_png(pair.high) for pair in batch])).to(device)
            sizes = [size for size in SIZES if size <= max(pictures.shape[-2:])]
            for judge in judges:
                original = embed(judge, pictures)
                for size in sizes:
                    values = cosine(embed(judge, shrink_and_enlarge(pictures, size)), original)
                    rows += [(judge.name, pair.id, size, float(v)) for pair, v in zip(batch, values, strict=True)]
            on_batch(len(batch))
        return rows

    gathered = together(work)
    if gathered is None:
        return None
    found: dict[tuple[str, int], list[float]] = {}
    for name, _, size, value in sorted(row for part in gathered for row in part):
        found.setdefault((name, size), []).append(value)
    statistics = {
        judge.name: {
            size: describe(np.array(found[judge.name, size]), num_resamples, seed)
            for size in SIZES
            if (judge.name, size) in found
        }
        for judge in judges
    }
    return ResolutionCurve(len(pairs.items), statistics)


def curve_csv(curve: ResolutionCurve) -> str:
    """Returns the curve as CSV, a line for each judge and size."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["judge", "size", "mean", "std", "ci95_low", "ci95_high", "count"])
    for judge, by_size in curve.statistics.items():
        for size, found in by_size.items():
            numbers = (found.mean, found.std, found.low, found.high)
            writer.writerow([judge, size, *(f"{number:.6f}" for number in numbers), found.count])
    return text.getvalue()


def curve_png(curve: ResolutionCurve) -> bytes:
    """Returns the curve as a PNG picture."""
    sizes = sizes_of(curve)
    axes = Axes(
        title=f"Self-similarity after shrinking, mean of {curve.num_pictures} faces",
        x_label="pixels along the longer side",
        y_label="cosine with the original",
        x_ticks=[str(size) for size in sizes],
    )
    missing = float("nan")
    return curves_png(
        axes,
        {
            judge: [by_size[size].mean if size in by_size else missing for size in sizes]
            for judge, by_size in curve.statistics.items()
        },
    )


def curve_table(curve: ResolutionCurve) -> str:
    """Returns the table for the console: a line for each size, a column for each judge."""
    rows = [["pixels", *curve.statistics]]
    for size in sizes_of(curve):
        cells = [by_size.get(size) for by_size in curve.statistics.values()]
        rows.append([str(size), *("" if cell is None else f"{cell.mean:.4f}" for cell in cells)])
    return "\n".join(aligned(rows))


def sizes_of(curve: ResolutionCurve) -> list[int]:
    """Returns the sizes that at least one picture had, falling."""
    return [size for size in SIZES if any(size in by_size for by_size in curve.statistics.values())]


def run(job: Job) -> None:
    """Runs the study, writes its files and prints its table."""
    options, high = job.options, Path(job.settings.high or "")
    with progress("study", high) as advance:
        curve = resolution_curve(
            high, job.judges, options.device, options.batch_size, options.num_resamples, options.seed, advance
        )
    if curve is not None:
        write_resolution(job.out, curve)
        say(f"cosine with the original after shrinking, {curve.num_pictures} faces\n{curve_table(curve)}")
        say(f"curve: {shown_path(job.out / 'resolution.png')}")


def write_resolution(out: Path, curve: ResolutionCurve) -> None:
    """Writes resolution.csv and resolution.png.

    Raises:
        DataError: the folder cannot be written.
    """
    write_text(out / "resolution.csv", curve_csv(curve))
    write_bytes(out / "resolution.png", curve_png(curve))
