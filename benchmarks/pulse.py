"""Times the latent search by batch size: the same steps for batches of 1, 4 and 16 faces.

    uv run benchmarks/pulse.py [--generator eigenfaces] [--batches 1 4 16] [--steps 20] [--rounds 3] [--device auto]

Inputs are the generator's own pictures of other latents; no face ends early, so that all do the same work. Each time is
the best of the rounds, which take turns. `--set weights=FILE` changes a key of the generator's configuration.
"""

import argparse
import time
from dataclasses import replace

import torch

from facesr.build import build, load_group, load_settings
from facesr.config import EvaluateSettings, PulseSettings
from facesr.dist import choose_device
from facesr.image import round_to_grey_levels
from facesr.methods.pulse.operator import Operator, operator_for
from facesr.methods.pulse.search import search
from facesr.places import Place
from facesr.protocols import LatentGenerator
from facesr.task import SCALE

LOW_SIDE_OF_SQUARES = 16


def operator_of(generator: LatentGenerator) -> Operator:
    width, height = generator.size
    square = (LOW_SIDE_OF_SQUARES, LOW_SIDE_OF_SQUARES)
    return operator_for("auto", generator.size, square if width == height else (width // SCALE, height // SCALE))


@torch.no_grad()
def inputs(generator: LatentGenerator, operator: Operator, num_faces: int, device: torch.device) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(num_faces):
        latents = torch.randn(1, generator.num_latents, generator.latent_dim, generator=draw).to(device)
        noises = [torch.zeros(1, *shape, device=device) for shape in generator.noise_shapes]
        rows.append(operator.downscale(generator.synthesise(generator.map(latents), noises)))
    return round_to_grey_levels(torch.cat(rows))


def seconds_of(
    generator: LatentGenerator, operator: Operator, low: torch.Tensor, settings: PulseSettings
) -> tuple[float, float]:
    """Returns seconds by the clock, and of processor time, which other work on the machine moves less."""
    start, start_cpu = time.perf_counter(), time.process_time()
    search(generator, operator, low, settings)
    if low.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - start_cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--generator", default="eigenfaces")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    chosen = parser.parse_args()
    device = choose_device(chosen.device)
    generator = (
        build(load_group("latent_generator", chosen.generator, chosen.set), Place.LATENT_GENERATOR)
        .eval()
        .requires_grad_(False)
        .to(device)
    )
    published = load_settings("evaluate", EvaluateSettings, [f"generator={chosen.generator}"]).pulse
    # An eps that is never reached: every face takes every step.
    settings = replace(published, steps=chosen.steps, eps=1e-30, precision=chosen.precision)
    operator = operator_of(generator)
    low = inputs(generator, operator, max(chosen.batches), device)
    best = dict.fromkeys(chosen.batches, (float("inf"), float("inf")))
    for _ in range(chosen.rounds):
        for size in chosen.batches:
            now = seconds_of(generator, operator, low[:size], settings)
            best[size] = (min(best[size][0], now[0]), min(best[size][1], now[1]))
    print(f"{chosen.generator} on {device}, {torch.get_num_threads()} threads, {chosen.steps} steps, {operator.name}")
    first = chosen.batches[0]
    for size, (seconds, cpu) in best.items():
        each = seconds / size
        gain, gain_cpu = best[first][0] / first / each, best[first][1] / first / (cpu / size)
        step_ms, cpu_ms = 1e3 * each / chosen.steps, 1e3 * cpu / size / chosen.steps
        print(
            f"  batch {size:3}  {seconds:8.3f} s  {1.0 / each:8.2f} faces/s  {step_ms:8.2f} ms a step  {gain:5.1f}x",
            end="",
        )
        print(f"  processor {cpu_ms:8.2f} ms a step  {gain_cpu:5.1f}x")


if __name__ == "__main__":
    main()
