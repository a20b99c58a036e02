"""Images per second of what comes before a training step, and its share of one: reading, augmenting, downscaling.

    uv run benchmarks/feeding.py [--batch-size 32] [--seconds 3] [--experiment quickstart] [--device auto]

Faces are noise in a memory-mapped file with a margin of 8 pixels, augmented as data=asc19 does. The step that the share
refers to is the experiment's generator step without GAN and identity, the fastest one; with them the share is smaller.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import seconds_of

from facesr.build import load_settings
from facesr.config import AugmentationSettings, DataSettings, TrainSettings
from facesr.data.feed.loader import Feed
from facesr.data.packed.reader import PackedDataset
from facesr.dist import choose_device
from facesr.resample import downscale_to_grey_levels
from facesr.training.run import build_players, choose_precision
from facesr.training.step import train_step

WIDTH, HEIGHT, MARGIN = 96, 112, 8
NO_CHANGE = AugmentationSettings(
    flip=0, warp=0, roll_degrees=0, scale=0, shift_px=0, brightness=0, contrast=0, saturation=0, greyscale=0, turn=0
)


def noise_set(folder: Path, num_faces: int) -> PackedDataset:
    """Returns a set of noise whose pictures are memory-mapped, as a prepared dataset's are."""
    shape = (num_faces, HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, 3)
    np.save(folder / "images.npy", np.random.default_rng(1).integers(0, 256, shape, np.uint8))
    images = np.load(folder / "images.npy", mmap_mode="r")
    landmarks = np.full((num_faces, 5, 2), np.nan, np.float32)
    return PackedDataset(folder, images, MARGIN, np.full(num_faces, -1), ("",) * num_faces, landmarks)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--experiment", default="quickstart", help="whose generator the share refers to")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--num-faces", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    given = parser.parse_args()
    device = choose_device(given.device)
    augmentation = load_settings("train", TrainSettings, ["experiment=asc19_pixel"]).data.augmentation
    settings = load_settings("train", TrainSettings, [f"experiment={given.experiment}"])
    pixel_only = dataclasses.replace(
        settings,
        losses={"pixel": settings.losses["pixel"]},
        start_from=None,
        precision=choose_precision(settings.precision, device),
    )
    gan = build_players(pixel_only, device)
    with tempfile.TemporaryDirectory() as folder:
        faces = noise_set(Path(folder), given.num_faces)

        def batches(residency: str, changes: AugmentationSettings) -> Callable[[], torch.Tensor]:
            data = DataSettings({}, {}, residency, changes)
            feed = Feed(faces, data, seed=1, batch_size=given.batch_size, rank=0, world_size=1, device=device)
            stream = feed.batches(0)
            return lambda: next(stream)

        rows: dict[str, float] = {}
        for residency in ("host", "device"):
            plain, changed = batches(residency, NO_CHANGE), batches(residency, augmentation)
            rows[f"{residency}: read"] = seconds_of(plain, device, given.seconds)
            rows[f"{residency}: read, augment"] = seconds_of(changed, device, given.seconds)
        high = changed()
    rows["downscale"] = seconds_of(lambda: downscale_to_grey_levels(high), device, given.seconds)
    step = seconds_of(lambda: train_step(gan, [high], kimg=1.0), device, given.seconds)
    # The step downscales by itself, so only reading and augmenting come on top of it.
    print(f"{settings.name}, batches of {given.batch_size} faces {WIDTH}x{HEIGHT}, {device}, {gan.precision}")
    print(f"{'':24}{'images/s':>12}{'ms/batch':>12}{'share of a step':>18}")
    for name, duration in rows.items():
        share = duration / (step if name == "downscale" else step + duration)
        print(f"{name:24}{given.batch_size / duration:12.0f}{1000 * duration:12.2f}{share:18.1%}")
    print(f"{'generator step':24}{given.batch_size / step:12.0f}{1000 * step:12.2f}")


if __name__ == "__main__":
    main()
