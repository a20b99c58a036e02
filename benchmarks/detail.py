"""How much fine detail restored pictures have, and how strong a pattern of the input's pixels, beside the originals.

    uv run benchmarks/detail.py --low DIR --high DIR METHOD [METHOD ...]

METHOD is what `method=` takes. Detail is the root mean square of luma finer than four pixels, in grey levels; the
pattern is that of facesr.losses.checkerboard, as a ratio of mean squares to what chance gives: 1 where details do not
know of the input's pixels. Each method stands plain and with the flip ensemble.
"""

import argparse
from pathlib import Path

from torch import Tensor

from facesr.dist import choose_device
from facesr.errors import exit_code_of
from facesr.image import to_float
from facesr.losses.checkerboard import WINDOW_CELLS, checkerboard
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.png import list_png, stack_pictures

# Half a grey level of amplitude, which rounding alone leaves, over the cells of a window.
ROUNDING = (0.5 / 255.0) ** 2 / WINDOW_CELLS**2


def detail_and_checkerboard(pictures: Tensor) -> tuple[float, float]:
    """Returns mean detail in grey levels and the mean ratio of the pattern to chance, of pictures (N, 3, H, W)."""
    strength, chance = checkerboard(pictures)
    return (chance.sqrt().mean() * WINDOW_CELLS * 255.0).item(), (strength / (chance + ROUNDING)).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--low", type=Path, required=True)
    parser.add_argument("--high", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = choose_device(options.device)
    low = stack_pictures(list_png(options.low).values())
    high = to_float(stack_pictures(list_png(options.high).values()))

    def row(name: str, pictures: Tensor) -> None:
        detail, ratio = detail_and_checkerboard(pictures)
        print(f"{name:44} {detail:8.2f} {ratio:8.2f}", flush=True)

    print(f"{'':44} {'detail':>8} {'checkers':>8}")
    row("the originals", high)
    for name in options.methods:
        method = open_method(name, device)
        for flips, label in ((False, name), (True, f"{name}, flip_ensemble")):
            row(label, to_float(restore_pictures(method, low, device=device, flip_ensemble=flips)))


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
