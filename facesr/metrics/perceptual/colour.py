"""What "grey" means to the no-reference metrics: the two conversions of the MATLAB programs, rounded as uint8 is.

Which one a protocol uses moves its scores; the conversion is therefore part of a score's name.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from facesr.metrics.pixels import luma


@dataclass(frozen=True)
class Grey:
    """A conversion of RGB to grey.

    Attributes:
        title: for people.
        convert: grey levels 0..255 (N, 3, H, W) to whole grey levels (N, H, W), float64.
    """

    title: str
    convert: Callable[[Tensor], Tensor]


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0.0, 255.0)


def matlab_grey(levels: Tensor) -> Tensor:
    """Returns what uint8 ``rgb2gray`` gives, whole grey levels 0..255, (N, H, W).

    Source: MATLAB's documentation of rgb2gray: the luma row of the inverse NTSC matrix.
    """
    red, green, blue = levels.double().unbind(1)
    return _rounded(0.298936021293775 * red + 0.587043074451121 * green + 0.114020904255103 * blue)


def matlab_luma(levels: Tensor) -> Tensor:
    """Returns the Y of uint8 ``rgb2ycbcr``, whole grey levels 16..235, (N, H, W).

    Source: PIRM2018 (github.com/roimehrez/PIRM2018), which feeds MSE, Ma and NIQE with it.
    """
    return _rounded(luma(levels))


COLOURS = {
    "grey": Grey("uint8 rgb2gray", matlab_grey),
    "luma": Grey("Y of uint8 rgb2ycbcr", matlab_luma),
}
