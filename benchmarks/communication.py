"""What share of a training step the ranks spend sending, and what `gradient_sync=overlap` hides of it.

    uv run benchmarks/communication.py [--ranks 1,2,4] [--experiments asc19_pixel_grown,asc19_flagship] [--faces 4]

Measured: each rank is a process of one thread that makes steps on random faces. A round has one step of each kind, in
an order that changes from round to round: `clocked` (flat; before the ranks send they meet at a barrier, so that
waiting for a slower one is not taken for sending), `flat`, `overlap` and `unsent` (gradients stay where they are). Of
the last three the time counts until all ranks have ended, and told is the median over rounds of their ratios. Sent are
the gradients of every network, and the orthogonal matrices that Muon's ranks share out. More ranks than cores slow the
steps and the sending alike.

Modelled: seconds = 2 (n - 1) / n * bytes / bandwidth + latency for a message of gradients, (n - 1) / n * bytes /
bandwidth + latency for the matrices, where bandwidth is NCCL's bus bandwidth for a message of 32 MiB. Source of the
formula: NVIDIA/nccl-tests, doc/PERFORMANCE.md; of the figures: `LINKS`. With overlap a bucket leaves when its gradients
are there and the one before it has arrived; when that is, as a share of a step, is taken from a step on this machine's
CPU. What arrives after the backward pass is what is left to wait for.
"""

import argparse
import dataclasses
import json
import os
import socket
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
from facesr.gradients import GradientMean
from facesr.training.run import build_players
from facesr.training.step import train_step

FACE = (112, 96)  # height, width
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
    # Assumed, not published: every node has one port, which sends at its full rate.
    Link("4 nodes x 1, 10 Gbit/s", 4, 1.25, 200.0),
    Link("4 nodes x 8, 10 Gbit/s", 32, 1.25, 400.0),
)
KINDS = ("clocked", "flat", "overlap", "unsent")


def players(experiment: str) -> Any:
    """Returns an experiment's networks and optimisers on the CPU, from random weights."""
    words = [f"experiment={experiment}", "start_from=null", "device=cpu"]
    # What is sent does not depend on the judge, whose weights need not be here.
    if experiment == "asc19_flagship":
        words += ["~losses.identity"]
    settings = load_settings("train", TrainSettings, words)
    return build_players(dataclasses.replace(settings, precision="fp32"), torch.device("cpu"))


def bytes_of(gan: Any) -> tuple[int, int]:
    """Returns the bytes of the gradients and of the shared matrices."""
    networks = [network for network in (gan.generator, gan.discriminator) if network is not None]
    gradients = sum(4 * one.numel() for network in networks for one in network.parameters() if one.requires_grad)
    optimisers = [one for one in (gan.generator_optimizer, gan.discriminator_optimizer) if one is not None]
    muons = [one for one in optimisers if type(one).__name__ == "Muon"]
    matrices = sum(
        4 * one.numel() for muon in muons for group in muon.param_groups for one in group["params"] if one.dim() > 1
    )
    return gradients, matrices


