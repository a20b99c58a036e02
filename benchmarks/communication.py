"""What share of a training step the ranks spend sending: measured on this machine's CPU, and modelled for GPUs.

    uv run benchmarks/communication.py [--ranks 1,2,4] [--experiments asc19_pixel_grown,asc19_flagship] [--faces 4]

Measured: each rank is a process of one thread that makes steps on random faces. Before the ranks send they meet at a
barrier, so that waiting for a slower one is not taken for sending. Sent are the gradients of every network, and the
orthogonal matrices that Muon's ranks share out. More ranks than cores slow the steps and the sending alike.

Modelled: seconds = 2 (n - 1) / n * bytes / bandwidth + latency for the gradients, (n - 1) / n * bytes / bandwidth +
latency for the matrices, where bandwidth is NCCL's bus bandwidth for a message of 32 MiB. Source of the formula:
NVIDIA/nccl-tests, doc/PERFORMANCE.md; of the figures: `LINKS`.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from facesr import dist
from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.training.run import build_players
from facesr.training.step import train_step

FACE = (112, 96)  # height, width
SHARE_LIMIT = 0.05
# Milliseconds of a step, and the GPU's own of them: docs/performance.md, "On a GPU", one H200, 64 faces a rank.
GPU_STEPS = {"asc19_pixel_grown": (104.0, 21.1), "asc19_flagship": (142.0, 32.3)}


@dataclasses.dataclass(frozen=True)
class Link:
    """GPUs and what joins them.

    Attributes:
        name: for the table.
        ranks: number of GPUs.
        bandwidth: NCCL's bus bandwidth at 32 MiB, GB/s.
        latency_us: of the smallest all-reduce.
    """

    name: str
    ranks: int
    bandwidth: float
    latency_us: float


# No table for 8 H100 at this size was found: 8 A100 (NVLink 3, two thirds as fast) stand for them, which is cautious.
# Source of the first and the second: NCCL tests in Oracle's tutorial on a GPU cluster, 8 and 16 A100-SXM4-40GB, two
# nodes with 16 RDMA ports each. Of the third: GitHub, lessizzmore/create-a3mega-ztan-fork at 02dd8f4, file
# ztan-NCCL-test-result, 16 H100 in two nodes without InfiniBand. Twice the nodes take at most twice the latency.
LINKS = (
    Link("8 in one node", 8, 147.0, 32.0),
    Link("4 nodes x 8, RDMA", 32, 58.0, 2 * 39.0),
    Link("4 nodes x 8, Ethernet", 32, 59.0, 2 * 123.0),
)


def players(experiment: str) -> Any:
    """Returns an experiment's networks and optimisers on the CPU, from random weights."""
    words = [f"experiment={experiment}", "start_from=null", "device=cpu"]
    # What is sent does not depend on the judge, whose weights need not be here.
    if experiment == "asc19_flagship":
        words += ["~losses.identity"]
    settings = load_settings("train", TrainSettings, words)
    return build_players(dataclasses.replace(settings, precision="fp32"), torch.device("cpu"))


def bytes_of(gan: Any) -> tuple[int, int, int]:
    """Returns the bytes of the gradients and of the shared matrices, and the number of all-reduces of a step."""
    networks = [network for network in (gan.generator, gan.discriminator) if network is not None]
    gradients = sum(4 * one.numel() for network in networks for one in network.parameters() if one.requires_grad)
    optimisers = [one for one in (gan.generator_optimizer, gan.discriminator_optimizer) if one is not None]
    muons = [one for one in optimisers if type(one).__name__ == "Muon"]
    matrices = sum(
        4 * one.numel() for muon in muons for group in muon.param_groups for one in group["params"] if one.dim() > 1
    )
    return gradients, matrices, len(networks)


