"""Times NIQE by picture size, and beside pyiqa's implementation where that is installed.

    uv run --with pyiqa benchmarks/niqe.py --model modelparameters.mat [--threads 2] [--rounds 3]

Pictures are drawn noise of several scales, so that no file is needed. Both get the same float pictures and the same
model; each time is the best of the rounds, taken in turn. Without pyiqa only our own times are printed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from facesr.metrics.perceptual.colour import matlab_grey
from facesr.metrics.perceptual.niqe import NiqeModel, niqe, read_model
from facesr.resample import resize

SIZES = (480, 720, 1440)


def picture(size: int) -> Tensor:
    """Returns an RGB picture (1, 3, size, size) of whole grey levels 0..255 with structure at several scales."""
    random = torch.Generator().manual_seed(size)
    total = torch.full((1, 3, size, size), 128.0, dtype=torch.float64)
    for cells, strength in ((size // 20, 60.0), (size // 6, 30.0), (size // 2, 15.0), (size, 5.0)):
        noise = torch.randn(1, 3, cells, cells, generator=random, dtype=torch.float64)
        total += strength * resize(noise, size, size)
    return total.clamp(0.0, 255.0).round()


def theirs(model: NiqeModel) -> Callable[[Tensor], float] | None:
    """Returns pyiqa's NIQE of grey levels (1, 3, H, W), None where it is not installed."""
    try:
        from pyiqa.archs.niqe_arch import calculate_niqe
    except ImportError:
        return None
    mean, covariance = torch.from_numpy(model.mean)[None], torch.from_numpy(model.covariance)[None]

    def score(levels: Tensor) -> float:
        with torch.no_grad():
            return float(calculate_niqe(levels / 255.0, 0, True, "yiq", mean, covariance))

    return score


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = read_model(chosen.model)
    methods: dict[str, Callable[[Tensor], float]] = {
        "facesr": lambda levels: float(niqe(matlab_grey(levels), model)[0])
    }
    if (other := theirs(model)) is not None:
        methods["pyiqa"] = other
    print(f"{chosen.threads} threads, torch {torch.__version__}")
    for size in SIZES:
        levels = picture(size)
        best = dict.fromkeys(methods, float("inf"))
        values: dict[str, float] = {}
        for _ in range(chosen.rounds):
            for name, method in methods.items():
                start = time.perf_counter()
                values[name] = method(levels)
                best[name] = min(best[name], time.perf_counter() - start)
        line = "  ".join(f"{name} {1000 * best[name]:.0f} ms, NIQE {values[name]:.4f}" for name in methods)
        ratio = f"  ratio {best['pyiqa'] / best['facesr']:.1f}" if "pyiqa" in best else ""
        print(f"{size}x{size}  {line}{ratio}  {1e9 * best['facesr'] / size**2:.0f} ns a pixel")


if __name__ == "__main__":
    main()
