"""Putting restored faces back into a picture, exactly where they came from.

What is pasted is the difference between the restored face and the background, so that a face equal to its background
changes nothing, and detail that the background has and the crop cannot hold stays. Positions are pixel centres at whole
numbers throughout; the usual helper for this task (facexlib) adds half a pixel of the output, which moves a face.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.photos.crop import BOX_CENTRE, Framing, Placement
from facesr.resample import resize_matrix

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]

# The mask's ellipse in the framing's 96x112: all of the face, none of the crop's edge.
SEMI_AXES = (42.0, 50.0)
# Share of the ellipse's radius over which the mask falls from 1 to 0.
FEATHER = 0.25
# What changes more slowly than this many pixels of the 96x112 is colour and light, and stays the background's.
COLOUR_SIGMA = 12.0


@dataclass(frozen=True)
class Patch:
    """A restored face on its way back.

    Attributes:
        change: float32 (h, w, 3), restored face less background, in grey levels of 8 bits, in the crop's pixels.
        placement: (2, 3), takes a point of the crop to its point in the picture that is pasted into.
        framing: of the crop.
    """

    change: Floats
    placement: Placement
    framing: Framing

    @property
    def centre(self) -> NDArray[np.float64]:
        """(2,) middle of the mask, in pixels of the picture."""
        middle = self.framing.from_reference(np.array(BOX_CENTRE))
        found: NDArray[np.float64] = self.placement[:, :2] @ middle + self.placement[:, 2]
        return found

    @property
    def pitch(self) -> float:
        """Pixels of the picture per pixel of the crop."""
        return pitch_of(self.placement)


def pitch_of(placement: Placement) -> float:
    """Returns how many pixels of the picture a pixel of the crop is wide."""
    return math.sqrt(abs(float(np.linalg.det(placement[:, :2]))))


def scaled(placement: Placement, scale: int) -> Placement:
    """Returns a placement onto a picture as one onto the same picture `scale` times as large, pixel centres kept."""
    moved = placement * scale
    moved[:, 2] += (scale - 1) / 2
    return moved


def mask_of(framing: Framing) -> Floats:
    """Returns the share of the restored face at each pixel of the crop, float32 (h, w) in [0, 1], 0 at its edge.

    An ellipse around the face whose border falls smoothly (a smoothstep, so that its gradient is at most 1.5 times the
    mean one).
    """
    centre = framing.from_reference(np.array(BOX_CENTRE))
    across = (np.arange(framing.width) - centre[0]) / (SEMI_AXES[0] * framing.zoom)
    down = (np.arange(framing.height) - centre[1]) / (SEMI_AXES[1] * framing.zoom)
    radius = np.sqrt(across[None, :] ** 2 + down[:, None] ** 2)
    inside = np.clip((1.0 - radius) / FEATHER, 0.0, 1.0)
    found: Floats = (inside**2 * (3.0 - 2.0 * inside)).astype(np.float32)
    return found


def matched(change: Floats, framing: Framing) -> Floats:
    """Returns a change without its low frequencies: the colour and light of the background stay as they are."""
    sigma = COLOUR_SIGMA * framing.zoom
    kept: Floats = change - cv2.GaussianBlur(change, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return kept


def paste(picture: Pixels, patches: list[Patch], strength: float = 1.0, *, is_grey: bool = False) -> None:
    """Puts patches into a picture, uint8 or uint16 (H, W, 3), in place; only their windows are touched.

    Where two overlap, the one whose centre is nearer, measured in its own size, counts; the order moves no bit.

    Args:
        picture: changed in place.
        patches: their changes, in grey levels of 8 bits whatever the picture has.
        strength: share of the change that is made; 0 leaves the picture as it is, bit for bit.
        is_grey: all three channels get the mean of their changes, so that grey stays grey.
    """
    if strength == 0.0:
        return
    top = 255.0 if picture.dtype == np.uint8 else 65535.0
    # All windows are taken from the picture as it was: a later face does not see an earlier one.
    done = [(_window(patch, picture.shape[1], picture.shape[0]), patch) for patch in patches]
    seen = [(window, patch) for window, patch in done if window is not None]
    changes = [(window, _change_at(patch, window)) for window, patch in seen]
    for place, (window, change) in enumerate(changes):
        left, upper, right, lower = window
        own = _distance(seen[place][1], window)
        for other_place, (other_window, other) in enumerate(seen):
            if other_place != place and _overlap(window, other_window):
                theirs = _distance(other, window)
                # At equal distance neither counts, so that no order decides.
                change[theirs <= own] = 0.0
        if is_grey:
            change[:] = change.mean(2, keepdims=True)
        part = picture[upper:lower, left:right]
        moved = part.astype(np.float32) + change * np.float32(strength * top / 255.0)
        part[:] = np.where(change != 0.0, np.clip(np.floor(moved + 0.5), 0.0, top), part).astype(picture.dtype)


def _window(patch: Patch, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Returns left, top, right, bottom of the pixels that a patch may touch; None where it lies outside."""
    corners = np.array([[x, y, 1.0] for x in (0, patch.framing.width - 1) for y in (0, patch.framing.height - 1)])
    reach = corners @ patch.placement.T
    left, upper = np.maximum(np.floor(reach.min(0)).astype(int), 0)
    right, lower = np.minimum(np.ceil(reach.max(0)).astype(int) + 1, (width, height))
    return None if left >= right or upper >= lower else (int(left), int(upper), int(right), int(lower))


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _distance(patch: Patch, window: tuple[int, int, int, int]) -> Floats:
    """Returns how far each pixel of a window lies from the patch's centre, in crop pixels, float32 (h, w)."""
    left, upper, right, lower = window
    across = np.arange(left, right, dtype=np.float32) - np.float32(patch.centre[0])
    down = np.arange(upper, lower, dtype=np.float32) - np.float32(patch.centre[1])
    pixels = np.sqrt(across[None, :] ** 2 + down[:, None] ** 2)
    return np.asarray(pixels / np.float32(patch.pitch), np.float32)


def _change_at(patch: Patch, window: tuple[int, int, int, int]) -> Floats:
    """Returns the masked change in the pixels of a window, float32 (h, w, 3)."""
    change = patch.change * mask_of(patch.framing)[:, :, None]
    placement = patch.placement
    if patch.pitch < 1.0:
        # The crop is finer than the picture: it is shrunk first, with the antialiasing kernel, or it would alias.
        height, width = change.shape[:2]
        new_width, new_height = max(2, math.ceil(width * patch.pitch)), max(2, math.ceil(height * patch.pitch))
        rows = resize_matrix(height, new_height).astype(np.float32)
        columns = resize_matrix(width, new_width).astype(np.float32)
        change = np.einsum("ij,jkc,lk->ilc", rows, change, columns, optimize=True).astype(np.float32)
        steps = np.array([width / new_width, height / new_height])
        shrunk = placement[:, :2] * steps
        placement = np.column_stack([shrunk, placement[:, 2] + placement[:, :2] @ (steps / 2 - 0.5)])
    onto = placement.copy()
    onto[:, 2] -= window[:2]
    size = (window[2] - window[0], window[3] - window[1])
    warped = cv2.warpAffine(
        change, onto, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0)
    )
    return np.asarray(warped, np.float32)
