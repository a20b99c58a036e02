"""How the cost of a generator's training step grows: by network, width, batch and picture, against the matrix product.

    uv run benchmarks/scaling.py [--rounds 3] [--seconds 2] [--precision bf16] [--rows facesr] [--compile]

Each row is one generator with the pixel loss alone. Its floating-point operations are counted (two for each
multiply-accumulate; a step is three forward passes: forward, and backward to features and to weights) and divided by
the time; the last columns compare that rate with what a square matrix product of the same precision reaches on the same
machine. Rows and the product take turns, so that a busy machine slows all of them, and medians count. `--compile`
measures every row a second time, compiled; minutes of compiling come first, so choose few rows.
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
from facesr.models.counting import count_macs
from facesr.training.run import build_players, choose_precision
from facesr.training.step import train_step

SCALE = 4
FACE = (28, 24)  # height, width of the competition's inputs
MATRIX = 2048
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: a generator with changed keys, its batch, and times the competition's sides."""

    generator: str
    changes: dict[str, int]
    num_faces: int
    times: int = 1
    compiled: bool = False

    @property
    def title(self) -> str:
        """Returns the generator, what is changed, and whether it is compiled."""
        changes = (f"{key}={value}" for key, value in self.changes.items())
        return " ".join([self.generator, *changes, *(["compiled"] if self.compiled else [])])


ROWS = (
    Row("facesr", {}, 4),
    Row("facesr", {}, 16),
    Row("facesr", {}, 64),
    Row("facesr", {}, 4, times=2),
    Row("facesr", {"channels": 64}, 16),
    Row("facesr", {"channels": 128}, 16),
    Row("facesr", {"channels": 192}, 16),
    Row("srresnet", {}, 16),
    Row("rrdbnet", {}, 4),
)


def step_of(base: TrainSettings, row: Row, device: torch.device) -> tuple[Callable[[], object], float]:
    """Returns a function that makes one step, and the floating-point operations of that step."""
    node = {**load_group("generator", row.generator), **row.changes}
    height, width = FACE[0] * row.times, FACE[1] * row.times
    gan = build_players(dataclasses.replace(base, generator=node, compile=row.compiled), device)
    faces: Tensor = torch.rand(row.num_faces, 3, SCALE * height, SCALE * width)
    faces = faces.to(device, memory_format=torch.channels_last)
    # Counted on the CPU, where a hook on every layer is allowed.
    with torch.device("cpu"):
        macs = count_macs(gan.average.cpu(), height, width)
    return lambda: train_step(gan, [faces], kimg=1.0), 3 * 2.0 * macs * row.num_faces


def product_of(precision: str, device: torch.device) -> tuple[Callable[[], object], float]:
    """Returns a function that multiplies two matrices, and its floating-point operations."""
    first, second = (torch.rand(MATRIX, MATRIX, device=device).to(DTYPES[precision]) for _ in range(2))
    return lambda: first @ second, 2.0 * MATRIX**3


def _label(row: Row) -> str:
    return f"{row.title} {row.num_faces}"


def lines(given: argparse.Namespace, rows: list[Row]) -> Iterator[str]:
    """Yields the table, measured before the first row is told."""
    device = choose_device(given.device)
    precision = choose_precision(given.precision, device)
    base = load_settings("train", TrainSettings, ["experiment=asc19_pixel"])
    base = dataclasses.replace(base, start_from=None, precision=precision)
    if given.compile:
        rows = [dataclasses.replace(row, compiled=compiled) for row in rows for compiled in (False, True)]
    product, product_operations = product_of(precision, device)
    works = [(product, product_operations), *(step_of(base, row, device) for row in rows)]
    times: list[list[float]] = [[] for _ in works]
    for _, (place, (work, _)) in itertools.product(range(given.rounds), enumerate(works)):
        times[place].append(seconds_of(work, device, given.seconds))
    rates = [operations / statistics.median(own) for (_, operations), own in zip(works, times, strict=True)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    yield f"training step, {precision}, {name}"
    yield f"matrix product {MATRIX}x{MATRIX}: {rates[0] / 1e12:.3f} TFLOP/s"
    yield f"{'generator':26}{'input':>8}{'batch':>7}{'GMAC/face':>11}{'images/s':>10}{'TFLOP/s':>9}{'of product':>12}"
    for row, (_, operations), own, rate in zip(rows, works[1:], times[1:], rates[1:], strict=True):
        size = f"{FACE[1] * row.times}x{FACE[0] * row.times}"
        macs = operations / 6 / row.num_faces / 1e9
        speed = row.num_faces / statistics.median(own)
        cost = f"{row.title:26}{size:>8}{row.num_faces:7}{macs:11.2f}"
        yield f"{cost}{speed:10.1f}{rate / 1e12:9.3f}{rate / rates[0]:12.0%}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--precision", default="auto", choices=("auto", *DTYPES))
    parser.add_argument("--rows", default="", help="only those with this text in name, changes and batch: 'facesr 16'")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile; a CPU needs a C++ compiler")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    given = parser.parse_args()
    rows = [row for row in ROWS if given.rows in _label(row)]
    if not rows:
        parser.error(f"--rows {given.rows} matches none of {', '.join(_label(row) for row in ROWS)}")
    for line in lines(given, rows):
        print(line, flush=True)


if __name__ == "__main__":
    main()
