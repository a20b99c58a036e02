"""Batched augmentation of high-resolution faces, on the device that trains.

The random draws are a pure function of (seed, position in the run): no random state is kept, a resumed run
draws what the uninterrupted one would have drawn, and each rank takes its share of one global batch.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facesr.config import AugmentationSettings
from facesr.image import luma, round_to_grey_levels

# Where each of the 5 landmarks is found in a mirrored picture: the left eye is the right one, and so on.
MIRRORED_LANDMARKS = (1, 0, 2, 4, 3)


@dataclass(frozen=True)
class Draws:
    """One random change per face; every array has N entries."""

    flip: NDArray[np.bool_]
    warp: NDArray[np.bool_]
    roll: NDArray[np.float32]  # radians
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]  # (N, 2), pixels x and y
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    saturation: NDArray[np.float32]
    grey: NDArray[np.bool_]
    quarters: NDArray[np.int64]  # quarter turns counter-clockwise, 0..3
    light: NDArray[np.float32]  # (N, 3), factor on R, G and B
    noise: NDArray[np.float32]  # standard deviation, in [0, 1] units
    noise_seed: NDArray[np.int64]  # of each face's noise

    def part(self, start: int, stop: int) -> "Draws":
        """Returns the draws of the faces start..stop of the batch."""
        return Draws(**{name: value[start:stop] for name, value in vars(self).items()})


def draw(settings: AugmentationSettings, num_faces: int, seed: int, position: int) -> Draws:
    """Returns the changes for `num_faces` faces, beginning at `position` images into the run."""
    generator = np.random.Generator(np.random.Philox(key=[seed, position]))
    uniform = generator.random((4, num_faces))
    normal = generator.standard_normal((5, num_faces)).clip(-2.5, 2.5).astype(np.float32)
    shift = generator.uniform(-settings.shift_px, settings.shift_px, (num_faces, 2)).astype(np.float32)
    # Drawn last and whether wanted or not: the draws above are those of runs that know no turns.
    quarters = np.where(generator.random(num_faces) < settings.turn, generator.integers(1, 4, num_faces), 0)
    # Likewise behind them.
    hard = generator.random(num_faces) < settings.hard
    light = generator.standard_normal((num_faces, 3)).clip(-2.5, 2.5) * settings.hard_light
    colour = generator.random(num_faces) * math.log(settings.hard_saturation)
    noise = (generator.random(num_faces) * 2.0 - 1.0).clip(0.0) * settings.hard_noise
    noise_seed = generator.integers(0, 2**62, num_faces)
    warp = uniform[1] < settings.warp
    # Faces that are not resampled move by whole pixels, which keeps them sharp.
    shift = np.where(warp[:, None], shift, np.round(shift))
    return Draws(
        flip=uniform[0] < settings.flip,
        warp=warp,
        roll=np.where(warp, normal[0] * math.radians(settings.roll_degrees), 0.0).astype(np.float32),
        scale=np.where(warp, np.exp(normal[1] * settings.scale), 1.0).astype(np.float32),
        shift=shift.astype(np.float32),
        brightness=normal[2] * settings.brightness,
        contrast=np.exp(normal[3] * settings.contrast).astype(np.float32),
        saturation=np.exp(normal[4] * settings.saturation + np.where(hard, colour, 0.0)).astype(np.float32),
        grey=uniform[2] < settings.greyscale,
        quarters=quarters,
        light=np.exp(np.where(hard[:, None], light, 0.0)).astype(np.float32),
        noise=np.where(hard, noise, 0.0).astype(np.float32),
        noise_seed=noise_seed,
    )


def augment(faces: Tensor, draws: Draws, margin: int) -> Tensor:
    """Returns changed faces, whole grey levels in [0, 1], cropped to the stored margin's inside.

    Args:
        faces: float32 (N, 3, H + 2 * margin, W + 2 * margin) in [0, 1].
        draws: N changes; quarter turns need H = W.
        margin: stored pixels around the crop; where it is too small for a change the picture is mirrored.
    """
    moved = _colour(_move(_turn(faces, draws), draws, margin), draws)
    return round_to_grey_levels(_noisy(moved, draws))


def move_landmarks(landmarks: NDArray[np.float32], draws: Draws, height: int, width: int) -> NDArray[np.float32]:
    """Returns where `augment` puts landmarks, float32 (N, 5, 2), left and right as seen in the changed picture.

    They may lie outside of the picture; NaN stays NaN.

    Args:
        landmarks: float32 (N, 5, 2), x and y in pixels of the crop without margin, pixel centres at whole numbers: left
            eye, right eye, nose tip, left and right mouth corner as seen in the picture.
        draws: N changes.
        height: of the crop.
        width: of the crop.
    """
    centre = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
    points = landmarks - centre
    for _ in range(3):
        turned = draws.quarters > 0
        points = np.where(turned[:, None, None], np.stack([points[..., 1], -points[..., 0]], -1), points)
        draws = replace(draws, quarters=draws.quarters - 1)
    mirrored = points[:, MIRRORED_LANDMARKS] * np.array([-1.0, 1.0], np.float32)
    points = np.where(draws.flip[:, None, None], mirrored, points)
    # `_move` maps output to input pixels by a roll over a scale, less the shift; this is its inverse.
    points = points + draws.shift[:, None, :]
    cosine, sine = np.cos(draws.roll)[:, None], np.sin(draws.roll)[:, None]
    x, y = points[..., 0], points[..., 1]
    rolled = np.stack([cosine * x + sine * y, cosine * y - sine * x], -1) * draws.scale[:, None, None]
    return (rolled + centre).astype(np.float32)


def _move(faces: Tensor, draws: Draws, margin: int) -> Tensor:
    device = faces.device
    flip = torch.from_numpy(draws.flip).to(device)
    faces = torch.where(flip[:, None, None, None], faces.flip(-1), faces)
    full_height, full_width = faces.shape[2:]
    height, width = full_height - 2 * margin, full_width - 2 * margin
    warp = torch.from_numpy(np.flatnonzero(draws.warp)).to(device)
    result = _shift(faces, draws.shift, height, width, margin)
    if len(warp):
        chosen = draws.warp
        cosine, sine = np.cos(draws.roll[chosen]), np.sin(draws.roll[chosen])
        inverse_scale = 1.0 / draws.scale[chosen]
        # Rows of the map from output pixels (centred) to input pixels (centred); x and y in pixels.
        matrix = np.stack(
            [
                np.stack([cosine * inverse_scale, -sine * inverse_scale, -draws.shift[chosen, 0]], -1),
                np.stack([sine * inverse_scale, cosine * inverse_scale, -draws.shift[chosen, 1]], -1),
            ],
            axis=1,
        )
        grid = _grid(torch.from_numpy(matrix.astype(np.float32)).to(device), height, width, full_height, full_width)
        warped = functional.grid_sample(
            faces[warp], grid, mode="bicubic", padding_mode="reflection", align_corners=False
        )
        result = result.index_copy(0, warp, warped)
    return result


def _turn(faces: Tensor, draws: Draws) -> Tensor:
    """Returns faces (N, 3, H, H) turned by whole quarters, pixel by pixel; those without a turn as they are."""
    if not draws.quarters.any():
        return faces
    turned = faces.clone()
    for number in range(1, 4):
        chosen = torch.from_numpy(np.flatnonzero(draws.quarters == number)).to(faces.device)
        turned[chosen] = faces[chosen].rot90(number, (2, 3))
    return turned


def _grid(matrix: Tensor, height: int, width: int, full_height: int, full_width: int) -> Tensor:
    """Returns the sampling grid (N, height, width, 2) in grid_sample's coordinates for (N, 2, 3) pixel maps."""
    y = torch.arange(height, device=matrix.device, dtype=torch.float32) - (height - 1) / 2
    x = torch.arange(width, device=matrix.device, dtype=torch.float32) - (width - 1) / 2
    one = torch.ones(height, width, device=matrix.device)
    points = torch.stack([x[None, :].expand(height, -1), y[:, None].expand(-1, width), one], -1)
    mapped = torch.einsum("nij,hwj->nhwi", matrix, points)
    return mapped * torch.tensor([2.0 / full_width, 2.0 / full_height], device=matrix.device)


