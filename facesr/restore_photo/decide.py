"""Which faces of a photograph are restored, where they are cut out, and why the others are left as they are."""

import math
from dataclasses import dataclass

import numpy as np

from facesr.photos.crop import BOX_CENTRE, BOX_SIZE, Framing, Placement
from facesr.photos.search import FoundFace, rotation
from facesr.task import SCALE

# What networks were trained on that say nothing else: the competition's 24x28, which become 96x112.
COMPETITION = Framing()
# A face that is larger in the output is restored on a larger grid, up to so many times the competition's: at 1.33 the
# astronaut's face gains 2.9 dB over cubic interpolation where it gains 3.3 at 1 (docs/restore.md).
LARGEST_GRID = 4.0 / 3.0
# The competition's faces are rolled by up to so much; a crop that is not turned is not resampled twice.
UPRIGHT_DEGREES = 20.0
# The answer may be enlarged so much on its way into the output; a wider face would lose detail.
MOST_ENLARGED = 1.1
# More of the crop than this beyond the picture's edge would be mirrored content.
MOST_OUTSIDE = 0.3


@dataclass(frozen=True)
class Decision:
    """What becomes of a face.

    Attributes:
        placement: (2, 3), takes a point of the restored crop to its point in the photograph.
        grid: framing of the crop that the network is shown, 24x28 or larger; the restored one is 4 times as large.
        reason: why the face is left as it is; empty where it is restored.
    """

    placement: Placement
    grid: Framing
    reason: str = ""


def grid_for(shown: float, trained: Framing = COMPETITION) -> Framing:
    """Returns the framing of what the network is shown, for a face that is `shown` pixels wide in the output.

    Args:
        trained: the framing of what the network was trained to answer.
    """
    zoom = min(max(shown / (BOX_SIZE[0] * trained.zoom), 1.0), LARGEST_GRID)
    low_width, low_height = trained.width // SCALE, trained.height // SCALE
    width = math.ceil(low_width * zoom - 1e-9)
    return Framing(width=width, height=math.ceil(width * low_height / low_width - 1e-9))


def restored_framing(grid: Framing) -> Framing:
    """Returns the framing of what the network answers."""
    return Framing(width=SCALE * grid.width, height=SCALE * grid.height)


def placed(face: FoundFace, framing: Framing, is_turned: bool | None = None) -> Placement:
    """Returns the placement of a crop on the photograph, in the framing that the shipped networks know.

    The face's box gets the area of 66x82 around (48, 56) of 96x112.

    Args:
        face: where it is.
        framing: of the crop.
        is_turned: whether it is turned upright; by default where it is rolled by more than the competition's faces are.
    """
    if is_turned is None:
        is_turned = abs(face.roll) > UPRIGHT_DEGREES
    pitch = math.sqrt(face.width * face.height / (BOX_SIZE[0] * BOX_SIZE[1])) / framing.zoom
    linear = pitch * (rotation(face.roll) if is_turned else np.eye(2))
    return np.column_stack([linear, face.centre - linear @ framing.from_reference(np.array(BOX_CENTRE))])


def decided(
    face: FoundFace,
    size: tuple[int, int],
    scale: int,
    is_chosen: bool,
    min_face_px: float,
    max_turn: float,
    trained: Framing = COMPETITION,
) -> Decision:
    """Returns what becomes of a face of a photograph of (width, height) pixels, restored `scale` times as large."""
    shown = face.width * scale
    grid = grid_for(shown, trained)
    framing = restored_framing(grid)
    placement, most = placed(face, framing), MOST_ENLARGED * framing.zoom * BOX_SIZE[0]
    reason = ""
    if not is_chosen:
        reason = "not asked for by faces="
    elif face.width < min_face_px:
        reason = f"{face.width:.0f} px wide, and min_face_px={min_face_px:g}"
    elif face.yaw > max_turn:
        reason = f"turned aside by about {face.yaw:.0f} degrees, and max_turn={max_turn:g}"
    elif shown > most:
        reason = f"{shown:.0f} px wide in the output, and the network restores up to {most:.0f}: it would lose detail"
    elif _outside(placement, framing, size) > MOST_OUTSIDE:
        reason = "too much of its surroundings lies outside the picture"
    return Decision(placement, grid, reason)


def _outside(placement: Placement, framing: Framing, size: tuple[int, int]) -> float:
    """Returns the share of the crop that lies outside a picture of (width, height) pixels."""
    across, down = np.meshgrid(np.linspace(0, framing.width - 1, 25), np.linspace(0, framing.height - 1, 29))
    points = placement @ np.stack([across.ravel(), down.ravel(), np.ones(across.size)])
    inside = (points > -1).all(0) & (points[0] < size[0]) & (points[1] < size[1])
    return 1.0 - float(inside.mean())


def low_placement(placement: Placement) -> Placement:
    """Returns the placement of what the network is shown, a quarter of the restored crop's size, pixel centres kept."""
    linear = placement[:, :2] * SCALE
    return np.column_stack([linear, placement[:, 2] + placement[:, :2] @ np.full(2, (SCALE - 1) / 2)])
