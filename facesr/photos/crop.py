"""Framings: which part of a picture becomes the crop, and how it gets there without aliasing. Pure geometry.

Points are (x, y) in pixels with pixel centres at whole numbers. A placement is a (2, 3) matrix that takes a point
of the crop to its point in the source picture: a scale (source pixels per crop pixel), possibly a rotation, and a
shift. The framings are defined on the competition's 96x112 and scaled, centred, to crops of other sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facesr.photos.decode import Unusable

Points = NDArray[np.float64]
Placement = NDArray[np.float64]

CROPS = ("as-is", "ffhq", "detect", "template")
REFERENCE_WIDTH, REFERENCE_HEIGHT = 96, 112
# The detector's box on the competition's pictures. Source: measured on the competition's validation set; the box
# that MTCNN finds on its 300 pictures has the median centre (48.4, 56.7) and the median size 65.0x81.4.
BOX_CENTRE = (48.0, 56.0)
BOX_SIZE = (66.0, 82.0)
# Eyes, nose tip, mouth corners. Source: alignment of SphereFace (wy1iu/sphereface, preprocess/code/
# face_align_demo.m), also used, shifted by 8 pixels in x, by ArcFace on 112x112.
TEMPLATE = np.array(
    [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]
)
# An FFHQ picture of the competition's scale is 120 crop pixels wide: the crop is its middle 80 %, flush with its
# lower edge. Derivation: FFHQ's alignment makes the side of the square max(4 eye distances, 3.6 eye-to-mouth
# distances) and puts its centre a tenth of the way from eyes to mouth (NVlabs/ffhq-dataset, download_ffhq.py).
# Averaged over FFHQ the eyes then lie at (0.377, 0.469) and (0.623, 0.469) of the side and the mouth corners at
# height 0.725 (facexlib's FFHQ template). The similarity that takes these points to the medians of the
# competition's framing (eyes 30 px apart at height 47, mouth at 78) makes the side 119 to 123 px, and the lower
# edges of both pictures coincide to within 2 px. tests/data/test_detect.py checks it with the detector.
FFHQ_SIDE = 120.0
# More of the crop than this outside the source picture would be mirrored content, not a face in its surroundings.
MAX_OUTSIDE = 0.2
# Rotated crops are sampled on a grid so many times as fine and then shrunk with an antialiasing kernel.
OVERSAMPLING = 2


# A picture decoded at a reduced size keeps so many pixels for each of the crop's along a side. With 4 the crops of
# 1024x1024 pictures differ from the whole ones' by 0.25 grey levels on average and 7 at most, with 2 by 0.7 and 10
# (docs/performance.md).
LEAST_PITCH = 4.0


@dataclass(frozen=True)
class Framing:
    """How pictures are cropped.

    Attributes:
        crop: ``as-is``, ``ffhq``, ``detect`` or ``template``.
        width, height: of the crop, in pixels.
        margin: pixels stored around the crop on each side.
        max_enlargement: a picture that would have to be enlarged more than this is left out.
    """

    crop: str = "as-is"
    width: int = REFERENCE_WIDTH
    height: int = REFERENCE_HEIGHT
    margin: int = 0
    max_enlargement: float = 1.25

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of a stored picture, with its margin."""
        return self.width + 2 * self.margin, self.height + 2 * self.margin

    @property
    def zoom(self) -> float:
        """Crop pixels per pixel of the 96x112 reference."""
        return min(self.width / REFERENCE_WIDTH, self.height / REFERENCE_HEIGHT)

    def from_reference(self, points: Points) -> Points:
        """Returns points (..., 2) of the 96x112 reference in the crop, whose centres coincide."""
        centre = np.array([self.width - 1, self.height - 1]) / 2
        reference_centre = np.array([REFERENCE_WIDTH - 1, REFERENCE_HEIGHT - 1]) / 2
        moved: Points = (points - reference_centre) * self.zoom + centre
        return moved


def place_whole(width: int, height: int, framing: Framing) -> Placement:
    """Returns the placement that makes a whole picture the crop.

    The picture must have the crop's size, or the size with its margin (it then brings its own margin), or be
    larger with the same proportions (to within 1 %).

    Raises:
        Unusable: the picture has another size.
    """
    if (width, height) == framing.stored_size:
        return _upright(1.0, np.zeros(2), np.full(2, framing.margin, np.float64))
    size = f"{width}x{height} where {framing.width}x{framing.height} is needed"
    if width < framing.width or height < framing.height:
        raise Unusable(f"too small: {size}")
    scale = np.array([width / framing.width, height / framing.height])
    if abs(scale[0] / scale[1] - 1.0) > 0.01:
        raise Unusable(f"other proportions: {size}")
    placement = np.zeros((2, 3))
    placement[[0, 1], [0, 1]] = scale
    placement[:, 2] = (scale - 1.0) / 2.0
    return placement


