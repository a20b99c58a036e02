"""What an input leaves open: mean and standard deviation of the pictures that several seeds found for it.

Only two pictures' worth of numbers are held, however many seeds there are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Mean and sum of squared deviations of pictures, updated one by one.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4, 1962.
    """

    def __init__(self) -> None:
        self.num = 0
        self._mean: NDArray[np.float32] | None = None
        self._squares: NDArray[np.float32] | None = None

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Counts a picture, uint8 (H, W, 3), all of one size."""
        value = picture.astype(np.float32)
        self.num += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = value, np.zeros_like(value)
            return
        before = value - self._mean
        self._mean += before / self.num
        self._squares += before * (value - self._mean)

    @property
    def mean(self) -> NDArray[np.uint8] | None:
        """The mean picture, uint8 (H, W, 3); None below two pictures."""
        if self.num < 2 or self._mean is None:
            return None
        return np.rint(self._mean).astype(np.uint8)

    @property
    def deviation(self) -> NDArray[np.uint8] | None:
        """Standard deviation of a pixel in grey levels, uint8 (H, W), 0 to 180; None below two pictures.

        The root of the variance (over the number of pictures less one), which is averaged over the three channels.
        """
        if self.num < 2 or self._squares is None:
            return None
        variance = self._squares.mean(axis=2) / (self.num - 1)
        deviation: NDArray[np.uint8] = np.rint(np.sqrt(np.maximum(variance, 0.0))).astype(np.uint8)
        return deviation

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields of `facesr.methods.pulse.search.Found` that hold this."""
        return {"num_alike": self.num, "mean": self.mean, "deviation": self.deviation}
