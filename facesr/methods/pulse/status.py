"""What a search leaves beside the restored pictures: pulse_status.csv, and the generator's own pictures.

<folder>/pulse_status.csv       a line a face: how well it fits, whether it was found, steps and seed
<folder>/generated/<id>.png     the generator's picture, at the generator's size
<folder>/downscaled/<id>.png    its downscaling, of the same step
<folder>/spread/<id>_mean.png, <id>_std.png    with pulse.spread: over the seeds that were found within eps, the mean
                                picture, and the standard deviation in grey levels, one channel
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr import dist
from facesr.errors import DataError
from facesr.files import make_empty, whole_file
from facesr.methods.pulse.search import Found
from facesr.png import read_png, write_png

STATUS = "pulse_status.csv"
GENERATED, DOWNSCALED, SPREAD = "generated", "downscaled", "spread"
HEADER = ("id", "best_l2", "consistency_db", "converged", "steps", "best_step", "seed", "seeds_found", "mean_std")

Row = tuple[str, ...]


# What was found for an input, uint8 (h, w, 3); None where nothing is kept.
ResultOf = Callable[[NDArray[np.uint8]], Found | None]


def tell(result_of: ResultOf, remark: str, low: Mapping[str, Path], folder: Path) -> str:
    """Writes the generator's pictures and pulse_status.csv, and returns a sentence; every rank has to call it.

    Args:
        result_of: see `ResultOf`, after restoring.
        remark: of the pictures.
        low: id -> file of every low-resolution picture.
        folder: where generated/, downscaled/ and the status go; older pictures there are removed.

    Raises:
        DataError: what was found for an input is no longer kept, and nothing is removed then; or a file cannot be read
            or written.
    """
    missing = unknown(result_of, low)
    if missing:
        raise DataError(
            f"what was found for {len(missing)} of {len(low)} faces is no longer kept, so {folder / STATUS} is left as "
            "it is; run the same command again, it searches them again."
        )
    rows = dist.together(lambda: write_pictures(result_of, remark, low, folder))
    return "" if rows is None else write_status(folder, [row for part in rows for row in part])


def unknown(result_of: ResultOf, low: Mapping[str, Path]) -> list[str]:
    """Returns the ids of which no rank knows what was found, the same on every rank; every rank has to call it.

    Args:
        result_of: see `ResultOf`.
        low: id -> file of every low-resolution picture.

    Raises:
        DataError: a file cannot be read.
    """
    lacking = dist.together(lambda: [key for key, path in low.items() if result_of(read_png(path)) is None])
    everywhere = None if lacking is None else [key for key in lacking[0] if all(key in part for part in lacking[1:])]
    missing: list[str] = dist.from_main(everywhere)
    return missing


def write_pictures(result_of: ResultOf, remark: str, low: Mapping[str, Path], folder: Path) -> list[Row]:
    """Writes the generator's pictures of the faces that this rank knows, and returns their status rows; see `tell`.

    Raises:
        DataError: a file cannot be read or written.
    """
    if dist.is_main():
        for name in (GENERATED, DOWNSCALED):
            make_empty(folder / name)
        _remove_spread(folder)
    dist.barrier()
    rows: list[Row] = []
    for key, path in low.items():
        found = result_of(read_png(path))
        if found is not None:
            for path_of_picture, picture in _pictures(folder, key, found):
                # Ranks that share a cache all know every face, and one of them writes it.
                if not path_of_picture.exists():
                    write_png(path_of_picture, picture, remark)
            rows.append(_row(key, found))
    return rows


def _remove_spread(folder: Path) -> None:
    """Removes spread/ with what an earlier search left; a search without spread makes no such folder."""
    if (folder / SPREAD).is_dir():
        make_empty(folder / SPREAD)
        (folder / SPREAD).rmdir()


def _pictures(folder: Path, key: str, found: Found) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    yield folder / GENERATED / f"{key}.png", found.picture
    yield folder / DOWNSCALED / f"{key}.png", found.downscaled
    if found.mean is not None and found.deviation is not None:
        (folder / SPREAD).mkdir(exist_ok=True)
        yield folder / SPREAD / f"{key}_mean.png", found.mean
        yield folder / SPREAD / f"{key}_std.png", np.repeat(found.deviation[..., None], 3, axis=2)


def _row(key: str, found: Found) -> Row:
    """Returns a line of the status file; the consistency is the PSNR of best_l2, before rounding to grey levels."""
    decibels = 100.0 if found.best_l2 <= 1e-10 else -10.0 * math.log10(found.best_l2)
    counts = (str(found.num_steps), str(found.best_step), str(found.seed), str(found.num_alike or ""))
    spread = "" if found.deviation is None else f"{found.deviation.mean(dtype=np.float64):.2f}"
    return (key, f"{found.best_l2:.6e}", f"{decibels:.2f}", "yes" if found.converged else "no", *counts, spread)


def write_status(folder: Path, rows: Sequence[Row]) -> str:
    """Writes pulse_status.csv, a line a face sorted by id, and returns a sentence about it.

    Raises:
        DataError: it cannot be written.
    """
    # Ranks that share a cache all know every face.
    ordered = sorted(set(rows))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(ordered)
    path = folder / STATUS
    try:
        with whole_file(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error
    num_found = sum(row[3] == "yes" for row in ordered)
    rest = "" if num_found == len(ordered) else ", the others are the closest"
    return f"pulse: {num_found} of {len(ordered)} faces were found within eps{rest}: {path}"
