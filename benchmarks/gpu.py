"""How much of a training step a CUDA device computes: the step, the device's own time in it, the number of kernels.

    uv run benchmarks/gpu.py [--batch-size 64] [--seconds 1.5]
    uv run benchmarks/gpu.py --run "experiment=asc19_pixel generator=facesr_small" --batch-size 128

Where the step takes much longer than the device computes, it waits for the CPU that launches the kernels: larger
batches, several runs on one device or compile=true help. Faces are noise, so no data is needed; losses start at once.
An experiment that trains with a recogniser needs its weights. What making the faces costs is left out
(benchmarks/feeding.py).
"""

import argparse
import sys

import torch
from timing import seconds_of
from torch.profiler import ProfilerActivity, profile
from training import noise, settings_for

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.dist import choose_device
from facesr.training.precision import choose_precision
from facesr.training.run import build_players
from facesr.training.step import train_step

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
WARM_UP_STEPS, PROFILED_STEPS = 5, 3


def measure(run: str, num_faces: int, seconds: float, device: torch.device) -> str:
    """Returns the row of one run."""
    base = load_settings("train", TrainSettings, run.split())
    precision = choose_precision(base.precision, device)
    gan = build_players(settings_for(base, tuple(base.losses), precision, base.channels_last), device)
    faces = noise(num_faces, device, base.channels_last)

    def steps(number: int = 1) -> None:
        for _ in range(number):
            train_step(gan, [faces], kimg=1.0)

    steps(WARM_UP_STEPS)
    step = seconds_of(steps, device, seconds)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        steps(PROFILED_STEPS)
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
