"""What a search leaves beside the restored pictures: pulse_status.csv, and the generator's own pictures.

<folder>/pulse_status.csv       a line a face: how well it fits, whether it was found, steps and seed
<folder>/generated/<id>.png     the generator's picture, at the generator's size
<folder>/downscaled/<id>.png    its downscaling, of the same step
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from facesr import dist
from facesr.errors import DataError
from facesr.files import make_empty, whole_file
from facesr.latent.pulse import Pulse
from facesr.latent.search import Found
from facesr.png import read_png, write_png
from facesr.restoration import Method

STATUS = "pulse_status.csv"
GENERATED, DOWNSCALED = "generated", "downscaled"
HEADER = ("id", "best_l2", "consistency_db", "converged", "steps", "best_step", "seed")

Row = tuple[str, str, str, str, str, str, str]


def write_pictures(method: Method, low: Mapping[str, Path], folder: Path, device: torch.device) -> list[Row]:
    """Writes the generator's pictures of the faces that this rank knows, and returns their status rows.

    Args:
        method: method=pulse, after restoring.
        low: id -> file of every low-resolution picture.
        folder: where generated/ and downscaled/ go; older pictures there are removed.
        device: that it ran on.

    Raises:
        DataError: a file cannot be read or written.
    """
    assert isinstance(method.generator, Pulse)
    if dist.is_main():
        for name in (GENERATED, DOWNSCALED):
            make_empty(folder / name)
    dist.barrier()
    rows: list[Row] = []
    for key, path in low.items():
        found = method.generator.result_of(read_png(path), device)
        if found is not None:
            for name, picture in ((GENERATED, found.picture), (DOWNSCALED, found.downscaled)):
                # Ranks that share a cache all know every face, and one of them writes it.
                if not (folder / name / f"{key}.png").exists():
                    write_png(folder / name / f"{key}.png", picture, method.remark)
            rows.append(_row(key, found))
    return rows


def _row(key: str, found: Found) -> Row:
    """Returns a line of the status file; the consistency is the PSNR of best_l2, before rounding to grey levels."""
    decibels = 100.0 if found.best_l2 <= 1e-10 else -10.0 * math.log10(found.best_l2)
    counts = (str(found.num_steps), str(found.best_step), str(found.seed))
    return (key, f"{found.best_l2:.6e}", f"{decibels:.2f}", "yes" if found.converged else "no", *counts)


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
    return f"pulse: {num_found} of {len(ordered)} faces were found within eps, the others are the closest: {path}"
