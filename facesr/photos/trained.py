"""The framing that a network was trained on, as its snapshot and its ONNX file state it: where faces lie in a crop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from facesr.photos.crop import BOX_CENTRE, BOX_SIZE, CROPS, REFERENCE_HEIGHT, REFERENCE_WIDTH, Framing

# Pieces of general pictures, which show no face in any place.
PIECES = "pieces"
KINDS = (*CROPS, PIECES)
# How each kind of crop places the detector's box: that of the competition's framing.
_BOXED = ("detect", "ffhq")
MIN_SIDE, MAX_SIDE = 4, 1 << 16
# A box this far from where the competition's framing has it, in pixels of the crop, is another framing.
_TOLERANCE = 0.5
_KEYS = {"crop", "width", "height", "face_box_centre", "face_box_size"}
_OPTIONAL = {"crop", "face_box_centre", "face_box_size"}


@dataclass(frozen=True)
class TrainedFraming:
    """Where faces lie in the pictures that a network was trained to restore.

    Attributes:
        crop: how they were cut: one of `facesr prepare --crop`, or ``pieces`` of general pictures.
        width, height: of the restored crop, in pixels.
        face_box_centre, face_box_size: x and y, width and height of the detector's box, in pixels; None where the way
            of cutting does not say.
    """

    crop: str
    width: int
    height: int
    face_box_centre: tuple[float, float] | None = None
    face_box_size: tuple[float, float] | None = None

    @property
    def box(self) -> tuple[float, ...]:
        """Centre and size of the box, 4 numbers; empty where they are not known."""
        known = self.face_box_centre is not None and self.face_box_size is not None
        return (*(self.face_box_centre or ()), *(self.face_box_size or ())) if known else ()

    def as_dict(self) -> dict[str, Any]:
        """Returns it as plain values; the box only where it is known."""
        plain: dict[str, Any] = {"crop": self.crop, "width": self.width, "height": self.height}
        if self.face_box_centre is not None and self.face_box_size is not None:
            plain |= {"face_box_centre": list(self.face_box_centre), "face_box_size": list(self.face_box_size)}
        return plain


def framing_of_set(crop: str, width: int, height: int) -> TrainedFraming:
    """Returns the framing of a set whose crops of width x height were cut as `crop` says."""
    if crop not in _BOXED:
        return TrainedFraming(crop, width, height)
    framing = Framing(crop, width, height)
    x, y = (round(float(value), 3) for value in framing.from_reference(np.array(BOX_CENTRE)))
    across, down = (round(side * framing.zoom, 3) for side in BOX_SIZE)
    return TrainedFraming(crop, width, height, (x, y), (across, down))


# Of the competition's pictures, and of every snapshot that states none.
ASC19 = framing_of_set("detect", REFERENCE_WIDTH, REFERENCE_HEIGHT)


def read_framing(given: object) -> TrainedFraming:
    """Returns the framing that plain values state, which may come from a stranger.

    Raises:
        ValueError: they state none; its text says why, in a few words.
    """
    if not isinstance(given, Mapping) or not _KEYS - _OPTIONAL <= set(given) <= _KEYS:
        raise ValueError("its framing has other entries than crop, width, height and the face's box")
    # ONNX files of earlier versions do not say how the faces were cut.
    crop = given.get("crop", ASC19.crop)
    if crop not in KINDS:
        raise ValueError(f"its framing's crop is none of {', '.join(KINDS)}")
    width, height = given["width"], given["height"]
    if not all(type(side) is int and MIN_SIDE <= side <= MAX_SIDE for side in (width, height)):
        raise ValueError(f"its framing's sides are no whole numbers from {MIN_SIDE} to {MAX_SIDE}")
    centre, size = given.get("face_box_centre"), given.get("face_box_size")
    if centre is None and size is None:
        return TrainedFraming(crop, width, height)
    return TrainedFraming(crop, width, height, _pair(centre), _pair(size))


def _pair(given: Any) -> tuple[float, float]:
    is_pair = isinstance(given, list | tuple) and len(given) == 2
    if not is_pair or not all(type(value) in (int, float) and 0 < value <= MAX_SIDE for value in given):
        raise ValueError(f"its framing's box is not made of numbers above 0, up to {MAX_SIDE}")
    return float(given[0]), float(given[1])


def usable_framing(trained: TrainedFraming | None) -> Framing:
    """Returns the framing in which the faces of a photograph are shown to a network.

    A network that states none, one of ready crops of the competition's size, and one of general pictures are shown
    faces as the competition's are.

    Raises:
        ValueError: faces cannot be placed so; the text says what the network was trained on, and ends a sentence.
    """
    if trained is None or trained.crop == PIECES:
        trained = ASC19
    if trained.crop == "template":
        raise ValueError("faces that were turned and scaled to five landmarks (--crop template)")
    if not trained.box:
        if (trained.width, trained.height) != (ASC19.width, ASC19.height):
            raise ValueError(
                f"ready crops of {trained.width}x{trained.height} that do not say where their faces lie (--crop as-is)"
            )
        trained = ASC19
    expected = framing_of_set("detect", trained.width, trained.height)
    stated, wanted = trained.box, expected.box
    if any(not math.isclose(one, other, abs_tol=_TOLERANCE) for one, other in zip(stated, wanted, strict=True)):
        x, y, across, down = stated
        raise ValueError(
            f"faces whose box is {across:g}x{down:g} at ({x:g}, {y:g}) of {trained.width}x{trained.height}"
        )
    return Framing(width=trained.width, height=trained.height)
