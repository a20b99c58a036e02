"""What the host's feed delivers to a consumer that takes faces as fast as it can, and what a device-resident set saves.

    uv run benchmarks/feed_limit.py [--rate 20000] [--batch-size 256] [--seconds 3] [--cores 1,2]

Reading from a memory map is one thread's work, as in training; augmentation is done where the faces are used, on a GPU
in training, so it is told apart. The consumer stands for one that takes --rate images a second: it waits for a batch,
then sleeps as long as its step would take. The share of time that it waits is what a GPU of that speed would wait.
"""

import argparse
import os
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from feeding import noise_set

from facesr.build import load_settings
from facesr.config import DataSettings, TrainSettings
from facesr.data.feed.loader import NUM_PREFETCHED, Feed
from facesr.data.packed.reader import PackedDataset

NUM_FACES = 4000


def feed_of(faces: PackedDataset, batch_size: int, residency: str) -> Feed:
    """Returns the feed of a run on a CPU."""
    augmentation = load_settings("train", TrainSettings, ["experiment=asc19_pixel"]).data.augmentation
    data = DataSettings({}, {}, residency, augmentation)
    return Feed(faces, data, seed=1, batch_size=batch_size, rank=0, world_size=1, device=torch.device("cpu"))


def read(feed: Feed, clock: int) -> torch.Tensor:
    """Returns the uint8 faces at a clock, as the reading thread of a run does."""
    return feed._read(feed.order.at(clock, feed.batch_size))


def reading_rate(feed: Feed, seconds: float) -> float:
    """Returns the images a second that one thread reads."""
    clock, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        read(feed, clock)
        clock += feed.batch_size
    return clock / (time.perf_counter() - start)


def augmenting_rate(feed: Feed, seconds: float) -> float:
    """Returns the images a second that are read and augmented on the CPU."""
    batches, count, start = feed.batches(0), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def waiting_share(feed: Feed, rate: float, seconds: float) -> tuple[float, float]:
    """Returns the images a second that a consumer of `rate` gets, and the share of its time that it waits."""
    ready: queue.Queue[torch.Tensor] = queue.Queue(NUM_PREFETCHED)
    stop = threading.Event()

    def fill() -> None:
        clock = 0
        while not stop.is_set():
            batch = read(feed, clock)
            while not stop.is_set():
                try:
                    ready.put(batch, timeout=0.1)
                    break
                except queue.Full:
                    continue
            clock += feed.batch_size

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    count, waited, start = 0, 0.0, time.perf_counter()
    while (now := time.perf_counter()) - start < seconds:
        count += len(ready.get())
        waited += time.perf_counter() - now
        time.sleep(feed.batch_size / rate)
    took = time.perf_counter() - start
    stop.set()
    thread.join()
    return count / took, waited / took


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rate", type=float, default=20_000.0)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cores", default="1,2")
    given = parser.parse_args()
    # Linux alone says where a process may run.
    set_affinity, get_affinity = (getattr(os, f"sched_{what}affinity", None) for what in ("set", "get"))
    if set_affinity is None or get_affinity is None:
        sys.exit("feed_limit.py counts cores as Linux does; run it there.")
    allowed = sorted(get_affinity(0))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        faces = noise_set(Path(folder), NUM_FACES)
        picture = np.prod(faces.images.shape[1:])
        print(
            f"{'cores':>6}{'read, images/s':>16}{'GB/s':>7}{'augmented here too':>20}{'consumer gets':>15}{'waits':>8}"
        )
        for cores in map(int, given.cores.split(",")):
            set_affinity(0, allowed[:cores])
            torch.set_num_threads(cores)
            feed = feed_of(faces, given.batch_size, "host")
            rate = reading_rate(feed, given.seconds)
            augmented = augmenting_rate(feed, given.seconds)
            got, waits = waiting_share(feed, given.rate, given.seconds)
            print(f"{cores:6}{rate:16,.0f}{rate * picture / 1e9:7.2f}{augmented:20,.0f}{got:15,.0f}{waits:8.0%}")


if __name__ == "__main__":
    main()
