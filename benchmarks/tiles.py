"""What tiles cost beside the whole picture: CPU seconds of both in one process, in turns, memory, and how they differ.

    uv run benchmarks/tiles.py [METHOD] [--side 576] [--tiles 192:24,384:24 | --tiles background] [--rounds 2]

METHOD (pretrained:general) restores a square made picture, dead leaves with a camera's noise, whole and by each pair of
`tile_px:tile_overlap_px`; `background` are the tiles of `facesr restore background=METHOD`. One thread. Printed: CPU
seconds and the ratio to the whole picture, round by round; pixels seen for each pixel; the largest difference in grey
levels and how many values differ; memory that the first call added, smaller tiles first and the whole picture last.
"""

import argparse
import time

import numpy as np
import torch

from facesr.data.synthetic.dead_leaves import render_pictures
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.processes import peak_memory_mib
from facesr.restore_photo.background import background_of
from facesr.tiles import Tiles

CPU = torch.device("cpu")


def seen_share(tiles: Tiles, side: int) -> float:
    """Returns how many pixels tiles see for each pixel of a square picture."""
    return (sum(stretch.seen[1] - stretch.seen[0] for stretch in tiles.along(side)) / side) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="pretrained:general")
    parser.add_argument("--side", type=int, default=576)
    parser.add_argument("--tiles", default="192:24,background")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    method, side = open_method(given.method, CPU), given.side
    ways = {
        name: background_of(method, CPU).tiles if name == "background" else Tiles(*map(int, name.split(":")))
        for name in given.tiles.split(",")
    }
    ways = dict(sorted(ways.items(), key=lambda way: way[1].side_px)) | {"whole": Tiles(side, 0)}
    low = np.ascontiguousarray(render_pictures(1, side, side))
    answers, spent, added = {}, {name: [] for name in ways}, {}
    for number in range(given.rounds):
        for name, tiles in ways.items():
            before, start = peak_memory_mib(), time.process_time()
            answers[name] = restore_pictures(method, low, device=CPU, tiles=tiles)
            spent[name].append(time.process_time() - start)
            if not number:
                added[name] = (peak_memory_mib() or 0.0) - (before or 0.0)
    print(f"{given.method}, {side}x{side}, one thread")
    for name, tiles in ways.items():
        apart = np.abs(answers[name].astype(int) - answers["whole"])
        ratios = ", ".join(f"{one / whole:.2f}" for one, whole in zip(spent[name], spent["whole"], strict=True))
        print(
            f"{name}: tiles of {tiles.side_px}, overlap {tiles.overlap_px}: {min(spent[name]):.1f} CPU s, "
            f"{ratios} of the whole; sees {seen_share(tiles, side):.2f}; at most {apart.max()} grey levels, "
            f"{100 * (apart > 0).mean():.4f} % differ; +{added[name]:.0f} MiB"
        )


if __name__ == "__main__":
    main()