class Clocked:
    """A function that notes how long it takes once all ranks have come to it.

    Attributes:
        on: whether ranks meet before it; else it is only called.
        seconds: since it was last reset.
        waited: for other ranks.
    """

    def __init__(self, inner: Callable[..., Any]) -> None:
        self.inner = inner
        self.on = False
        self.seconds = self.waited = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it."""
        start = time.perf_counter()
        if self.on:
            dist.barrier()
        met = time.perf_counter()
        result = self.inner(*args, **kwargs)
        self.waited += met - start
        self.seconds += time.perf_counter() - met
        return result


def noise(num_faces: int) -> torch.Tensor:
    """Returns random faces."""
    return torch.rand(num_faces, 3, *FACE).to(memory_format=torch.channels_last)


def as_rank(experiment: str, num_faces: int, num_rounds: int) -> None:
    """Makes steps as the rank that the environment names, and prints a JSON object on rank 0: figures by round."""
    torch.set_num_threads(1)
    dist.initialise(torch.device("cpu"))
    gan = players(experiment)
    average, fetch = Clocked(GradientMean.wait), Clocked(dist.from_owners)
    GradientMean.wait, dist.from_owners = lambda mean: average(mean), fetch  # type: ignore[method-assign]
    send = dist.sum_started
    faces = noise(num_faces)

    def one_step(kind: str) -> tuple[float, float, float]:
        """Returns the seconds of a step and, of a clocked one, of sending gradients and matrices."""
        gan.gradient_sync = "overlap" if kind == "overlap" else "flat"
        dist.sum_started = (lambda *_: lambda: None) if kind == "unsent" else send
        for one in (average, fetch):
            one.on, one.seconds, one.waited = kind == "clocked", 0.0, 0.0
        dist.barrier()
        start = time.perf_counter()
        train_step(gan, [faces], kimg=1e9)  # every term has started
        if kind == "clocked":
            return time.perf_counter() - start - average.waited - fetch.waited, average.seconds, fetch.seconds
        dist.barrier()
        return time.perf_counter() - start, 0.0, 0.0

    kinds = KINDS if dist.world_size() > 1 else KINDS[:1]
    rounds = []
    for number in range(num_rounds + 1):
        shift = number % len(kinds)
        figures = {kind: one_step(kind) for kind in (*kinds[shift:], *kinds[:shift])}
        if number:  # the first one loads and compiles
            rounds.append(figures)
    if dist.is_main():
        print(json.dumps(rounds))
    dist.shutdown()


def measured(experiment: str, num_ranks: int, num_faces: int, num_rounds: int) -> list[dict[str, Sequence[float]]]:
    """Returns the seconds of a step, of its gradients' sending, and of its matrices', by kind, for each round."""
    command = [sys.executable, __file__, "--as-rank", experiment, f"--faces={num_faces}", f"--rounds={num_rounds}"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
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
    found: list[dict[str, Sequence[float]]] = json.loads(told[0].splitlines()[-1])
    return found


def ratio(rounds: Sequence[dict[str, Sequence[float]]], kind: str, to: str) -> str:
    """Returns the median over rounds of one kind's seconds over another's, and the quartiles where there are enough."""
    ratios = sorted(figures[kind][0] / figures[to][0] for figures in rounds)
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.3f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When a step's buckets leave.

    Attributes:
        ready: share of the step after which each bucket is whole, in the order of sending.
        sizes: bytes of each.
        end: share after which the generator's gradients are waited for.
    """

    ready: Sequence[float]
    sizes: Sequence[int]
    end: float


def timeline(experiment: str, num_faces: int) -> Timeline:
    """Returns when buckets leave in a step, by CPU time, medians; one process takes itself for one of two."""
    gan = dataclasses.replace(players(experiment), gradient_sync="overlap")
    sent: list[tuple[float, int]] = []
    waited: list[float] = []
    kept = dist.is_alone, dist.channel_apart, dist.sum_started, GradientMean.wait

    def note(flat: torch.Tensor, channel: Any) -> Callable[[], None]:
        sent.append((time.process_time(), 4 * flat.numel()))
        return lambda: None

    def wait(mean: GradientMean) -> None:
        waited.append(time.process_time())
        kept[3](mean)

    dist.is_alone, dist.channel_apart, dist.sum_started = (lambda: False), (lambda: None), note
    GradientMean.wait = wait  # type: ignore[method-assign]
    shares: list[list[float]] = []
    try:
        for number in range(4):
            sent.clear()
            waited.clear()
            start = time.process_time()
            train_step(gan, [noise(num_faces)], kimg=1e9)
            seconds = time.process_time() - start
            if number:  # the first one loads and compiles
                shares.append([(moment - start) / seconds for moment in (*(one for one, _ in sent), waited[0])])
    finally:
        dist.is_alone, dist.channel_apart, dist.sum_started, GradientMean.wait = kept  # type: ignore[method-assign]
    *ready, end = (statistics.median(column) for column in zip(*shares, strict=True))
    return Timeline(ready, [size for _, size in sent], end)


def modelled(link: Link, size: int, share: float = 2.0) -> float:
    """Returns the seconds of a message by the formula above: share 2 for an all-reduce, 1 for an all-gather."""
    return share * (link.ranks - 1) / link.ranks * size / (link.bandwidth * 1e9) + link.latency_us * 1e-6


