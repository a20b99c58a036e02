"""Writes portraits that MobileStyleGAN invents, and the inputs of 16x16 pixels that the search is given.

    uv run --extra portraits docs/images/pulse_inputs.py FOLDER [--seeds 3 8 21]

FOLDER/high holds the portraits, 1024x1024, FOLDER/low what the search's own square operator makes of them. Nobody real
is in them. Styles are drawn towards their mean by 0.6 (the truncation trick of StyleGAN, arXiv 1812.04948, appendix B).
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from facesr.build import build, load_group
from facesr.image import to_float, to_uint8
from facesr.methods.pulse.operator import operator_for
from facesr.places import Place
from facesr.png import write_png

TRUNCATION, LOW_SIDE, NUM_FOR_MEAN = 0.6, 16, 10_000
REMARK = "synthetic face: invented by MobileStyleGAN, nobody real; non-commercial use"


def styles_of(generator: torch.nn.Module, seeds: list[int]) -> Tensor:
    """Returns the truncated styles (N, L, D) of the portraits with those seeds."""
    network = generator.network
    mean = network.map(torch.randn(NUM_FOR_MEAN, generator.latent_dim, generator=torch.Generator().manual_seed(0)))
    drawn = [torch.randn(1, generator.latent_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    style = mean.mean(0) + TRUNCATION * (network.map(torch.cat(drawn)) - mean.mean(0))
    return style[:, None].expand(-1, generator.num_latents, -1)


@torch.no_grad()
def main() -> None:
    """Writes both folders."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 8, 21])
    chosen = parser.parse_args()
    generator = build(load_group("latent_generator", "mobilestylegan", []), Place.LATENT_GENERATOR).eval()
    operator = operator_for("square", generator.size, (LOW_SIDE, LOW_SIDE))
    for name in ("high", "low"):
        (chosen.folder / name).mkdir(parents=True, exist_ok=True)
    for seed, style in zip(chosen.seeds, styles_of(generator, chosen.seeds), strict=True):
        picture = to_uint8(generator.synthesise(style[None], [one[None] for one in generator.noise_constants]))
        write_png(chosen.folder / "high" / f"{seed}.png", picture[0], REMARK)
        low = to_uint8(operator.downscale(to_float(picture)))
        write_png(chosen.folder / "low" / f"{seed}.png", low[0], REMARK)


if __name__ == "__main__":
    main()
