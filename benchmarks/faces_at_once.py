"""What a face costs on a CPU by how many go through the network at once: CPU milliseconds, in turns in one process.

    uv run benchmarks/faces_at_once.py [METHOD] [--at-once 64,32,16,8,4,1] [--faces 64] [--threads 1] [--rounds 5]

METHOD (pretrained:asc19_final) restores uniform noise of 24x28, whose values cost what those of faces cost. Printed:
the least and the median of the rounds in CPU and wall milliseconds a face, and how far the answer is from that of the
first number. The last line is `facesr.methods.restore.restore_batch` for all of them, whose `CPU_FACES` was chosen so.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import torch

from facesr.methods.open import open_method
from facesr.methods.restore import restore_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="pretrained:asc19_final")
    parser.add_argument("--at-once", default="64,32,16,8,4,1")
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = open_method(given.method, torch.device("cpu"), guard=False).generator
    low = torch.rand(given.faces, 3, 28, 24, generator=torch.Generator().manual_seed(0))

    def by(number: int) -> torch.Tensor:
        return torch.cat([network(part) for part in low.split(number)])

    numbers = [int(number) for number in given.at_once.split(",")]
    ways: dict[str, Callable[[], torch.Tensor]] = {
        f"{number:4} at once": functools.partial(by, number) for number in numbers
    }
    ways["restore_batch"] = functools.partial(restore_batch, network, low)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        network(low[:1])
        for _ in range(given.rounds):
            for name, way in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                answers[name] = way()
                spans = (time.process_time() - cpu, time.perf_counter() - wall)
                spent[name].append((1e3 * spans[0] / len(low), 1e3 * spans[1] / len(low)))
    first = answers[next(iter(spent))]
    print(f"{given.method}, {given.faces} faces, {given.threads} threads; least (median) ms a face")
    for name, times in spent.items():
        cpu_ms, wall_ms = zip(*times, strict=True)
        apart = float((answers[name] - first).abs().max())
        print(
            f"{name:13}: CPU {min(cpu_ms):.1f} ({statistics.median(cpu_ms):.1f}), "
            f"wall {min(wall_ms):.1f} ({statistics.median(wall_ms):.1f}), apart by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
