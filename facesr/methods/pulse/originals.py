"""What if the search knew the person? A term that draws it to the original's embedding: an experiment, no restoration.

Whoever has only the low-resolution picture cannot run it, so its results say so: the judge counts as white-box, and
every picture and the method's name tell that the original was used. It shows how much of what is lost the generator
could have drawn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facesr.build import build, load_group
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.errors import ConfigError
from facesr.image import to_float, to_uint8
from facesr.methods.low import LowPictures
from facesr.places import Place
from facesr.png import read_png
from facesr.protocols import Embedder

KEY, JUDGE_KEY = "pulse.identity_weight", "pulse.identity_judge"
REMARK = "the search used the original"


@dataclass(frozen=True)
class Wanted:
    """A judge, and what it should say of the pictures of a batch.

    Attributes:
        judge: differentiable.
        embeddings: of the originals, unit length, (N, D).
    """

    judge: Embedder
    embeddings: Tensor

    def rows(self, rows: Sequence[int] | Tensor) -> "Wanted":
        """Returns the same for some rows, in their order."""
        return Wanted(self.judge, self.embeddings[rows])

    def distance(self, pictures: Tensor) -> Tensor:
        """Returns one minus the cosine to the original's embedding, (N,), 0 to 2, for pictures (N, 3, H, W)."""
        return 1.0 - (self.judge(pictures.clamp(0.0, 1.0)) * self.embeddings).sum(dim=1)


class Originals:
    """The originals' embeddings, found by the pixels of the low-resolution pictures."""

    def __init__(self, judge: Embedder, embeddings: dict[str, Tensor]) -> None:
        """Takes a judge, and embeddings (D,) by `digest_of` the input."""
        self.judge, self._embeddings = judge, embeddings

    def wanted(self, low: Tensor) -> Wanted:
        """Returns what is wanted of the inputs (N, 3, h, w) in [0, 1].

        Raises:
            ConfigError: an input is none of those whose originals are known.
        """
        rows = [self._of(digest_of(picture.tobytes())) for picture in to_uint8(low)]
        return Wanted(self.judge, torch.stack(rows).to(low.device))

    def key(self, low: bytes) -> str:
        """Returns what decides a result beside its input: judge and embedding, as a digest."""
        embedding = self._of(digest_of(low)).cpu().float().numpy().tobytes()
        return digest_of(self.judge.weights_sha256.encode() + embedding)

    @property
    def sha256(self) -> str:
        """Digest of all inputs, their originals' embeddings and the judge."""
        parts = [digest + self._embeddings[digest].cpu().float().numpy().tobytes().hex() for digest in self._embeddings]
        return digest_of("".join([self.judge.weights_sha256, *sorted(parts)]).encode())

    def _of(self, digest: str) -> Tensor:
        if digest not in self._embeddings:
            raise ConfigError(f"{KEY} uses the originals, and an input has none in high=; leave it 0.")
        return self._embeddings[digest]


def digest_of(content: bytes) -> str:
    """Returns the sha256 of pixels or others, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check_originals(settings: EvaluateSettings | SubmitSettings) -> None:
    """Raises ConfigError where the search should use originals and there are none that it may use."""
    if not settings.pulse.identity_weight:
        return
    if isinstance(settings, SubmitSettings):
        raise ConfigError(f"{KEY} uses the originals, which no archive may; leave it 0.")
    if settings.low is None or settings.high is None or settings.study is not None:
        raise ConfigError(f"{KEY} uses the originals: give low=DIR and high=DIR, and no study=.")
    if settings.pulse.identity_judge is None:
        raise ConfigError(f"{KEY} needs a recogniser: give {JUDGE_KEY}=NAME, a name of embedder=.")


@torch.no_grad()
def open_originals(low: Path, high: Path, name: str, device: torch.device) -> Originals:
    """Returns the originals of a folder of low-resolution pictures, seen by a judge.

    Args:
        low: folder of the inputs.
        high: folder of the originals, of the same ids.
        name: the judge's configuration.
        device: it runs there.

    Raises:
        ConfigError: there is no such judge, or it gives no gradients.
        DataError: a picture is missing or broken.
        WeightsError: the judge's weights are missing.
    """
    node = load_group("embedder", name)
    if not node:
        raise ConfigError(f"{JUDGE_KEY}={name} is no recogniser; choose another, e.g. builtin.")
    judge = build(node, Place.EMBEDDER, key=JUDGE_KEY)
    if not (judge.differentiable and isinstance(judge, nn.Module)):
        raise ConfigError(f"{JUDGE_KEY}={name} gives no gradients; choose another, e.g. builtin.")
    assert isinstance(judge, Embedder)
    judge.eval().requires_grad_(False).to(device)
    embeddings = {}
    for path in LowPictures.open(low).paths.values():
        original = to_float(read_png(high / path.name)[None]).to(device)
        embeddings[digest_of(read_png(path).tobytes())] = judge(original)[0]
    return Originals(judge, embeddings)