def place_ffhq(width: int, height: int, framing: Framing) -> Placement:
    """Returns the placement that cuts the competition's framing out of an FFHQ-aligned picture of any size.

    Raises:
        Unusable: the picture is not square.
    """
    if abs(width - height) > 0.01 * max(width, height):
        raise Unusable(f"other proportions: {width}x{height} where FFHQ's aligned pictures are square")
    side = min(width, height)
    # Middle of the reference crop, as a point of the picture: half way across, 56 px above the lower edge.
    centre = np.array([0.5 * side, (1.0 - REFERENCE_HEIGHT / 2 / FFHQ_SIDE) * side]) - 0.5
    reference_centre = np.array([REFERENCE_WIDTH - 1, REFERENCE_HEIGHT - 1]) / 2
    return _upright(side / (FFHQ_SIDE * framing.zoom), framing.from_reference(reference_centre), centre)


def place_box(box: Sequence[float] | NDArray[np.float64], framing: Framing) -> Placement:
    """Returns the placement that brings a face's box (left, top, right, bottom) to the competition's framing.

    The box gets the area of 66x82 and its centre comes to (48, 56); the picture is not rotated.
    """
    left, top, right, bottom = (float(value) for value in box)
    area = max(right - left, 1.0) * max(bottom - top, 1.0)
    scale = np.sqrt(area / (BOX_SIZE[0] * BOX_SIZE[1])) / framing.zoom
    target = framing.from_reference(np.array(BOX_CENTRE))
    return _upright(float(scale), target, np.array([left + right, top + bottom]) / 2)


def place_template(landmarks: Points, framing: Framing) -> Placement:
    """Returns the placement that brings 5 landmarks (5, 2) closest to the template, by rotation, scale and shift.

    Source: least-squares similarity of S. Umeyama, "Least-squares estimation of transformation parameters between
    two point patterns", IEEE TPAMI 1991; in the plane it is one complex division.

    Raises:
        Unusable: the landmarks coincide.
    """
    target = framing.from_reference(TEMPLATE)
    own = (landmarks - landmarks.mean(0)) @ np.array([1.0, 1.0j])
    wanted = (target - target.mean(0)) @ np.array([1.0, 1.0j])
    spread = float(np.vdot(own, own).real)
    factor = np.vdot(own, wanted) / spread if spread > 0 else 0.0
    if abs(factor) == 0.0:
        raise Unusable("no face: the landmarks coincide")
    # The fit takes the landmarks to the template; the placement is its inverse.
    back = 1.0 / factor
    linear = np.array([[back.real, -back.imag], [back.imag, back.real]])
    return np.column_stack([linear, landmarks.mean(0) - linear @ target.mean(0)])


def _upright(scale: float, point: Points, source_point: Points) -> Placement:
    """Returns the placement without rotation that takes `point` of the crop to `source_point`."""
    return np.column_stack([np.eye(2) * scale, source_point - scale * point])


def most_reduction(width: int, height: int, framing: Framing) -> int:
    """Returns by how much the sides of a picture may be divided before it is cropped: 1, 2, 4 or 8.

    A pixel of the crop is still made of `LEAST_PITCH` pixels along each side then. 1 where the framing depends on
    what is found in the picture.
    """
    try:
        place = {"as-is": place_whole, "ffhq": place_ffhq}[framing.crop]
        placement = place(width, height, framing)
    except (KeyError, Unusable):
        return 1
    pitch = float(min(placement[0, 0], placement[1, 1]))
    return next((factor for factor in (8, 4, 2) if pitch / factor >= LEAST_PITCH), 1)


def reduced(placement: Placement, factor: int) -> Placement:
    """Returns a placement in a picture whose sides were divided by a factor."""
    linear = placement[:, :2] / factor
    return np.column_stack([linear, (placement[:, 2] + 0.5) / factor - 0.5])


def to_crop(points: Points, placement: Placement) -> Points:
    """Returns source points (n, 2) in pixels of the crop."""
    found: Points = np.linalg.solve(placement[:, :2], (points - placement[:, 2]).T).T.astype(np.float64)
    return found


def check_placement(placement: Placement, width: int, height: int, framing: Framing) -> None:
    """Refuses a crop that would be enlarged too much or reaches too far out of a source of width x height pixels.

    Raises:
        Unusable: with the figure.
    """
    enlargement = 1.0 / np.sqrt(abs(np.linalg.det(placement[:, :2])))
    if enlargement > framing.max_enlargement:
        raise Unusable(f"too small: the crop would be enlarged {enlargement:.2f} times")
    across, down = np.meshgrid(np.linspace(0, framing.width - 1, 49), np.linspace(0, framing.height - 1, 57))
    points = placement @ np.stack([across.ravel(), down.ravel(), np.ones(across.size)])
    inside = (points[0] > -1) & (points[0] < width) & (points[1] > -1) & (points[1] < height)
    outside = 1.0 - float(inside.mean())
    if outside > MAX_OUTSIDE:
        raise Unusable(f"at the border: {outside:.0%} of the crop lies outside the picture")


