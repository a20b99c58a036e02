"""Makes training faces without a photograph: portraits that a generator invents, cut to the competition's framing.

    uv run --extra portraits facesr portraits data/portraits --faces 5000
    uv run train.py experiment=asc19_pixel "data.train.path=[data/faces,data/portraits]" "data.train.shares=[0.6,0.4]"

The generator is MobileStyleGAN, distilled from StyleGAN2 FFHQ: its portraits are framed as FFHQ's pictures are, and are
1024x1024, so that a crop of 96x112 is shrunk eightfold and keeps no trace of a network. FFHQ's portraits are upright;
crops are rolled, shifted and scaled as much as the competition's faces are. The same command goes on with a stopped
run. Who trains on such a set trains on what FFHQ taught: its licence (research use) goes along, and set.json says so.
"""

import argparse
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr import dist
from facesr.arguments import Parser, number
from facesr.data.packed.dataset_format import Row, SetPlan
from facesr.data.packed.writer import DatasetWriter
from facesr.data.prepare.common import add_margin, add_overwrite, note_space, progress, run_command
from facesr.errors import ConfigError
from facesr.image import to_uint8
from facesr.methods.pulse import mobilestylegan
from facesr.models.mobile_style_generator import MobileStyleGenerator
from facesr.photos.crop import Framing, Placement, Points, cut, place_ffhq
from facesr.processes import num_cores
from facesr.ranges import Count, Range, Seed

VERSION = 1  # raised when the same settings give other pictures
NUM_FOR_MEAN = 10_000  # styles that the mean, to which others are drawn, is taken over
# Standard deviations of the competition's faces: roll as far as their 5th to 95th percentile say, the middle of the
# detector's box as measured on the 300 official ones (docs/log.md, "Turned heads").
ROLL_DEGREES, SHIFT_PX, SCALE = 12.0, 5.0, 0.06
MOST = 2.5  # standard deviations; what lies further is brought back to that
TRUNCATION = (0.65, 1.0)
CROPS_EACH, BATCH_SIZE = 2, 4

Degrees = Annotated[float, Range(0, 90)]
Pixels = Annotated[float, Range(0, 20)]
Factor = Annotated[float, Range(0, 0.3)]
Share = Annotated[float, Range(0, 1)]
CropsEach = Annotated[int, Range(1, 100)]
BatchSize = Annotated[int, Range(1, 1_024)]


@dataclass(frozen=True)
class Drawn:
    """How portraits are drawn and cut.

    Attributes:
        num_faces: portraits.
        crops: of each portrait, each in its own place.
        truncation: least and largest factor by which a style is drawn to their mean; 1 leaves it, 0 gives the mean.
            Source: Karras et al., StyleGAN, arXiv 1812.04948, appendix B.
        roll_degrees, shift_px, scale: standard deviations of a crop's roll, shift and logarithm of size.
        margin: pixels stored around the crop on each side.
        seed: portrait number K is that of seed + K.
    """

    num_faces: int
    crops: int = CROPS_EACH
    truncation: tuple[float, float] = TRUNCATION
    roll_degrees: float = ROLL_DEGREES
    shift_px: float = SHIFT_PX
    scale: float = SCALE
    margin: int = 0
    seed: int = 0

    @property
    def framing(self) -> Framing:
        """The competition's, with the margin."""
        return Framing("ffhq", margin=self.margin)

    def plan(self, network_sha256: str) -> SetPlan:
        """Returns what the set is made of, for a network of that digest."""
        framing = self.framing
        names = [f"portrait_{self.seed + one:08d}" for one in range(self.num_faces)]
        # Neither how many there are nor the margin is told twice.
        own = {key: value for key, value in asdict(self).items() if key not in ("num_faces", "margin")}
        settings = {"source": "mobilestylegan", "network_sha256": network_sha256, "crop": framing.crop, **own}
        settings |= {"truncation": list(self.truncation), "faces": self.num_faces, "licence": mobilestylegan.LICENCE}
        return SetPlan(framing.width, framing.height, self.margin, names, [""] * self.num_faces, settings, VERSION)


