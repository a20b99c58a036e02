"""What SICNN's doubling costs on a CPU: a transposed convolution beside `SeparateBlocks`, in turns in one process.

    uv run benchmarks/doubling.py [--channels 256] [--faces 16] [--height 56] [--width 48] [--threads 1] [--rounds 5]

Printed for both, in the memory format that training uses (channels-last): the least and the median CPU milliseconds of
the call and of its gradients, and how far the two answers are apart.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from facesr.models.sicnn import SeparateBlocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--faces", type=int, default=16)
    parser.add_argument("--height", type=int, default=56)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(given.channels, given.channels, 2, stride=2)
    separate = SeparateBlocks(given.channels, given.channels)
    separate.load_state_dict(transposed.state_dict())
    ways = {
        "transposed convolution": transposed.to(memory_format=torch.channels_last),
        "1x1 and pixel shuffle": separate.to(memory_format=torch.channels_last),
    }
    features = torch.randn(given.faces, given.channels, given.height, given.width)
    features = features.to(memory_format=torch.channels_last).requires_grad_()
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    answers: dict[str, torch.Tensor] = {}
    for _ in range(given.rounds + 1):
        for name, layer in ways.items():
            start = time.process_time()
            answer = layer(features)
            middle = time.process_time()
            answer.backward(torch.ones_like(answer))
            spent[name].append((1e3 * (middle - start), 1e3 * (time.process_time() - middle)))
            answers[name] = answer.detach()
    for name, times in spent.items():
        forward, backward = zip(*times[1:], strict=True)  # the first call chooses kernels
        print(
            f"{name:22}: forward {min(forward):.0f} ({statistics.median(forward):.0f}), "
            f"gradients {min(backward):.0f} ({statistics.median(backward):.0f}) ms"
        )
    first, second = answers.values()
    print(f"largest difference {(first - second).abs().max():.1e}")


if __name__ == "__main__":
    main()
