"""Scoring verified pictures for the board: judges and references opened once, every submission scored alike.

What scores is written down as the basis: rules, versions of the metrics, weights of the judges, digests of the
references. Scores of one basis can be compared; another basis needs a new round.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy import float64
from numpy.typing import NDArray

from facesr import dist
from facesr.build import load_settings
from facesr.config import EvaluateSettings, EvaluationProtocol
from facesr.errors import FaceSRError, ImageError, SubmissionError, WeightsError
from facesr.evaluation.judges import named_judge, on_device
from facesr.evaluation.pairs import Pairs, read_batch, strict_pairs
from facesr.evaluation.perceptual import Perceptual, open_perceptual, with_index
from facesr.evaluation.scoring import pictures_sha256, score
from facesr.image import to_float
from facesr.leaderboard.sandbox import OrganiserError
from facesr.methods.low import LowPictures
from facesr.metrics import default_metrics
from facesr.protocols import Column, Embedder, Metric, MetricInputs


@dataclass(frozen=True)
class Scored:
    """Scores of a submission.

    Attributes:
        ids: of the faces, sorted.
        columns: metric -> float64 (N,), all finite, in the order of display.
        about: metric -> ``unit``, ``higher_is_better``, ``version`` and ``conditions``.
        ranking_metric: the column whose mean ranks.
        higher_is_better: direction of it.
        pixels_sha256: digest of ids, sizes and restored pixels.
    """

    ids: tuple[str, ...]
    columns: dict[str, NDArray[float64]]
    about: Mapping[str, Mapping[str, Any]]
    ranking_metric: str
    higher_is_better: bool
    pixels_sha256: str


@functools.cache
def protocol_named(name: str) -> EvaluationProtocol:
    """Returns the rules of configs/protocol/<name>.yaml.

    Raises:
        ConfigError: there are none of that name.
    """
    return _settings(name).protocol


@functools.cache
def _settings(protocol: str) -> EvaluateSettings:
    return load_settings("evaluate", EvaluateSettings, [f"protocol={protocol}"])


class Scorer:
    """What scores the submissions of a phase; `Scorer.open` makes one.

    Attributes:
        ids: of the faces, sorted, in Unicode form C.
        columns: metric -> ``unit``, ``higher_is_better``, ``version`` and ``conditions``, in the order of display.
        ranking_metric: the column whose mean ranks.
        higher_is_better: direction of it.
        basis: what the scores depend on, as plain JSON: ``protocol``, ``metrics`` (name -> version), ``judges`` (name
            -> sha256 of the weights), ``models`` (the same, of the perceptual index), ``references`` (``high`` and
            ``low`` -> digest of the pixels) and ``ranking_metric``.
        basis_sha256: digest of it.
    """

    def __init__(
        self,
        protocol: EvaluationProtocol,
        judges: Sequence[Embedder],
        perceptual: Perceptual | None,
        high: Path,
        low: Path,
        device: torch.device,
        batch_size: int,
    ) -> None:
        """Reads the references; the judges are on the device already.

        Raises:
            OrganiserError: the references are not as they have to be, or a metric is not defined for them.
        """
        self._protocol, self._high, self._low = protocol, high, low
        self._device, self._batch_size = device, batch_size
        self._perceptual = perceptual
        self._metrics: list[Metric] = (
            default_metrics(judges, True, remember_high=True) if perceptual is None else perceptual.metrics(True)
        )
        index = None if perceptual is None else perceptual.index
        shown: list[Column] = [*([] if index is None else [index]), *self._metrics]
        self.columns = {column.name: _about(column) for column in shown}
        self.ranking_metric = shown[0].name
        self.higher_is_better = shown[0].higher_is_better
        pairs = self._references()
        self.ids = tuple(pair.id for pair in pairs.items)
        self.basis: dict[str, Any] = {
            "protocol": asdict(protocol),
            "metrics": {column.name: column.version for column in shown},
            "judges": {judge.name: judge.weights_sha256 for judge in judges},
            "models": {} if perceptual is None else perceptual.identity(),
            "references": self._digests(pairs),
            "ranking_metric": self.ranking_metric,
        }
        self.basis_sha256 = hashlib.sha256(json.dumps(self.basis, sort_keys=True).encode()).hexdigest()
        self._try_out(pairs)

    @classmethod
    def open(
        cls,
        protocol: EvaluationProtocol,
        ranking_judge: str,
        held_out: Sequence[str],
        high: Path,
        low: Path,
        device: str = "cpu",
        *,
        niqe_model: Path | None = None,
        ma_model: Path | None = None,
    ) -> "Scorer":
        """Returns a scorer with its judges loaded.

        Args:
            protocol: the rules.
            ranking_judge: a name of configs/embedder/; not asked where the perceptual index ranks, as are the next.
            held_out: further judges.
            high: folder of the originals.
            low: folder of the low-resolution pictures.
            device: ``auto``, ``cpu`` or ``cuda``.
            niqe_model: the file, by default where `facesr.weights` finds it.
            ma_model: the same for Ma's metric.

        Raises:
            FaceSRError: a judge, a model or a reference is missing or not as it has to be.
        """
        chosen = dist.choose_device(device)
        # Only defaults that no protocol changes are taken of these.
        settings = _settings("open")
        perceptual = open_perceptual(
            replace(
                settings,
                protocol=protocol,
                niqe=replace(settings.niqe, model=_text(niqe_model)),
                ma=replace(settings.ma, model=_text(ma_model)),
            )
        )
        judges: list[Embedder] = []
        if perceptual is None:
            names = dict.fromkeys([ranking_judge, *held_out])
            judges = [on_device(named_judge(name, f"judge {name}"), chosen) for name in names]
        elif perceptual.index is None:
            reasons = " ".join(perceptual.missing.values())
            raise WeightsError(
                f"protocol {protocol.name} ranks by the perceptual index, which cannot be had: {reasons}"
            )
        return cls(protocol, judges, perceptual, high, low, chosen, settings.batch_size)

    def score(self, folder: Path) -> Scored:
        """Returns the scores of a folder of verified pictures, <id>.png.

        Raises:
            SubmissionError: a metric is not defined for a picture, such as one that is flat; the sentence is for the
                team.
            OrganiserError: the references have changed since the scorer was opened.
            FaceSRError: the folder is not what `facesr.leaderboard.sandbox.verify_apart` leaves.
        """
        pairs = strict_pairs(folder, self._high, self._low, self._protocol)
        try:
            found = score(pairs, self._metrics, self._device, self._batch_size)
        except ImageError as error:
            raise _fault_of(error, folder) from error
        assert found is not None, "a scorer is used by one process"
        if found.pixels_sha256["high"] != self.basis["references"]["high"]:
            raise OrganiserError(f"the pictures of {self._high} have changed; start the worker again and re-score.")
        if self._perceptual is not None:
            with_index(found.values, self._perceptual)
        return Scored(
            ids=found.ids,
            columns={name: found.values[name] for name in self.columns},
            about=self.columns,
            ranking_metric=self.ranking_metric,
            higher_is_better=self.higher_is_better,
            pixels_sha256=found.pixels_sha256["restored"],
        )

    def _references(self) -> Pairs:
        """Returns the originals paired with themselves: what is wrong with them is no submission's fault."""
        try:
            return strict_pairs(self._high, self._high, self._low, self._protocol)
        except FaceSRError as error:
            raise OrganiserError(f"the references are not as they have to be: {error}") from error

    def _digests(self, pairs: Pairs) -> dict[str, str]:
        """Returns the digests of the references; all of them are decoded for it."""
        try:
            return {
                "high": pictures_sha256((pair, pairs.read(pair.high)) for pair in pairs.items),
                "low": LowPictures.open(self._low, self._protocol).sha256,
            }
        except FaceSRError as error:
            raise OrganiserError(f"the references are not as they have to be: {error}") from error

    def _try_out(self, pairs: Pairs) -> None:
        """Takes every metric of the smallest original, so that a metric that wants larger ones fails here."""
        smallest = min(pairs.items, key=lambda pair: (min(pair.size), pair.id))
        restored, high, low = read_batch([smallest], pairs)
        assert low is not None
        batches = (to_float(pictures).to(self._device) for pictures in (restored, high, low))
        inputs = MetricInputs(*batches)
        try:
            for metric in self._metrics:
                metric(inputs)
        except ImageError as error:
            raise OrganiserError(f"{smallest.high} cannot be scored: {error}") from error


def _about(column: Column) -> dict[str, Any]:
    return {
        "unit": column.unit,
        "higher_is_better": column.higher_is_better,
        "version": column.version,
        "conditions": column.conditions,
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _fault_of(error: ImageError, folder: Path) -> FaceSRError:
    """Returns whose fault it is that a picture cannot be scored, told without a path to the team."""
    # scoring's sentences are "<path>: <what is wrong>; <advice for one's own folders>."
    prefix, sentence = f"{folder}{os.sep}", str(error)
    if not sentence.startswith(prefix):
        return OrganiserError(sentence)
    return SubmissionError(
        f"{sentence.removeprefix(prefix).partition(';')[0].rstrip('.')}; restore that picture again."
    )
