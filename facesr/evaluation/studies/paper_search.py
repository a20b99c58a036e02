"""The searches of study=pulse_paper: inputs as published, degraded ones, and how near they come to known latents."""

import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facesr import dist
from facesr.errors import ConfigError, DataError
from facesr.evaluation.pairs import list_pictures
from facesr.evaluation.studies.operators import Case, cases_of, degradation_of, write_low
from facesr.evaluation.studies.paper_faces import Faces, write_framed
from facesr.evaluation.studies.paper_rows import Scorer, Values
from facesr.evaluation.studies.study import Job
from facesr.evaluation.subjects import progress, restored_by, say
from facesr.methods.method import Method
from facesr.methods.pulse.pulse import Pulse
from facesr.methods.pulse.status import GENERATED, STATUS
from facesr.names import shown_path
from facesr.png import file_of, read_png

# As in the paper's figure: motion blur and noise. More of study=robustness by operators=[...].
DEFAULT_OPERATORS = ("motion_blur", "gaussian_noise")
PLAIN = "as published"
_NUM_RANDOM = 64


@dataclass(frozen=True)
class Searched:
    """One search of all faces.

    Attributes:
        name: what was done to the inputs.
        low: folder of the inputs.
        folder: the generator's pictures.
        num_found: faces within eps.
        values: scores, column -> float64 (N,); empty until they are taken.
    """

    name: str
    low: Path
    folder: Path
    num_found: int
    values: Values


@dataclass(frozen=True)
class Known:
    """How near a search came to a portrait whose latents are known.

    Attributes:
        id: the portrait's.
        latent_distance: between directions of found and own latents, mean over the vectors, divided by that between a
            random start and the own ones: 0 is the very latents, about 1 no nearer than chance.
        cosine: by the ranking judge, -1..1.
        rms: root of the mean square difference at the generator's size, grey levels.
    """

    id: str
    latent_distance: float
    cosine: float
    rms: float


def degraded_cases(operators: Sequence[str]) -> list[Case]:
    """Returns the harshest case of each operator; of `DEFAULT_OPERATORS` where none is named.

    Raises:
        ConfigError: an operator is unknown.
    """
    cases = cases_of(operators or DEFAULT_OPERATORS)[1:]  # the official downscaling is what is searched anyway
    return [case for case in cases if case.level == max(one.level for one in cases if one.operator == case.operator)]


def require_pulse(method: Method) -> Pulse:
    """Returns the search of a method.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(method.generator, Pulse):
        raise ConfigError(f"study=pulse_paper looks at method=pulse, not at {method.name}; leave method= out.")
    return method.generator


class Searches:
    """Searches one folder of inputs after the other, and says how long the rest may take."""

    def __init__(self, job: Job, method: Method, total: int) -> None:
        """Takes what searches, and how many searches there will be."""
        self._job, self._method, self._total = job, method, total
        self._seconds: list[float] = []

    def __call__(self, name: str, low: Path, beside: Path) -> Searched:
        """Searches the inputs of a folder; every rank has to call it.

        Args:
            name: what was done to the inputs.
            low: their folder.
            beside: for the generator's pictures and the search's status.

        Raises:
            FaceSRError: a picture cannot be read or written, or the kept results are gone.
        """
        start, number = time.perf_counter(), len(self._seconds) + 1
        what = f"search {number} of {self._total}, {name}"
        with progress(what, low) as advance:
            restored_by(self._method, low, self._job.settings, self._job.options.device, beside, advance)
        self._seconds.append(time.perf_counter() - start)
        left = float(np.mean(self._seconds)) * (self._total - number)
        ahead = f", about {left:.0f} s to go" if left >= 1 else ""
        found = dist.once(lambda: read_found(beside))
        say(f"{what}: {sum(found.values())} of {len(found)} faces found, {self._seconds[-1]:.0f} s{ahead}")
        missing = sorted(list_pictures(low).keys() - found.keys())
        if missing:
            raise DataError(
                f"{shown_path(beside / STATUS)} lacks {missing[0]}, whose kept search is gone: reuse=false."
            )
        return Searched(name, low, beside / GENERATED, sum(found.values()), {})


def read_found(folder: Path) -> dict[str, bool]:
    """Returns id -> whether its search ended within eps, from the status that a search leaves in a folder."""
    with (folder / STATUS).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row["converged"] == "yes" for row in csv.DictReader(file)}


def search_degraded(job: Job, faces: Faces, searches: Searches, cases: Sequence[Case]) -> list[Searched]:
    """Degrades the originals and searches; OUT/degraded/NN/low are the inputs. Every rank has to call it.

    The ways of study=robustness shrink x4 and their strengths are pixels of what they are given, so they are given the
    originals at four times the input's size, whatever the generator's size is.

    Raises:
        FaceSRError: a picture cannot be read, searched or written.
    """
    settings, options = job.settings, job.options
    framed = job.out / "framed"
    dist.once(lambda: write_framed(faces, framed, options.device))
    found: list[Searched] = []
    for number, case in enumerate(cases, start=1):
        beside = job.out / "degraded" / f"{number:02d}"
        write_low(framed, beside / "low", degradation_of(case), settings.seed, options.device, options.batch_size)
        found.append(searches(case.label, beside / "low", beside))
    return found


def direction_distance(first: Tensor, second: Tensor) -> float:
    """Returns the mean over rows of the distance, 0..2, between the directions of latents (L, D) or (1, D)."""
    one, other = (torch.nn.functional.normalize(latents.double(), dim=-1) for latents in (first, second))
    return float((one - other).norm(dim=-1).mean())


def chance_distance(own: Tensor, seed: int) -> float:
    """Returns the mean `direction_distance` between latents (L, D) and random ones, drawn as a search's starts are."""
    draw = torch.Generator().manual_seed(seed)
    return float(np.mean([direction_distance(torch.randn(own.shape, generator=draw), own) for _ in range(_NUM_RANDOM)]))


def compare_known(
    faces: Faces, searched: Searched, pulse: Pulse, cosines: NDArray[np.float64], seed: int
) -> list[Known]:
    """Returns how near the search came to each portrait that the generator made; none for given pictures.

    Args:
        faces: with their latents.
        searched: the search as published.
        pulse: what kept the found latents.
        cosines: of the ranking judge, (N,).
        seed: of the random latents.

    Raises:
        FaceSRError: a picture cannot be read.
    """
    if faces.latents is None or faces.high is None:
        return []
    rows: list[Known] = []
    device = pulse.generator.mapped_mean.device
    for number, key in enumerate(faces.ids):
        found = pulse.result_of(read_png(file_of(faces.low, key)), device)
        if found is None:  # kept on another machine
            continue
        own = faces.latents[list(faces.seeds).index(key)]
        distance = direction_distance(torch.from_numpy(found.latents), own) / chance_distance(own, seed)
        difference = read_png(searched.folder / f"{key}.png").astype(np.float64) - read_png(file_of(faces.high, key))
        rms = float(np.sqrt(np.mean(difference**2)))
        rows.append(Known(key, distance, float(cosines[number]), rms))
    return rows


def scored(searched: Searched, scorer: Scorer, with_niqe: bool) -> Searched:
    """Returns a search with the scores of its pictures, taken on rank 0."""
    values = dist.once(lambda: scorer(searched.folder, searched.low, with_niqe))
    return Searched(searched.name, searched.low, searched.folder, searched.num_found, values)