def left_to_wait(link: Link, times: Timeline, step: float) -> float:
    """Returns the seconds that ranks wait for buckets after the backward pass of a step of so many seconds."""
    free = 0.0
    for ready, size in zip(times.ready, times.sizes, strict=True):
        free = max(ready * step, free) + modelled(link, size)
    return max(0.0, free - times.end * step)


def measured_lines(given: argparse.Namespace, experiments: Sequence[str], counts: Sequence[int]) -> Iterator[str]:
    """Yields the table of what was measured."""
    yield f"measured: gloo on this CPU, fp32, one thread, {given.faces} faces a rank, medians of {given.rounds} rounds"
    columns = f"{'step, ms':>10}{'faces/s':>9}{'gradients':>11}{'matrices':>10}{'share':>8}"
    ratios = "".join(f"{name:>22}" for name in ("overlap/flat", "flat/unsent", "overlap/unsent"))
    yield f"{'experiment':20}{'ranks':>6}{columns}{ratios}"
    for experiment in experiments:
        for count in counts:
            rounds = measured(experiment, count, given.faces, given.rounds)
            step, *sending = (
                statistics.median(column) for column in zip(*(one["clocked"] for one in rounds), strict=True)
            )
            line = f"{experiment:20}{count:6}{1000 * step:10.0f}{count * given.faces / step:9.1f}"
            if count > 1:
                line += f"{1000 * sending[0]:11.1f}{1000 * sending[1]:10.1f}{sum(sending) / step:8.1%}"
                pairs = (("overlap", "flat"), ("flat", "unsent"), ("overlap", "unsent"))
                line += "".join(f"{ratio(rounds, *pair):>22}" for pair in pairs)
            yield line


def lines(given: argparse.Namespace) -> Iterator[str]:
    """Yields both tables."""
    experiments = given.experiments.split(",")
    counts = [int(word) for word in given.ranks.split(",") if word]
    if counts:
        yield from measured_lines(given, experiments, counts)
    yield "modelled: NCCL, 64 faces a rank; buckets as they come in a step on this CPU"
    columns = (
        f"{'flat, ms':>10}{'of the step':>13}{'of the GPU':>12}{'overlap, ms':>13}{'of the step':>13}{'of the GPU':>12}"
    )
    yield f"{'experiment':20}{'GPUs':24}{'MB':>6}{columns}"
    for experiment in experiments:
        if experiment not in GPU_STEPS:
            continue
        gan = players(experiment)
        gradients, matrices = bytes_of(gan)
        networks = [
            sum(4 * p.numel() for p in each.parameters()) for each in (gan.generator, gan.discriminator) if each
        ]
        times = timeline(experiment, given.faces)
        step, gpu = (one / 1000 for one in GPU_STEPS[experiment])
        ready = ", ".join(f"{one:.0%}" for one in times.ready)
        yield f"{experiment}: buckets whole at {ready} of a step, needed at {times.end:.0%}"
        for link in LINKS:
            shared = modelled(link, matrices, 1.0) if matrices else 0.0
            flat = sum(modelled(link, size) for size in networks) + shared
            line = f"{experiment:20}{link.name:24}{(gradients + matrices) / 1e6:6.0f}"
            line += f"{1000 * flat:10.2f}{flat / step:13.1%}{flat / gpu:12.1%}"
            # The second is a step that no longer waits for the CPU which launches its kernels.
            hidden = [left_to_wait(link, times, one) + shared for one in (step, gpu)]
            yield f"{line}{1000 * hidden[0]:13.2f}{hidden[0] / step:13.1%}{hidden[1] / gpu:12.1%}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ranks", default="1,2,4", help="numbers of ranks to measure; empty for none")
    parser.add_argument("--experiments", default=",".join(GPU_STEPS))
    parser.add_argument("--faces", type=int, default=4, help="of a rank and step")
    parser.add_argument("--rounds", type=int, default=8, help="measured ones")
    parser.add_argument("--as-rank", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_rank:
        as_rank(given.as_rank, given.faces, given.rounds)
        return
    for line in lines(given):
        print(line, flush=True)


if __name__ == "__main__":
    main()
