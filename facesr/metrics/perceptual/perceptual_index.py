"""The perceptual index (PI), its RMSE, and what the preliminary round gives for them.

PI = ((10 - Ma) + NIQE) / 2, lower is better; about 2 for natural pictures, about 7 for bicubic x4. Everything is
taken from one picture: the Y of MATLAB's uint8 ``rgb2ycbcr`` with a border cut off (4 pixels in the challenge). RMSE
is the root of the mean, over all pictures, of the mean squared error, so it is no mean of the pictures' own RMSE.

Source: Y. Blau et al., "The 2018 PIRM challenge on perceptual image super-resolution", ECCV 2018 workshops, section 2;
github.com/roimehrez/PIRM2018 for colour, rounding and border. S_PI: a team's translated notice of the ASC19
preliminary (one source).
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facesr.errors import ImageError
from facesr.metrics.perceptual.colour import COLOURS, matlab_luma
from facesr.metrics.perceptual.ma import MaModel, ma
from facesr.metrics.perceptual.niqe import PUBLISHED, NiqeModel, niqe
from facesr.metrics.pixels import grey_levels, mean_per_picture, require_same_shape
from facesr.protocols import MetricInputs

Values = NDArray[np.float64]


def shaved_luma(batch: Tensor, border_px: int) -> Tensor:
    """Returns the challenge's grey picture, whole levels 16..235, float64 (N, H - 2b, W - 2b), of (N, 3, H, W).

    Raises:
        ImageError: nothing is left inside the border.
    """
    height, width = batch.shape[-2:]
    if min(height, width) <= 2 * border_px:
        raise ImageError(f"{width}x{height} pixels have nothing inside a border of {border_px}.")
    inside = slice(border_px, -border_px or None)
    return matlab_luma(grey_levels(batch)[..., inside, inside])


def rmse_y(restored: Tensor, high: Tensor, border_px: int) -> Values:
    """Returns each picture's RMSE of the challenge's luma in grey levels, 0..219, lower is better, float64 (N,)."""
    require_same_shape(restored, high)
    difference = shaved_luma(restored, border_px) - shaved_luma(high, border_px)
    return np.sqrt(mean_per_picture(difference.square()))


def perceptual_index(niqe_values: Values, ma_values: Values) -> Values:
    """Returns PI, lower is better, same shape; its mean over pictures is that of the means."""
    return ((10.0 - ma_values) + niqe_values) / 2.0


def region_of(rmse: float, limits: list[float]) -> int | None:
    """Returns the challenge's region 1, 2, ... of an entry by its RMSE over the set, None beyond the last limit."""
    return next((number for number, limit in enumerate(limits, start=1) if rmse <= limit), None)


def competition_score(index: float, best_index: float, rmse: float, full_score: float, window: list[float]) -> float:
    """Returns S_PI, 0..`full_score`, higher is better: full / (PI / best PI)^4, and 0 unless RMSE lies in the window.

    The window's ends are outside: 8 < RMSE < 18 in the preliminary.
    """
    inside = window[0] < rmse < window[1]
    return full_score / (index / best_index) ** 4 if inside else 0.0


def _conditions(border_px: int) -> str:
    return f"{COLOURS['luma'].title}, {border_px} px cut off each side"


class RmseY:
    """`rmse_y` as a metric; over a set, see facesr/evaluation/over_set.py."""

    name = "rmse_y"
    unit = "grey levels"
    higher_is_better = False
    version = 1
    needs_low = False

    def __init__(self, border_px: int) -> None:
        """Takes the border that is cut off, in pixels."""
        self.border_px = border_px
        self.conditions = f"{_conditions(border_px)}, root of the mean square per picture"

    def __call__(self, inputs: MetricInputs) -> Values:
        """Returns grey levels per picture, float64 (N,)."""
        return rmse_y(inputs.restored, inputs.high, self.border_px)


class Niqe:
    """NIQE of the restored picture alone; with another pristine model than the published one it has another name."""

    unit = "1"
    higher_is_better = False
    version = 2  # 2: what equals its surroundings' mean counts for neither side
    needs_low = False

    def __init__(self, model: NiqeModel, border_px: int, strip_blocks: int = 64) -> None:
        """Takes the pristine model, the border that is cut off in pixels, and `block_features`' memory bound."""
        self.name = "niqe" if model.name == PUBLISHED else f"niqe/{model.name}"
        self.model, self.border_px, self.strip_blocks = model, border_px, strip_blocks
        self.conditions = f"{_conditions(border_px)}, pristine model {model.name} {model.sha256[:12]}".rstrip()

    def __call__(self, inputs: MetricInputs) -> Values:
        """Returns NIQE per picture, lower is better, float64 (N,); NaN for a flat picture."""
        return niqe(shaved_luma(inputs.restored, self.border_px), self.model, self.strip_blocks)


class Ma:
    """Ma's metric of the restored picture alone."""

    name = "ma"
    unit = "1"
    higher_is_better = True
    version = 1
    needs_low = False

    def __init__(self, model: MaModel, border_px: int) -> None:
        """Takes the authors' model and the border that is cut off in pixels."""
        self.model, self.border_px = model, border_px
        self.conditions = f"{_conditions(border_px)}, model {model.sha256[:12]}"

    def __call__(self, inputs: MetricInputs) -> Values:
        """Returns Ma's score per picture, higher is better, float64 (N,); NaN for a flat picture."""
        return ma(shaved_luma(inputs.restored, self.border_px), self.model)


class PerceptualIndex:
    """PI as a column of the tables; it is computed from the columns of NIQE and Ma."""

    unit = "1"
    higher_is_better = False
    needs_low = False

    def __init__(self, niqe_metric: Niqe, ma_metric: Ma) -> None:
        """Takes the two that it consists of; another pristine model gives it another name, too."""
        self.parts = niqe_metric.name, ma_metric.name
        self.name = niqe_metric.name.replace("niqe", "perceptual_index")
        self.version = max(niqe_metric.version, ma_metric.version)
        self.conditions = f"(10 - {ma_metric.name} + {niqe_metric.name}) / 2"