def cut(picture: NDArray[np.uint8], placement: Placement, framing: Framing) -> NDArray[np.uint8]:
    """Returns the crop with its margin, uint8 (height + 2 margin, width + 2 margin, 3), mirrored beyond the picture.

    An upright crop is resampled once, by the cubic kernel of the competition's downscaling (a = -0.5, stretched
    when shrinking), and is an exact copy where no resampling is needed. A rotated one is sampled at twice the
    resolution from a picture shrunk to match, and shrunk by the same kernel.
    """
    width, height = framing.stored_size
    shifted = placement.copy()
    shifted[:, 2] -= placement[:, :2] @ np.full(2, framing.margin)  # margins begin at negative crop coordinates
    if abs(shifted[0, 1]) < 1e-9 and abs(shifted[1, 0]) < 1e-9 and shifted[0, 0] > 0:
        return _resample(picture, shifted[[0, 1], [0, 1]], shifted[:, 2], width, height)
    fine = shifted / OVERSAMPLING
    fine[:, 2] = shifted[:, 2] + shifted[:, :2] @ np.full(2, 0.5 / OVERSAMPLING - 0.5)
    size = (width * OVERSAMPLING, height * OVERSAMPLING)
    corners = np.array([[x, y, 1.0] for x in (0, size[0] - 1) for y in (0, size[1] - 1)])
    reach = corners @ fine.T
    pitch = max(1.0, float(np.hypot(fine[0, 0], fine[1, 0])))
    origin = np.floor(reach.min(0)) - 3 * pitch
    columns, rows = np.ceil((reach.max(0) - origin) / pitch + 4).astype(int)
    shrunk = _resample(picture, np.full(2, pitch), origin, int(columns), int(rows))
    onto = fine / pitch
    onto[:, 2] = (fine[:, 2] - origin) / pitch
    turned = cv2.warpAffine(shrunk, onto, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    return _resize(np.asarray(turned, np.uint8), (0.0, 0.0, float(size[0]), float(size[1])), width, height)


def _resample(picture: NDArray[np.uint8], pitch: Points, origin: Points, width: int, height: int) -> NDArray[np.uint8]:
    """Returns the upright grid of width x height samples whose first lies at `origin`, `pitch` pixels apart."""
    if np.all(pitch == 1.0) and np.all(origin == np.round(origin)):
        left, top = (int(value) for value in origin)
        return _window(picture, left, top, left + width, top + height)
    low = origin + 0.5 - pitch / 2  # outer edges, where pixel i covers i..i+1
    high = low + pitch * (width, height)
    support = 2.0 * np.maximum(pitch, 1.0) + 1.0
    left, top = (int(value) for value in np.floor(low - support))
    right, bottom = (int(value) for value in np.ceil(high + support))
    part = _window(picture, left, top, right, bottom)
    box = (float(low[0]) - left, float(low[1]) - top, float(high[0]) - left, float(high[1]) - top)
    return _resize(part, box, width, height)


def _window(picture: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """Returns rows top..bottom-1 and columns left..right-1 of a picture mirrored at its borders."""
    height, width = picture.shape[:2]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return picture[top:bottom, left:right]
    inner_left, inner_top = max(left, 0), max(top, 0)
    inner = picture[inner_top : min(bottom, height), inner_left : min(right, width)]
    edges = (inner_top - top, max(bottom - height, 0), inner_left - left, max(right - width, 0))
    if inner.size and max(edges[:2]) <= inner.shape[0] and max(edges[2:]) <= inner.shape[1]:
        return np.asarray(cv2.copyMakeBorder(inner, *edges, cv2.BORDER_REFLECT), np.uint8)
    # More is mirrored than the window holds of the picture: it is mirrored to and fro.
    rows = np.arange(top, bottom) % (2 * height)
    columns = np.arange(left, right) % (2 * width)
    rows, columns = np.minimum(rows, 2 * height - 1 - rows), np.minimum(columns, 2 * width - 1 - columns)
    mirrored: NDArray[np.uint8] = picture[rows][:, columns]
    return mirrored


def _resize(
    picture: NDArray[np.uint8], box: tuple[float, float, float, float], width: int, height: int
) -> NDArray[np.uint8]:
    """Returns the box (left, top, right, bottom: outer edges) of a picture as width x height, antialiased."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box), np.uint8)
