"""Made ratings with known variances: what a study of some size could find, before there is one.

One rating is ``mean of the method + rater + face + rater x method + method x face + rest``, each a draw from a normal
distribution, rounded to the scale 1 to 5. They are never a result of a study.

Source of the model: L. Janowski, M. Pinson, "The accuracy of subjects in a quality experiment: a theoretical subject
model", IEEE Transactions on Multimedia 17, 2015, with the interactions of raters and faces with the methods beside.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Deviations:
    """Standard deviations in points of the scale.

    Attributes:
        rater: of the raters' leniency.
        face: of the faces.
        rater_method: of a rater's taste for a method.
        method_face: of how well a method does a face.
        noise: of what is left in one answer.
    """

    rater: float = 0.50
    face: float = 0.30
    rater_method: float = 0.29
    method_face: float = 0.30
    noise: float = 0.70

    @property
    def total(self) -> float:
        """Standard deviation of a single answer for a method."""
        parts = (self.rater, self.face, self.rater_method, self.method_face, self.noise)
        return float(np.sqrt(np.square(parts).sum()))


def continuous(
    means: Floats,
    num_raters: int,
    num_faces: int,
    deviations: Deviations,
    random: np.random.Generator,
    studies: int = 1,
) -> Floats:
    """Returns opinions before they are rounded, (studies, raters, methods, faces); `means` (M,) of the methods."""
    shape = (studies, num_raters, len(means), num_faces)

    def part(deviation: float, raters: bool, methods: bool, faces: bool) -> Floats:
        size = (studies, shape[1] if raters else 1, shape[2] if methods else 1, shape[3] if faces else 1)
        return random.normal(0.0, deviation, size) if deviation > 0 else np.zeros(size)

    return (
        means[:, None]
        + part(deviations.rater, True, False, False)
        + part(deviations.face, False, False, True)
        + part(deviations.rater_method, True, True, False)
        + part(deviations.method_face, False, True, True)
        + part(deviations.noise, True, True, True)
    )


def rounded(opinions: Floats) -> Floats:
    """Returns opinions as answers on the scale: 1 to 5."""
    return np.clip(np.rint(opinions), LOWEST, HIGHEST)


def true_mos(means: Floats, deviations: Deviations) -> Floats:
    """Returns the MOS over all raters and faces there might be, exactly: rounding to the scale moves it."""
    edges = np.arange(LOWEST, HIGHEST) + 0.5
    above = ndtr((means[..., None] - edges) / max(deviations.total, 1e-9))
    return np.asarray(LOWEST + above.sum(axis=-1), np.float64)