def moved(placement: Placement, framing: Framing, roll_degrees: float, shift: Points, scale: float) -> Placement:
    """Returns a placement whose face is rolled, shifted and enlarged in the crop.

    Args:
        placement: of the crop in the picture, (2, 3).
        framing: of the crop; the face is rolled about the crop's middle.
        roll_degrees: clockwise as seen.
        shift: (2,) x and y in pixels of the crop, to the right and down.
        scale: factor of the face's size.
    """
    angle = math.radians(roll_degrees)
    middle = np.array([framing.width - 1, framing.height - 1]) / 2
    # From a pixel of the new crop back to that of the old one.
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / scale
    old = np.column_stack([back, middle - back @ (middle + shift)])
    return np.column_stack([placement[:, :2] @ old[:, :2], placement[:, :2] @ old[:, 2] + placement[:, 2]])


def styles(network: MobileStyleGenerator, drawn: Drawn, numbers: Sequence[int], mean: Tensor) -> Tensor:
    """Returns the styles (N, D) of portraits, each of its own seed, on the network's device."""
    draws = [torch.Generator().manual_seed(drawn.seed + one) for one in numbers]
    latents = torch.cat([torch.randn(1, network.latent_dim, generator=draw) for draw in draws])
    low, high = drawn.truncation
    factors = torch.cat([low + (high - low) * torch.rand(1, 1, generator=draw) for draw in draws])
    return mean + factors.to(mean.device) * (network.map(latents.to(mean.device)) - mean)


def mean_style(network: MobileStyleGenerator, device: torch.device) -> Tensor:
    """Returns the mean (D,) of the styles of `NUM_FOR_MEAN` fixed draws."""
    latents = torch.randn(NUM_FOR_MEAN, network.latent_dim, generator=torch.Generator().manual_seed(0))
    return network.map(latents.to(device)).mean(0)


def crops_of(portrait: NDArray[np.uint8], drawn: Drawn, one: int) -> NDArray[np.uint8]:
    """Returns the crops (drawn.crops, H, W, 3) of portrait number `one`, uint8 (S, S, 3); every second one mirrored."""
    draw = np.random.default_rng([drawn.seed + one, 1])
    framing = drawn.framing
    placement = place_ffhq(portrait.shape[1], portrait.shape[0], framing)
    found = []
    for place_number in range(drawn.crops):
        roll, across, down, size = np.clip(draw.standard_normal(4), -MOST, MOST)
        shift = drawn.shift_px * np.array([across, down])
        place = moved(placement, framing, drawn.roll_degrees * roll, shift, math.exp(drawn.scale * size))
        crop = cut(portrait, place, framing)
        found.append(crop[:, ::-1] if place_number % 2 else crop)
    return np.stack(found)


@torch.no_grad()
def batches(network: MobileStyleGenerator, drawn: Drawn, first: int, size: int) -> Iterator[NDArray[np.uint8]]:
    """Yields the crops of the portraits from number `first` on, uint8 (n * drawn.crops, H, W, 3), `size` at a time."""
    device = next(network.parameters()).device
    mean = mean_style(network, device)
    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(first, drawn.num_faces, size):
            numbers = range(start, min(start + size, drawn.num_faces))
            mapped = styles(network, drawn, numbers, mean)[:, None].expand(-1, network.num_latents, -1)
            noises = [one.expand(len(numbers), -1, -1, -1) for one in network.noise_constants]
            pictures = to_uint8(network(mapped, noises).add(1.0).div(2.0))
            cuts = pool.map(crops_of, pictures, itertools.repeat(drawn), numbers)
            yield np.concatenate(list(cuts))


