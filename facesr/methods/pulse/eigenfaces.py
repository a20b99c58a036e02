"""Eigenfaces: a linear-Gaussian generator of faces with 512 latents, so that PULSE runs everywhere.

    facesr eigenfaces fit DATASET OUT.safetensors [--faces N]
    facesr eigenfaces sample FILE.safetensors OUT.png

Without a file it is fitted to the built-in synthetic faces at its first use (facesr.methods.pulse.eigenfaces_fit) and
kept in the cache. It has no mapping network: what it is given is what it takes.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from facesr.arguments import Parser, number
from facesr.data.packed.reader import PackedDataset, synthetic
from facesr.data.synthetic.face.render import RENDERER_VERSION
from facesr.errors import DataError, WeightsError, exit_code_of
from facesr.files import whole_file
from facesr.image import to_uint8
from facesr.methods.pulse.eigenfaces_fit import NUM_LATENTS, fit
from facesr.png import write_png
from facesr.ranges import Range, Seed
from facesr.resample import upscale
from facesr.task import SCALE
from facesr.weights import cache_dir, read_state_dict, sha256_of

FIT_VERSION = 1
# The built-in training set of train.py, which is drawn once for both.
NUM_SYNTHETIC, SEED_SYNTHETIC, PICTURES_EACH = 2000, 1, 4
_NAMES = {"mean", "basis", "std", "axes", "coarse_std", "fine_std"}


_CAVEAT = (
    "generator=eigenfaces is fitted to synthetic faces unless generator.weights= names another fit; "
    "for photographs make one with facesr eigenfaces fit DATASET FILE.safetensors."
)


class Eigenfaces(nn.Module):
    """Principal components, and noise for what they leave over; a `facesr.protocols.LatentGenerator`.

    The first three noise maps are coarse: along one colour axis each, at a quarter of the picture's size, and enlarged.
    The fourth is grain. `spread` widens the components and the coarse noise: real faces vary more widely than a
    Gaussian, and a search on the sphere reaches no farther than the sphere.
    """

    mean: Tensor
    mapped_mean: Tensor
    mapped_std: Tensor
    _directions: Tensor
    _axes: Tensor
    _coarse_std: Tensor
    _fine_std: Tensor

    def __init__(
        self,
        weights: str | Path | None = None,
        spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        noise_spread: Annotated[float, Range(0, 1_000, above=True)] = 1.0,
        name: str = "eigenfaces",
    ) -> None:
        """Reads the file `weights`, or the fit to the synthetic faces, made where it is not there yet.

        Args:
            weights: file of ``fit``; None for the synthetic faces.
            spread: factor of the standard deviations along the components.
            noise_spread: factor of those of the coarse noise.
            name: the generator's name in reports.

        Raises:
            WeightsError: the file is missing, damaged or of another kind.
            ValueError: a spread is not above 0.
        """
        super().__init__()
        if not (spread > 0 and noise_spread > 0):
            raise ValueError("spread and noise_spread have to be above 0")
        path = default_fit() if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"generator.weights={path} is not a file; make one with facesr eigenfaces fit, "
                "or leave the key out for the synthetic faces."
            )
        state = _checked(read_state_dict(path), path)
        # What a user of photographs has to know; open_pulse tells it.
        self.caveat = _CAVEAT if weights is None else ""
        self.name = name
        self.weights_sha256 = sha256_of(path)
        self.num_latents, self.latent_dim = 1, NUM_LATENTS
        height, width = state["mean"].shape[1:]
        self.size = (width, height)
        coarse = (1, height // SCALE, width // SCALE)
        self.noise_shapes: tuple[tuple[int, int, int], ...] = (coarse, coarse, coarse, (1, height, width))
        self.noise_constants: tuple[Tensor, ...] = ()
        directions = state["basis"].flatten(1) * (spread * state["std"][:, None])
        for key, value in (
            ("mean", state["mean"]),
            ("_directions", directions),
            ("_axes", state["axes"]),
            ("_coarse_std", noise_spread * state["coarse_std"]),
            ("_fine_std", state["fine_std"]),
            ("mapped_mean", torch.zeros(NUM_LATENTS)),
            ("mapped_std", torch.ones(NUM_LATENTS)),
        ):
            self.register_buffer(key, value.contiguous(), persistent=False)

    def map(self, latents: Tensor) -> Tensor:
        """Returns the latents (N, 1, 512) as they are."""
        return latents

    def synthesise(self, mapped: Tensor, noises: Sequence[Tensor]) -> Tensor:
        """Returns pictures (N, 3, H, W), about [0, 1]; see `facesr.protocols.LatentGenerator`."""
        width, height = self.size
        picture = (mapped[:, 0] @ self._directions).view(-1, 3, height, width) + self.mean
        coarse = torch.cat(list(noises[:3]), dim=1) * self._coarse_std
        picture = picture + upscale(torch.einsum("nahw,ac->nchw", coarse, self._axes))
        return picture + noises[3] * self._fine_std


def _checked(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a fit.

    Raises:
        WeightsError: names or shapes are others.
    """
    mean = state.get("mean", torch.empty(0))
    side = tuple(mean.shape[1:])
    if set(state) == _NAMES and mean.dim() == 3 and mean.shape[0] == 3:
        small = tuple(length // SCALE for length in side)
        shapes = {
            "mean": (3, *side),
            "basis": (NUM_LATENTS, 3, *side),
            "std": (NUM_LATENTS,),
            "axes": (3, 3),
            "coarse_std": (3, *small),
            "fine_std": side,
        }
        if all(tuple(state[key].shape) == shape for key, shape in shapes.items()):
            return state
    raise WeightsError(f"{path} holds no eigenfaces; make such a file with facesr eigenfaces fit.")


def write_fit(state: dict[str, Tensor], path: Path) -> None:
    """Writes the tensors of a fit so that the file is either whole or absent.

    Raises:
        WeightsError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            save_file({key: value.contiguous() for key, value in state.items()}, temporary)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror}.") from error


def default_fit() -> Path:
    """Returns the file of the fit to the synthetic faces, made at the first call and kept in the cache."""
    path = cache_dir() / "eigenfaces" / f"builtin-v{RENDERER_VERSION}-fit{FIT_VERSION}-n{NUM_SYNTHETIC}.safetensors"
    if not path.is_file():
        write_fit(fit_set(synthetic(NUM_SYNTHETIC, SEED_SYNTHETIC, PICTURES_EACH)), path)
    return path


def fit_set(faces: PackedDataset, num_faces: int | None = None) -> dict[str, Tensor]:
    """Returns the tensors of a fit to the first faces of a prepared dataset, without their margin.

    Raises:
        DataError: there are too few faces, or a side is no multiple of 4.
    """
    if num_faces is not None and not 2 <= num_faces <= len(faces):
        raise DataError(f"{faces.path} holds {len(faces)} faces; choose --faces from 2 to that.")
    margin = faces.margin
    height, width = (side - 2 * margin for side in faces.images.shape[1:3])
    return fit(faces.images[:num_faces, margin : margin + height, margin : margin + width])


@torch.no_grad()
def sample_sheet(generator: Eigenfaces, rows: int = 4, columns: int = 8, seed: int = 0) -> Tensor:
    """Returns a sheet of synthetic faces, (3, rows * H, columns * W), about [0, 1]: what it takes for faces."""
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows * columns, 1, NUM_LATENTS, generator=draw)
    noises = [torch.randn(rows * columns, *shape, generator=draw) for shape in generator.noise_shapes]
    pictures = generator.synthesise(generator.map(latents), [*noises[:-1], torch.zeros_like(noises[-1])])
    height, width = pictures.shape[-2:]
    grid = pictures.view(rows, columns, 3, height, width).permute(2, 0, 3, 1, 4)
    return grid.reshape(3, rows * height, columns * width)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    parser = Parser(prog="facesr eigenfaces", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="fits eigenfaces to a prepared dataset")
    fitting.add_argument("prepared_set", type=Path)
    fitting.add_argument("out", type=Path, help="OUT.safetensors")
    fitting.add_argument(
        "--faces", type=number(Annotated[int, Range(2, 10_000_000)]), help="the first so many faces (default: all)"
    )
    sampling = commands.add_parser("sample", help="draws a sheet of faces")
    sampling.add_argument("file", type=Path, help="FILE.safetensors")
    sampling.add_argument("out", type=Path, help="OUT.png")
    sampling.add_argument("--seed", type=number(Seed), default=0)
    chosen = parser.parse_args(arguments)
    return exit_code_of(functools.partial(_fit_command if chosen.command == "fit" else _sample_command, chosen))


def _fit_command(chosen: argparse.Namespace) -> None:
    if chosen.out.suffix != ".safetensors":
        raise WeightsError(f"{chosen.out} does not end in .safetensors; give OUT.safetensors.")
    faces = PackedDataset.open(chosen.prepared_set.expanduser())
    state = fit_set(faces, chosen.faces)
    write_fit(state, chosen.out)
    num = len(faces) if chosen.faces is None else chosen.faces
    print(f"{chosen.out}: {int((state['std'] > 0).sum())} components of {num} faces")


def _sample_command(chosen: argparse.Namespace) -> None:
    sheet = sample_sheet(Eigenfaces(chosen.file), seed=chosen.seed)
    write_png(chosen.out, to_uint8(sheet[None])[0])
    print(f"{chosen.out}: synthetic faces, of nobody")