def _shift(faces: Tensor, shift: NDArray[np.float32], height: int, width: int, margin: int) -> Tensor:
    """Returns each face's centre crop moved by whole pixels (N, 2), mirrored where no pixels are stored."""
    reach = int(np.abs(np.round(shift)).max(initial=0))
    border = max(reach - margin, 0)
    if border:
        faces = functional.pad(faces, (border, border, border, border), mode="reflect")
    start = margin + border
    whole = np.round(shift).astype(int)
    return torch.stack(
        [
            face[:, start - dy : start - dy + height, start - dx : start - dx + width]
            for face, (dx, dy) in zip(faces, whole, strict=True)
        ]
    )


def _colour(faces: Tensor, draws: Draws) -> Tensor:
    def column(values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(faces.device)[:, None, None, None]

    grey = luma(faces)
    saturation = np.where(draws.grey, 0.0, draws.saturation).astype(np.float32)
    faces = grey + (faces - grey) * column(saturation)
    middle = grey.mean((2, 3), keepdim=True)
    faces = middle + (faces - middle) * column(draws.contrast) + column(draws.brightness)
    return faces * torch.from_numpy(draws.light).to(faces.device)[:, :, None, None]


def _noisy(faces: Tensor, draws: Draws) -> Tensor:
    """Returns faces (N, 3, H, W), those that get noise clamped to [0, 1] before it, as a camera's are."""
    chosen = np.flatnonzero(draws.noise > 0)
    if not len(chosen):
        return faces
    noisy = faces.clone()
    for number in chosen:
        generator = np.random.Generator(np.random.Philox(key=[0, int(draws.noise_seed[number])]))
        noise = torch.from_numpy(generator.standard_normal(faces.shape[1:], np.float32)).to(faces.device)
        noisy[number] = faces[number].clamp(0.0, 1.0) + float(draws.noise[number]) * noise
    return noisy
