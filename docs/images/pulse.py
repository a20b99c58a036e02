"""Draws docs/images/pulse.jpg: portraits that a generator invented, shrunk to 16x16, and what the search found.

    uv run --extra portraits docs/images/pulse.py portraits FOLDER [--seeds 3 8 21]
    uv run --extra portraits facesr evaluate method=pulse generator=mobilestylegan low=FOLDER/low out=FOUND
    uv run --extra portraits docs/images/pulse.py draw FOLDER FOUND [--judges builtin ...]

The first writes FOLDER/high, portraits of 1024x1024, and FOLDER/low, what the search's operator makes of them.
The last also prints how like each found portrait is to the original, by judges. Nobody in any of them is real. Styles
are drawn towards their mean by 0.6 (the truncation trick of StyleGAN, arXiv 1812.04948, appendix B).
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import facesr
from facesr.build import build, load_group
from facesr.image import to_float, to_uint8
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.portrait_set import Drawn, mean_style, styles
from facesr.methods.pulse.portraits import portrait_remark
from facesr.places import Place
from facesr.png import read_png, write_png

TRUNCATION, LOW_SIDE = 0.6, 16
SIDE, GAP, HEADER = 256, 8, 28
LABELS = ("input 16x16", "found, 1024x1024", "original (invented)")


def styles_of(generator: torch.nn.Module, seeds: list[int]) -> Tensor:
    """Returns the truncated styles (N, L, D) of the portraits with those seeds."""
    network = generator.network
    drawn = Drawn(len(seeds), truncation=(TRUNCATION, TRUNCATION))
    style = styles(network, drawn, seeds, mean_style(network, torch.device("cpu")))
    return style[:, None].expand(-1, generator.num_latents, -1)


@torch.no_grad()
def write_portraits(folder: Path, seeds: list[int]) -> None:
    """Writes both folders."""
    generator = build(load_group("latent_generator", "mobilestylegan", []), Place.LATENT_GENERATOR).eval()
    operator = operator_for("square", generator.size, (LOW_SIDE, LOW_SIDE))
    for name in ("high", "low"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed, style in zip(seeds, styles_of(generator, seeds), strict=True):
        picture = to_uint8(generator.synthesise(style[None], [one[None] for one in generator.noise_constants]))
        remark = portrait_remark("mobilestylegan", seed)
        write_png(folder / "high" / f"{seed}.png", picture[0], remark)
        write_png(folder / "low" / f"{seed}.png", to_uint8(operator.downscale(to_float(picture)))[0], remark)


def draw(folder: Path, found: Path, judges: list[str]) -> None:
    """Writes pulse.jpg beside this file, and prints a line for each portrait."""
    with (found / "pulse_status.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["id"]))
    sheet = np.full((HEADER + len(rows) * (SIDE + GAP), 3 * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for column, label in enumerate(LABELS):
        place = (column * (SIDE + GAP) + 2, 20)
        cv2.putText(sheet, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    for number, row in enumerate(rows):
        names = (folder / "low", found / "generated", folder / "high")
        pictures = [read_png(name / f"{row['id']}.png") for name in names]
        for column, picture in enumerate(pictures):
            left, top = column * (SIDE + GAP), HEADER + number * (SIDE + GAP)
            way = cv2.INTER_NEAREST if column == 0 else cv2.INTER_AREA
            sheet[top : top + SIDE, left : left + SIDE] = cv2.resize(picture, (SIDE, SIDE), interpolation=way)
        scores = facesr.score(pictures[1][None], pictures[2][None], judges=judges, device="cpu")
        told = ", ".join(f"{name} {values[0]:.3f}" for name, values in scores.items() if name.startswith("is/"))
        print(f"{row['id']}: {row['consistency_db']} dB, found {row['converged']}, {row['steps']} steps; {told}")
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    cv2.imwrite(str(Path(__file__).with_name("pulse.jpg")), sheet[..., ::-1], quality)


def main() -> None:
    """Reads what is asked for."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("portraits")
    making.add_argument("folder", type=Path)
    making.add_argument("--seeds", type=int, nargs="+", default=[3, 8, 21])
    drawing = commands.add_parser("draw")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("found", type=Path)
    drawing.add_argument("--judges", nargs="*", default=["builtin"])
    chosen = parser.parse_args()
    if chosen.command == "portraits":
        write_portraits(chosen.folder, chosen.seeds)
    else:
        draw(chosen.folder, chosen.found, chosen.judges)


if __name__ == "__main__":
    main()