class Clocked:
    """A function of facesr.dist that notes how long it takes once all ranks have come to it."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner = inner
        self.seconds = 0.0
        self.waited = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        start = time.perf_counter()
        dist.barrier()
        met = time.perf_counter()
        result = self.inner(*args, **kwargs)
        self.waited += met - start
        self.seconds += time.perf_counter() - met
        return result


def as_rank(experiment: str, num_faces: int, num_steps: int) -> None:
    """Makes steps as the rank that the environment names, and prints a JSON object on rank 0."""
    torch.set_num_threads(1)
    dist.initialise(torch.device("cpu"))
    gan = players(experiment)
    clocked = [Clocked(dist.average_gradients), Clocked(dist.from_owners)]
    dist.average_gradients, dist.from_owners = clocked
    faces = torch.rand(num_faces, 3, *FACE).to(memory_format=torch.channels_last)
    steps = []
    for number in range(num_steps + 1):
        for one in clocked:
            one.seconds = one.waited = 0.0
        start = time.perf_counter()
        train_step(gan, [faces], kimg=1e9)  # every term has started
        took = time.perf_counter() - start - sum(one.waited for one in clocked)
        if number:  # the first one loads and compiles
            steps.append((took, *(one.seconds for one in clocked)))
    if dist.is_main():
        print(json.dumps([statistics.median(column) for column in zip(*steps, strict=True)]))
    dist.shutdown()


def measured(experiment: str, num_ranks: int, num_faces: int, num_steps: int) -> Sequence[float]:
    """Returns the seconds of a step without waiting, of its gradients' sending, and of its matrices'; medians."""
    command = [sys.executable, __file__, "--as-rank", experiment, f"--faces={num_faces}", f"--steps={num_steps}"]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    if num_ranks > 1:
        common["WORLD_SIZE"] = str(num_ranks)
    ranks = [
        subprocess.Popen(
            command, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(num_ranks)
    ]
    try:
        told = [rank.communicate()[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    if any(rank.returncode for rank in ranks):
        raise SystemExit(f"{experiment}: a rank ended with {[rank.returncode for rank in ranks]}")
    found: list[float] = json.loads(told[0].splitlines()[-1])
    return found


def modelled(link: Link, gradients: int, matrices: int, num_reduces: int) -> float:
    """Returns the seconds that a step sends by the formula above."""
    part = (link.ranks - 1) / link.ranks / (link.bandwidth * 1e9)
    messages = num_reduces + (matrices > 0)
    return 2 * part * gradients + part * matrices + messages * link.latency_us * 1e-6


def lines(given: argparse.Namespace) -> Iterator[str]:
    """Yields both tables."""
    experiments = given.experiments.split(",")
    counts = [int(word) for word in given.ranks.split(",") if word]
    if counts:
        yield f"measured: gloo on this machine, fp32, one thread, {given.faces} faces a rank, median of {given.steps}"
        columns = f"{'step, ms':>10}{'gradients':>11}{'matrices':>10}{'share':>8}{'faces/s':>9}"
        yield f"{'experiment':20}{'ranks':>6}{columns}"
    for experiment in experiments:
        for count in counts:
            step, *sending = measured(experiment, count, given.faces, given.steps)
            sent = "".join(f"{1000 * seconds:{width}.1f}" for seconds, width in zip(sending, (11, 10), strict=True))
            share = sum(sending) / step if count > 1 else 0.0
            yield f"{experiment:20}{count:6}{1000 * step:10.0f}{sent}{share:8.1%}{count * given.faces / step:9.1f}"
    yield "modelled: NCCL, 64 faces a rank"
    yield f"{'experiment':20}{'GPUs':24}{'MB':>6}{'sending, ms':>13}{'of the step':>13}{'of the GPU time':>17}"
    for experiment in experiments:
        if experiment not in GPU_STEPS:
            continue
        gradients, matrices, num_reduces = bytes_of(players(experiment))
        step_ms, gpu_ms = GPU_STEPS[experiment]
        for link in LINKS:
            sending_ms = 1000 * modelled(link, gradients, matrices, num_reduces)
            amount = f"{(gradients + matrices) / 1e6:6.0f}{sending_ms:13.2f}"
            yield f"{experiment:20}{link.name:24}{amount}{sending_ms / step_ms:13.1%}{sending_ms / gpu_ms:17.1%}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ranks", default="1,2,4", help="numbers of ranks to measure; empty for none")
    parser.add_argument("--experiments", default=",".join(GPU_STEPS))
    parser.add_argument("--faces", type=int, default=4, help="of a rank and step")
    parser.add_argument("--steps", type=int, default=8, help="measured ones")
    parser.add_argument("--as-rank", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_rank:
        as_rank(given.as_rank, given.faces, given.steps)
        return
    for line in lines(given):
        print(line, flush=True)


if __name__ == "__main__":
    main()
