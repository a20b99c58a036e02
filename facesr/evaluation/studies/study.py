"""What every study is given.

A study is a module with `run(job)`, which scores, writes its files below `job.out` and prints its table.
`facesr.evaluation.run` knows them by name; `facesr.evaluation.request` refuses keys that do not go together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from facesr.config import EvaluateSettings
from facesr.evaluation.flow import Options
from facesr.evaluation.perceptual import Perceptual
from facesr.methods.method import Method
from facesr.methods.open import Asked
from facesr.protocols import Embedder
from facesr.submission.verify import VerifiedSubmission


@dataclass(frozen=True)
class Job:
    """What an evaluation or a study works with.

    Attributes:
        settings: checked.
        archives: verified submissions, by what they are called in the settings.
        methods: what gives the methods that were checked (`facesr.methods.open.open_asked`).
        judges: the ranking one first; none where the perceptual index ranks.
        perceptual: what the perceptual index is taken with, None for other protocols.
        options: how to score.
        out: folder for the result, claimed.
    """

    settings: EvaluateSettings
    archives: Mapping[str, VerifiedSubmission]
    methods: Mapping[Asked, Callable[[], Method]]
    judges: list[Embedder]
    perceptual: Perceptual | None
    options: Options
    out: Path

    def method(self) -> Method:
        """Returns the method that the settings name."""
        return self.methods[asked_for(self.settings)]()


def asked_for(settings: EvaluateSettings) -> Asked:
    """Returns what the settings' keys of one method ask for; they have to name one."""
    assert settings.method is not None
    return Asked(settings.method, settings.interpolate_with, settings.interpolation_weight)