def draw_set(
    out: Path,
    drawn: Drawn,
    load: Callable[[], tuple[MobileStyleGenerator, str]],
    *,
    batch_size: int = BATCH_SIZE,
    device: torch.device | None = None,
    overwrite: bool = False,
) -> int:
    """Makes the set, or goes on with it, and returns how many crops it holds.

    Args:
        out: folder of the prepared dataset.
        drawn: what to draw.
        load: returns the network and a digest of its weights.
        batch_size: portraits at a time.
        device: of the network; None is the CPU.
        overwrite: replace a set that was made with other settings.

    Raises:
        ConfigError: the truncation's limits are the wrong way round.
        DataError: the folder holds another set or cannot be written.
        WeightsError: see `load`.
    """
    if drawn.truncation[0] > drawn.truncation[1]:
        low, high = drawn.truncation
        raise ConfigError(f"--truncation {low:g} {high:g}: the first number must not be above the second.")
    network, digest = load()
    network = network.to(device or torch.device("cpu")).eval().requires_grad_(False)
    with DatasetWriter(out, drawn.plan(digest), overwrite=overwrite) as writer:
        if not writer.is_complete:
            note_space(writer)
            parts = [str(part) for part in range(drawn.crops)]
            with progress(drawn.num_faces, writer.num_done) as advance:
                for crops in batches(network, drawn, writer.num_done, batch_size):
                    rows = [Row("", parts=parts)] * (len(crops) // drawn.crops)
                    writer.append(crops, rows)
                    advance(len(rows))
            writer.finish()
    return drawn.num_faces * drawn.crops


def load_published(weights: Path | None) -> tuple[MobileStyleGenerator, str]:
    """Returns the published network and the digest of its files; None finds them as generator=mobilestylegan does.

    Raises:
        WeightsError: they are not there, or other ones.
    """
    files = mobilestylegan.read_files(mobilestylegan.find_place(weights))
    return mobilestylegan.build_network(files), mobilestylegan.identity_of_files()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = Parser(prog="facesr portraits", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("out", type=Path, help="folder for the prepared dataset")
    add("--faces", type=number(Count), default=5000, metavar="N", help="portraits (default 5000)")
    add("--crops", type=number(CropsEach), default=CROPS_EACH, metavar="N",
        help=f"of each portrait (default {CROPS_EACH})")  # fmt: skip
    add("--truncation", type=number(Share), nargs=2, default=TRUNCATION, metavar=("LEAST", "MOST"),
        help="how far a style keeps from the mean: 1 varies most, 0 is one face (default 0.65 1)")  # fmt: skip
    add("--roll", type=number(Degrees), default=ROLL_DEGREES, metavar="DEGREES",
        help=f"standard deviation (default {ROLL_DEGREES:g})")  # fmt: skip
    add("--shift", type=number(Pixels), default=SHIFT_PX, metavar="PX",
        help=f"standard deviation (default {SHIFT_PX:g})")  # fmt: skip
    add("--scale", type=number(Factor), default=SCALE, metavar="X",
        help=f"standard deviation of the size's logarithm (default {SCALE:g})")  # fmt: skip
    add_margin(parser, "the crop", 0)
    add("--seed", type=number(Seed), default=0, metavar="N", help="of the first portrait (default 0)")
    add("--weights", type=Path, metavar="WHEEL", help="wheel or folder of random-face (default: the extra portraits)")
    add("--batch-size", type=number(BatchSize), default=BATCH_SIZE, metavar="N",
        help=f"portraits at a time (default {BATCH_SIZE})")  # fmt: skip
    add("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add_overwrite(parser)
    return run_command(functools.partial(_run, parser.parse_args(arguments)))


def _run(chosen: argparse.Namespace) -> None:
    drawn = Drawn(
        chosen.faces, chosen.crops, tuple(chosen.truncation), chosen.roll, chosen.shift, chosen.scale, chosen.margin,
        chosen.seed,
    )  # fmt: skip
    print(f"note: {mobilestylegan.LICENCE}")
    num = draw_set(
        chosen.out.expanduser(), drawn, functools.partial(load_published, chosen.weights),
        batch_size=chosen.batch_size, device=dist.choose_device(chosen.device), overwrite=chosen.overwrite,
    )  # fmt: skip
    print(f"{chosen.out}: {num} crops of {drawn.num_faces} portraits of nobody")
