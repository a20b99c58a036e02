"""How much of a training step a CUDA device computes: the step, the device's own time in it, the number of kernels.

    uv run benchmarks/gpu.py [--batch-size 64] [--seconds 1.5]
    uv run benchmarks/gpu.py --run "experiment=asc19_pixel generator=facesr_fast" --batch-size 128

Where the step takes much longer than the device computes, it waits for the CPU that launches the kernels: larger
batches, several runs on one device or compile=true help. Faces are noise, so no data is needed; losses start at once.
An experiment that trains with a recogniser needs its weights. What making the faces costs is left out
(benchmarks/feeding.py).
"""

import argparse
import copy
import dataclasses
import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.dist import choose_device
from facesr.image import round_to_grey_levels
from facesr.training.precision import choose_precision
from facesr.training.run import build_players
from facesr.training.step import GanState, train_step

WIDTH, HEIGHT = 96, 112
RUNS = (
    "experiment=asc19_flagship discriminator=none ~losses.adversarial",
    "experiment=asc19_pixel_grown",
    "experiment=asc19_pixel_long",
    "experiment=asc19_blind",
    "experiment=asc19_srgan",
    "experiment=asc19_esrgan",
    "experiment=asc19_sicnn",
    "experiment=asc19_fsrgan ~losses.prior",  # noise has no landmarks
)
PROFILED_STEPS = 3


def players(run: str, device: torch.device) -> GanState:
    """Returns the networks of a run, from random weights, all of their losses active."""
    settings = load_settings("train", TrainSettings, run.split())
    losses = copy.deepcopy(settings.losses)
    for node in losses.values():
        node["start_kimg"] = 0
    precision = choose_precision(settings.precision, device)
    return build_players(dataclasses.replace(settings, losses=losses, precision=precision, start_from=None), device)


def measure(run: str, num_faces: int, seconds: float, device: torch.device) -> str:
    """Returns the row of one run."""
    gan = players(run, device)
    coarse = torch.rand(num_faces, 3, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(1))
    faces = round_to_grey_levels(torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear")).to(device)
    for _ in range(5):
        train_step(gan, [faces], 1.0)
    torch.cuda.synchronize()
    start, num_steps = time.perf_counter(), 0
    while num_steps < 5 or time.perf_counter() - start < seconds:
        train_step(gan, [faces], 1.0)
        num_steps += 1
        if num_steps % 5 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    step = (time.perf_counter() - start) / num_steps
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(PROFILED_STEPS):
            train_step(gan, [faces], 1.0)
        torch.cuda.synchronize()
    events = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    busy = sum(event.self_device_time_total for event in events) / PROFILED_STEPS / 1e6
    kernels = sum(event.count for event in events) / PROFILED_STEPS
    return (
        f"{num_faces:5} {1e3 * step:8.1f} {num_faces / step:9.0f} {1e3 * busy:10.1f} {100 * busy / step:6.0f} % "
        f"{kernels:8.0f}  {run}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--run", action="append", help="train.py's keys of one run; may be repeated")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.5, help="of one measurement")
    given = parser.parse_args()
    device = choose_device("auto")
    if device.type != "cuda":
        sys.exit("error: no CUDA device is available; benchmarks/training.py measures on a CPU.")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    print(f"{'batch':>5} {'step ms':>8} {'images/s':>9} {'device ms':>10} {'busy':>8} {'kernels':>8}  run")
    for run in given.run or RUNS:
        print(measure(run, given.batch_size, given.seconds, device), flush=True)


if __name__ == "__main__":
    main()
