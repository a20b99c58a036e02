"""Images per second of a training step: generator only, with the GAN, with the identity loss, and with every term.

    uv run benchmarks/training.py [--experiment quickstart] [--batch-sizes 8 16] [--seconds 3] [--rounds 3]
    uv run benchmarks/training.py --override generator.channels=96 --override discriminator=vgg

Each row compares precisions and memory layouts side by side: the variants take turns, so that a busy machine slows all
of them, and the median of the rounds counts. Faces are noise, so no data is needed; an experiment that trains with a
recogniser needs its weights. `data` is left out: benchmarks/feeding.py measures it.
"""

import argparse
import copy
import dataclasses
import itertools
import statistics
import time

import torch
from torch import Tensor

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.dist import choose_device
from facesr.image import round_to_grey_levels
from facesr.training.run import build_players
from facesr.training.step import GanState, train_step

WIDTH, HEIGHT = 96, 112
# Loss terms beside the pixel term; an experiment with others has a row for its whole loss, too.
PARTS: dict[str, tuple[str, ...]] = {
    "generator": (),
    "+ GAN": ("adversarial",),
    "+ GAN + identity": ("adversarial", "identity"),
}
# Precision and whether the layout is channels-last; the first one is what the others are compared with.
VARIANTS = (("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True))


def settings_for(base: TrainSettings, terms: tuple[str, ...], precision: str, channels_last: bool) -> TrainSettings:
    """Returns settings with the pixel term and the given ones, all of them active from the start."""
    losses = {name: copy.deepcopy(node) for name, node in base.losses.items() if name in ("pixel", *terms)}
    for node in losses.values():
        node["start_kimg"] = 0
    return dataclasses.replace(base, losses=losses, precision=precision, channels_last=channels_last, start_from=None)


def noise(num_faces: int, device: torch.device, channels_last: bool) -> Tensor:
    """Returns pictures (num_faces, 3, HEIGHT, WIDTH) of coarse noise."""
    small = torch.rand(num_faces, 3, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))
    faces = round_to_grey_levels(torch.nn.functional.interpolate(small, (HEIGHT, WIDTH), mode="bilinear"))
    return faces.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def images_per_second(gan: GanState, faces: Tensor, seconds: float) -> float:
    """Returns the speed over at least `seconds` and two steps."""
    wait = torch.cuda.synchronize if faces.device.type == "cuda" else lambda: None
    wait()
    start, num_steps = time.perf_counter(), 0
    while num_steps < 2 or time.perf_counter() - start < seconds:
        train_step(gan, [faces], kimg=1.0)
        num_steps += 1
        if faces.device.type == "cuda" and num_steps % 10 == 0:
            wait()
    wait()
    return num_steps * len(faces) / (time.perf_counter() - start)


def measure(base: TrainSettings, terms: tuple[str, ...], num_faces: int, given: argparse.Namespace) -> list[float]:
    """Returns the median images per second of each variant."""
    device = choose_device(given.device)
    variants = [
        (build_players(settings_for(base, terms, precision, layout), device), noise(num_faces, device, layout))
        for precision, layout in VARIANTS
    ]
    for gan, faces in variants:
        train_step(gan, [faces], kimg=1.0)
    rounds = [[images_per_second(gan, faces, given.seconds) for gan, faces in variants] for _ in range(given.rounds)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--experiment", default="quickstart", help="whose networks and loss terms")
    parser.add_argument("--override", action="append", default=[], help="key=value of train.py; may be repeated")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    given = parser.parse_args()
    base = load_settings("train", TrainSettings, [f"experiment={given.experiment}", *given.override])
    device = choose_device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"images/s of a training step, {base.name}, {WIDTH}x{HEIGHT}, {name} (in brackets: times the first column)")
    titles = [f"{precision}{' channels-last' if layout else ''}" for precision, layout in VARIANTS]
    print(f"{'':18}{'batch':>6}" + "".join(f"{title:>22}" for title in titles))
    parts = dict(PARTS)
    if not any(set(base.losses) == {"pixel", *terms} for terms in PARTS.values()):
        parts["the whole loss"] = tuple(base.losses)
    for (part, terms), num_faces in itertools.product(parts.items(), given.batch_sizes):
        missing = [term for term in terms if term not in base.losses]
        if missing:
            print(f"{part:18}{num_faces:6}  {base.name} has no losses.{missing[0]}")
            continue
        speeds = measure(base, terms, num_faces, given)
        cells = "".join(f"{f'{speed:.1f} ({speed / speeds[0]:.2f}x)':>22}" for speed in speeds)
        print(f"{part:18}{num_faces:6}{cells}", flush=True)


if __name__ == "__main__":
    main()
