"""Columns that need no model: brightness, contrast, sharpness, saturation, grey, skin colour, and pose.

All are of the picture: a dark room makes a face dark. None of them says who a person is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.errors import ImageError
from facesr.evaluation.appearance.column import Bins, Column
from facesr.metrics.skin_colour import ellipse, lab, skin_ellipse
from facesr.photos.detect import Face
from facesr.task import LUMA

Mask = NDArray[np.bool_]
MIN_SIDE = 16
# Of the competition's framing: the detector's box, about 66x82 px around (48, 56) of 96x112.
_FACE_CENTRE, _FACE_AXES = (0.5, 0.5), (33 / 96, 41 / 112)
# Half axes of the ellipse on nose and cheeks, in distances from the eyes to the mouth (30 px in that framing).
_ACROSS, _DOWN = 0.6, 0.41
# JPEG leaves small differences between the channels of a grey picture.
_GREY_LEVELS, _GREY_SHARE = 8, 0.99
# How far the tip of the nose stands before the line of the eyes, in distances between the eyes, of a generic head.
_NOSE_DEPTH = 0.4
_COMPUTED = "none (computed)"

CHARDON = Bins(
    (-30.0, 10.0, 28.0, 41.0, 55.0),
    ("dark", "brown", "tan", "intermediate", "light", "very light"),
    "A. Chardon, I. Cretois, C. Hourseau, Skin colour typology and suntanning pathways, International Journal of "
    "Cosmetic Science 13, 1991; bins of an angle",
)

COLUMNS = (
    Column(
        "brightness", "L*", "mean CIELAB L* (D65), 0 to 100, inside an ellipse on the face", _COMPUTED,
        "light, exposure and skin cannot be told apart; hair and background reach into the ellipse",
    ),
    Column(
        "contrast", "L*", "standard deviation of L* there (RMS contrast; E. Peli, JOSA A 7, 1990)", _COMPUTED,
        "hard shadows, hair and beards raise it as well",
    ),
    Column(
        "sharpness", "grey levels^2", "variance of the 4-neighbour Laplacian of luma there (J. L. Pech-Pacheco et al., "
        "Diatom autofocusing in brightfield microscopy, ICPR 2000)", _COMPUTED,
        "noise and JPEG blocks count as sharpness, and pictures of different sizes cannot be compared",
    ),
    Column(
        "saturation", "C*ab", "mean CIELAB chroma there, 0 is grey", _COMPUTED,
        "the white balance of the camera moves it",
    ),
    Column(
        "grey", "", f"yes where the channels of {_GREY_SHARE:.0%} of the pixels differ by at most {_GREY_LEVELS} grey "
        "levels", _COMPUTED, "toned pictures (sepia) count as coloured, pale ones may count as grey", is_number=False,
    ),
    Column(
        "ita", "degrees", "individual typology angle arctan((L* - 50) / b*) of the mean colour of nose and cheeks "
        "(Chardon et al. 1991); empty for grey pictures and where b* is not above 0", _COMPUTED,
        "an angle of the picture, not a property of the person: light and exposure move it as much as skin does",
        bins=CHARDON,
    ),
)  # fmt: skip
_LANDMARKS = "MTCNN of facenet-pytorch, five landmarks"
POSE = (
    Column(
        "yaw", "degrees", "approximate: arctan of the nose's distance from the middle of the eyes along their line, in "
        f"eye distances, over {_NOSE_DEPTH}; above 0 towards the right of the picture", _LANDMARKS,
        "a proxy by one generic head, off by ten degrees and more; empty where no face is found, which is likelier for "
        "profiles", bins=Bins((-30.0, -15.0, 15.0, 30.0), ("far left", "left", "frontal", "right", "far right"),
                              "chosen for this tool"),
    ),
    Column(
        "roll", "degrees", "approximate: slope of the line of the eyes; above 0 clockwise", _LANDMARKS,
        "only as good as the landmarks; unlike yaw it does not depend on the head",
        bins=Bins((-10.0, 10.0), ("anticlockwise", "upright", "clockwise"), "chosen for this tool"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Region:
    """Where a picture is looked at.

    Attributes:
        face: (H, W), the face with some hair and background.
        skin: (H, W), nose and cheeks.
    """

    face: Mask
    skin: Mask


def framed_region(height: int, width: int) -> Region:
    """Returns the region of a face in the competition's framing, of any size.

    Raises:
        ImageError: the picture is too small.
    """
    if min(height, width) < MIN_SIDE:
        raise ImageError(f"a picture of {width}x{height} is too small; at least {MIN_SIDE}x{MIN_SIDE} is needed.")
    return Region(ellipse(height, width, _FACE_CENTRE, _FACE_AXES), skin_ellipse(height, width))


def detected_region(height: int, width: int, face: Face) -> Region | None:
    """Returns the region of a detected face, None where it lies outside the picture."""
    left, top, right, bottom = face.box
    centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
    axes = (max(right - left, 1.0) / 2 / width, max(bottom - top, 1.0) / 2 / height)
    eyes, mouth = face.landmarks[:2].mean(0), face.landmarks[3:].mean(0)
    middle, down = (eyes + mouth) / 2, max(float(np.hypot(*(mouth - eyes))), 1.0)
    skin = ellipse(
        height, width, (middle[0] / width, middle[1] / height), (_ACROSS * down / width, _DOWN * down / height)
    )
    region = Region(ellipse(height, width, centre, axes), skin)
    return region if region.face.any() and region.skin.any() else None


def computed(picture: NDArray[np.uint8], region: Region) -> dict[str, float | str | None]:
    """Returns the values of `COLUMNS`, None where one is not defined.

    Args:
        picture: RGB, uint8 (H, W, 3).
        region: where it is looked at.
    """
    colours = lab(picture[region.face] / 255.0)
    grey = is_grey(picture)
    luma = picture.astype(np.float64) @ np.array(LUMA)
    return {
        "brightness": float(colours[:, 0].mean()),
        "contrast": float(colours[:, 0].std()),
        "sharpness": float(cv2.Laplacian(luma, cv2.CV_64F, ksize=1)[region.face].var()),
        "saturation": float(np.hypot(colours[:, 1], colours[:, 2]).mean()),
        "grey": "yes" if grey else "no",
        "ita": None if grey else ita(lab(picture[region.skin] / 255.0).mean(axis=0)),
    }


def is_grey(picture: NDArray[np.uint8]) -> bool:
    """Returns whether a picture (H, W, 3) has no colour but what JPEG leaves."""
    spread = picture.max(axis=-1).astype(np.int16) - picture.min(axis=-1)
    return bool((spread <= _GREY_LEVELS).mean() >= _GREY_SHARE)


def ita(colour: NDArray[np.float64]) -> float | None:
    """Returns the individual typology angle of a CIELAB colour (3,) in degrees, -90 to 90; None where b* <= 0.

    Source: Chardon et al. 1991, see `CHARDON`.
    """
    lightness, _, blue_yellow = colour
    return float(np.degrees(np.arctan((lightness - 50.0) / blue_yellow))) if blue_yellow > 0.0 else None


def pose(face: Face | None) -> dict[str, float | str | None]:
    """Returns the values of `POSE`, None without a face."""
    if face is None:
        return {"yaw": None, "roll": None}
    left, right, nose = face.landmarks[:3]
    line = right - left
    distance = float(np.hypot(*line))
    if distance == 0.0:
        return {"yaw": None, "roll": None}
    aside = float((nose - (left + right) / 2) @ line) / distance**2
    return {
        "yaw": float(np.degrees(np.arctan(aside / _NOSE_DEPTH))),
        "roll": float(np.degrees(np.arctan2(line[1], line[0]))),
    }
