"""How fast an exported ONNX file restores, beside its snapshot in PyTorch.

    uv run benchmarks/export.py METHOD [METHOD ...] [--batch 1 8] [--threads 1] [--rounds 9]

METHOD is a snapshot, run folder or pretrained:NAME; it is exported into a temporary folder. Both restore the same
synthetic faces of 24x28 in turn, in this process, on the CPU: a row has the median of the rounds in milliseconds a
face for each, and the quickest round in brackets, which other programs on the machine disturb least.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from facesr.data.synthetic.face.render import render_faces
from facesr.errors import exit_code_of
from facesr.export.model import export
from facesr.image import to_float
from facesr.methods.open import open_method
from facesr.methods.restore import restore_batch
from facesr.resample import downscale_uint8

CPU = torch.device("cpu")
# So many faces in a round at least, however few are restored at once.
_MIN_FACES = 8


def milliseconds(generator: nn.Module, low: Tensor) -> float:
    """Returns the time of a face, in batches of `low`."""
    num_calls = max(1, _MIN_FACES // len(low))
    start = time.perf_counter()
    for _ in range(num_calls):
        restore_batch(generator, low)
    return (time.perf_counter() - start) / (num_calls * len(low)) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faces = to_float(downscale_uint8(render_faces(max(options.batch), seed=1, first=100_000)[0]))
    print(f"{options.threads} threads, {options.rounds} rounds; ms a face: median (quickest)")
    for spec in options.methods:
        with tempfile.TemporaryDirectory() as folder:
            path = export(spec, Path(folder) / "exported.onnx").path
            ways = {
                "torch": open_method(spec, CPU, guard=False),
                "onnxruntime": open_method(str(path), CPU, guard=False),
            }
        for batch in options.batch:
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, method in ways.items():
                    times[name].append(milliseconds(method.generator, faces[:batch]))
            told = [f"{name} {statistics.median(found):.1f} ({min(found):.1f})" for name, found in times.items()]
            gain = min(times["torch"]) / min(times["onnxruntime"])
            print(f"{spec}, batches of {batch}: {', '.join(told)}; {gain:.2f} times as fast")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
