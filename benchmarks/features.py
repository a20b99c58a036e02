"""Whether a method's features run away: the largest feature of each picture, on faces and on inputs unlike any face.

    uv run benchmarks/features.py METHOD [METHOD ...] --low DIR [DIR ...]

METHOD is what `method=` takes, without interpolations. Each row is one kind of input: the folders of low-resolution
PNG files, the first of them with saturated colours, with coloured light and with noise of +-20 grey levels, uniform
noise, flat colours, and dots. Columns: the median picture's largest feature, the largest of all, their ratio to the
median picture of the first folder (10 and more is a runaway), and the picture that has it; then the lowest consistency
with the input of all pictures in dB.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facesr.dist import choose_device
from facesr.errors import exit_code_of
from facesr.image import luma, round_to_grey_levels, to_float, to_uint8
from facesr.methods.open import open_method
from facesr.methods.restore import restore_batch
from facesr.metrics.consistency import consistency
from facesr.models.features import recorded
from facesr.png import list_png, stack_pictures

BATCH_SIZE = 50
LEVELS = 20.0 / 255.0
Pictures = NDArray[np.uint8]


def unlike_faces(low: Pictures) -> dict[str, Pictures]:
    """Returns kinds of hard inputs of the size of `low` (N, h, w, 3), from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    faces = to_float(low)
    grey = luma(faces)
    light = torch.rand(len(faces), 3, 1, 1, generator=generator) * 1.5 + 0.25
    noise = (torch.rand(faces.shape, generator=generator) * 2.0 - 1.0) * LEVELS
    flat = torch.rand(len(faces), 3, 1, 1, generator=generator).round(decimals=1).expand_as(faces)
    dots = torch.zeros_like(faces).masked_fill_(torch.rand(faces[:, :1].shape, generator=generator) < 0.05, 1.0)
    kinds = {
        "saturation x 4": grey + 4.0 * (faces - grey),
        "coloured light": faces * light,
        "noise of +-20 levels": faces + noise,
        "uniform noise": torch.rand(faces.shape, generator=generator),
        "flat colours": flat,
        "pure colours": flat.round(),
        "white dots on black": dots,
    }
    return {name: to_uint8(round_to_grey_levels(pictures)) for name, pictures in kinds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--low", type=Path, nargs="+", required=True)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    sets = {str(folder): list_png(folder) for folder in options.low}
    inputs = {name: (list(files), stack_pictures(files.values())) for name, files in sets.items()}
    first = next(iter(inputs.values()))
    inputs |= {name: (first[0], pictures) for name, pictures in unlike_faces(first[1]).items()}
    for spec in options.methods:
        network = open_method(spec, device).generator
        print(f"{spec:32} {'median':>8} {'largest':>10} {'ratio':>8}  {'picture':12} {'consistency':>12}")
        median = 0.0
        for name, (names, low) in inputs.items():
            found, lowest = [], float("inf")
            for start in range(0, len(low), BATCH_SIZE):
                seen = to_float(low[start : start + BATCH_SIZE]).to(device)
                with recorded(network) as features:
                    restored = round_to_grey_levels(restore_batch(network, seen))
                found.append(features.per_picture())
                lowest = min(lowest, float(consistency(restored, seen).min()))
            largest = torch.cat(found)
            median = median or float(largest.median())
            worst = int(largest.argmax())
            print(
                f"{name[-32:]:32} {float(largest.median()):8.2f} {float(largest.max()):10.2f} "
                f"{float(largest.max()) / median:8.2f}  {names[worst]:12} {lowest:12.2f}",
                flush=True,
            )


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
