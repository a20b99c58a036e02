"""How the cost of a generator's training step grows: by network, width, batch and picture, against the matrix product.

    uv run benchmarks/scaling.py [--rounds 3] [--seconds 2] [--precision bf16] [--compile]

Each row is one generator with the pixel loss alone. Its floating-point operations are counted (two for each
multiply-accumulate; a step is three forward passes: forward, and backward to features and to weights) and divided by
the time; the last columns compare that rate with what a square matrix product of the same precision reaches on the same
machine. Rows and the product take turns, so that a busy machine slows all of them, and medians count.
"""

import argparse
import dataclasses
import itertools
import statistics
from collections.abc import Callable, Iterator

import torch
from timing import seconds_of
from torch import Tensor

from facesr.build import load_group, load_settings
from facesr.config import TrainSettings
from facesr.dist import choose_device
from facesr.models.facesr import count_macs
from facesr.training.run import build_players, choose_precision
from facesr.training.step import train_step

SCALE = 4
FACE = (28, 24)  # height, width of the competition's inputs
MATRIX = 2048
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Generator and changed keys, faces in a batch, times the competition's sides.
ROWS = (
    ("facesr", {}, 4, 1),
    ("facesr", {}, 16, 1),
    ("facesr", {}, 64, 1),
    ("facesr", {}, 4, 2),
    ("facesr", {"channels": 64}, 16, 1),
    ("facesr", {"channels": 128}, 16, 1),
    ("facesr", {"channels": 192}, 16, 1),
    ("srresnet", {}, 16, 1),
    ("rrdbnet", {}, 4, 1),
)


def step_of(
    base: TrainSettings, name: str, changes: dict[str, int], num_faces: int, times: int, device: torch.device
) -> tuple[Callable[[], object], float]:
    """Returns a function that makes one step, and the floating-point operations of that step."""
    node = {**load_group("generator", name), **changes}
    height, width = FACE[0] * times, FACE[1] * times
    players = build_players(dataclasses.replace(base, generator=node), device)
    faces: Tensor = torch.rand(num_faces, 3, SCALE * height, SCALE * width)
    faces = faces.to(device, memory_format=torch.channels_last)
    # Counted on the CPU, where a hook on every layer is allowed.
    with torch.device("cpu"):
        macs = count_macs(players.average.cpu(), height, width)
    return lambda: train_step(players, [faces], kimg=1.0), 3 * 2.0 * macs * num_faces


def product_of(precision: str, device: torch.device) -> tuple[Callable[[], object], float]:
    """Returns a function that multiplies two matrices, and its floating-point operations."""
    first, second = (torch.rand(MATRIX, MATRIX, device=device).to(DTYPES[precision]) for _ in range(2))
    return lambda: first @ second, 2.0 * MATRIX**3


def lines(given: argparse.Namespace) -> Iterator[str]:
    """Yields the table, measured before the first row is told."""
    device = choose_device(given.device)
    precision = choose_precision(given.precision, device)
    base = load_settings("train", TrainSettings, ["experiment=asc19_psnr"])
    base = dataclasses.replace(base, start_from=None, precision=precision, compile=given.compile)
    product, product_operations = product_of(precision, device)
    works = [(product, product_operations), *(step_of(base, *row, device) for row in ROWS)]
    times: list[list[float]] = [[] for _ in works]
    for _, (place, (work, _)) in itertools.product(range(given.rounds), enumerate(works)):
        times[place].append(seconds_of(work, device, given.seconds))
    rates = [operations / statistics.median(own) for (_, operations), own in zip(works, times, strict=True)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    yield f"training step, {precision}{' compiled' if given.compile else ''}, {name}"
    yield f"matrix product {MATRIX}x{MATRIX}: {rates[0] / 1e12:.3f} TFLOP/s"
    yield f"{'generator':26}{'input':>8}{'batch':>7}{'GMAC/face':>11}{'images/s':>10}{'TFLOP/s':>9}{'of product':>12}"
    for row, (_, operations), own, rate in zip(ROWS, works[1:], times[1:], rates[1:], strict=True):
        generator, changes, num_faces, scale = row
        title = " ".join([generator, *(f"{key}={value}" for key, value in changes.items())])
        size = f"{FACE[1] * scale}x{FACE[0] * scale}"
        macs = operations / 6 / num_faces / 1e9
        speed = num_faces / statistics.median(own)
        yield f"{title:26}{size:>8}{num_faces:7}{macs:11.2f}{speed:10.1f}{rate / 1e12:9.3f}{rate / rates[0]:12.0%}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--precision", default="auto", choices=("auto", *DTYPES))
    parser.add_argument("--compile", action="store_true", help="torch.compile; needs a C++ compiler on a CPU")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    for line in lines(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
