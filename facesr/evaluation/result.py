"""What an evaluation found, as data: the source of summary.json, per_image.csv, the console table and the report."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from facesr import __version__, dist
from facesr.config import EvaluationProtocol
from facesr.energy import EnergyLog
from facesr.evaluation.bootstrap import CONFIDENCE, Statistics
from facesr.evaluation.pairs import Pairs
from facesr.evaluation.perceptual import Figure
from facesr.evaluation.scoring import Scores
from facesr.guard import GuardRecord, guard_line
from facesr.protocols import Column, Embedder

SUMMARY_FORMAT = 2


@dataclass(frozen=True)
class Subject:
    """What is scored.

    Attributes:
        kind: ``restored``, ``method`` or ``submission``.
        name: how it is called in the report.
        folder: its restored pictures.
        loss_judges: embedders in its training loss; None when that is not known.
        facts: what else is known of it, plain containers.
        is_claim: whether `loss_judges` and `guard` are the team's word.
        guard: what the guard did for its pictures, by id; None where it is not known, or the method has none.
        energy: that restoring took, by node and rank; None where it is not known.
    """

    kind: str
    name: str
    folder: Path
    loss_judges: tuple[str, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    is_claim: bool = False
    guard: GuardRecord | None = None
    energy: EnergyLog | None = None

    @property
    def is_synthetic(self) -> bool:
        """Whether its pictures say that their faces are invented."""
        return bool(self.facts.get("synthetic"))

    @property
    def is_bicubic(self) -> bool:
        """Whether it is known to be bicubic interpolation; a team's word is not enough."""
        return self.name == "bicubic" and self.facts.get("weights_sha256") == "" and not self.is_claim

    @property
    def label(self) -> str:
        """Its kind in words."""
        return f"synthetic {self.kind}" if self.is_synthetic else self.kind


@dataclass(frozen=True)
class Judge:
    """A judge as the report shows it.

    Attributes:
        name: of the embedder.
        weights_sha256: of its weights file.
        dim: length of its embeddings.
        ranks: whether its ID similarity is the score.
        in_training_loss: whether the scored method was trained on it; None when that is not known.
    """

    name: str
    weights_sha256: str
    dim: int
    ranks: bool
    in_training_loss: bool | None

    @property
    def metric(self) -> str:
        """Name of its ID similarity."""
        return f"is/{self.name}"


@dataclass(frozen=True)
class Evaluation:
    """Everything there is to tell.

    Attributes:
        subject: what was scored.
        high: folder of the originals.
        low: folder of the low-resolution pictures, or None.
        protocol: the rules.
        judges: the ranking one first; none where the protocol's score is no ID similarity.
        pairs: the files.
        scores: per picture.
        statistics: metric name -> statistics over the pictures.
        groups: attribute -> group -> metric name -> statistics.
        seconds: what took how long.
        device: what it ran on.
        settings: num_resamples, seed and batch size.
        ranking_column: the column whose mean is the score; None where it cannot be had.
        figures: of the set, beside the means of the columns.
        missing: figure -> why it is missing.
        models: sha256 of the models that columns depend on, by name.
        created: when it was begun, with its time zone; None where that is not told.
    """

    subject: Subject
    high: Path
    low: Path | None
    protocol: EvaluationProtocol
    judges: tuple[Judge, ...]
    pairs: Pairs
    scores: Scores
    statistics: dict[str, Statistics]
    groups: dict[str, dict[str, dict[str, Statistics]]]
    seconds: dict[str, float]
    device: str
    settings: dict[str, int]
    ranking_column: str | None
    figures: tuple[Figure, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    created: datetime | None = None

    @property
    def created_utc(self) -> str | None:
        """When it was begun, in UTC to the second, as ISO 8601 has it."""
        return None if self.created is None else self.created.astimezone(UTC).isoformat(timespec="seconds")

    @property
    def ranking(self) -> Judge | None:
        """The judge whose ID similarity is the score, None where something else is."""
        return self.judges[0] if self.judges else None

    @property
    def score(self) -> Statistics | None:
        """What the protocol ranks by, None where it cannot be had."""
        return None if self.ranking_column is None else self.statistics[self.ranking_column]

    @property
    def ordering(self) -> Column:
        """The column that says which pictures are worst and best: the ranking one, or the first there is."""
        named = [column for column in self.scores.metrics if column.name == self.ranking_column]
        return (named or list(self.scores.metrics))[0]

    @property
    def white_box(self) -> bool:
        """Whether the ranking judge was in the training loss."""
        return self.ranking is not None and self.ranking.in_training_loss is True

    @property
    def held_out(self) -> tuple[Judge, ...]:
        """Judges that the method is known not to have been trained on."""
        return tuple(judge for judge in self.judges if judge.in_training_loss is False)


def describe_judges(judges: Sequence[Embedder], subject: Subject) -> tuple[Judge, ...]:
    """Returns the judges as data, the first one ranking."""
    known = subject.loss_judges
    return tuple(
        Judge(judge.name, judge.weights_sha256, judge.dim, i == 0, None if known is None else judge.name in known)
        for i, judge in enumerate(judges)
    )


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Returns what a reader has to know before the number: invented faces, a white-box judge, fallbacks, gaps."""
    found: list[str] = []
    if evaluation.subject.is_synthetic:
        found.append(
            "Synthetic: these faces are invented to fit the low-resolution pictures; they are not the persons, and "
            "no one may be identified by them."
        )
    if evaluation.ranking is not None and evaluation.white_box:
        held_out = ", ".join(
            f"{judge.name} {evaluation.statistics[judge.metric].mean:.4f}" for judge in evaluation.held_out
        )
        beside = f"Held-out judges say: {held_out}." if held_out else "Add a held-out judge: judges=[NAME,...]."
        found.append(
            f"White-box: {evaluation.ranking.name} ranks here and was part of the training loss, so its value "
            f"flatters. {beside}"
        )
    found += guard_warnings(evaluation)
    if not evaluation.protocol.strict:
        notes = evaluation.pairs.notes
        counts = ", ".join(f"{len(names)} {note}" for note, names in notes.items())
        found.append(f"Official rules of the 2019 script, not the strict protocol ({counts}).")
    if evaluation.subject.facts.get("within_power_limit", True) is not True:
        found.append(evaluation.subject.facts["power_check"])
    found += [f"{name} is missing: {reason}" for name, reason in evaluation.missing.items()]
    return found


def guard_facts(subject: Subject) -> dict[str, Any]:
    """Returns what summary.json says of the guard under the key ``guard``; nothing where it is not known."""
    return {} if subject.guard is None else {"guard": subject.guard.as_dict()}


def guard_warnings(evaluation: Evaluation) -> list[str]:
    """Returns the sentence about pictures that a fallback restored, none where there is none."""
    guard = evaluation.subject.guard
    if guard is None or not guard.replaced:
        return []
    claim = " (as its manifest says)" if evaluation.subject.is_claim else ""
    return [f"Guard: {guard_line(guard, len(evaluation.scores.ids))}{claim}."]


def summary_of(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the contents of summary.json; docs/evaluation.md is its schema."""
    ranking = evaluation.ranking
    return {
        "format": SUMMARY_FORMAT,
        "created": evaluation.created_utc,
        "score": None if evaluation.score is None else evaluation.score.mean,
        "ranking_metric": evaluation.ranking_column,
        "ranking_judge": None if ranking is None else ranking.name,
        "white_box": None if ranking is None else ranking.in_training_loss,
        "num_pictures": len(evaluation.scores.ids),
        "warnings": warnings_of(evaluation),
        "subject": _subject_facts(evaluation.subject),
        "protocol": asdict(evaluation.protocol),
        "inputs": {
            "high": str(evaluation.high),
            "low": None if evaluation.low is None else str(evaluation.low),
            "pixels_sha256": evaluation.scores.pixels_sha256,
        },
        "judges": {judge.name: _without(asdict(judge), "name") for judge in evaluation.judges},
        "metrics": {
            metric.name: {
                **_statistics(evaluation.statistics[metric.name]),
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "version": metric.version,
                "conditions": metric.conditions,
            }
            for metric in evaluation.scores.metrics
        },
        "bicubic": evaluation.scores.bicubic,
        "set": {figure.name: _without(asdict(figure), "name") for figure in evaluation.figures},
        "models": evaluation.models,
        "groups": {
            attribute: {
                group: {name: _statistics(found) for name, found in metrics.items()}
                for group, metrics in groups.items()
            }
            for attribute, groups in evaluation.groups.items()
        },
        "official_notes": evaluation.pairs.notes if not evaluation.protocol.strict else None,
        "settings": evaluation.settings,
        "seconds": {name: round(value, 3) for name, value in evaluation.seconds.items()},
        "environment": environment(evaluation.device),
    }


def _subject_facts(subject: Subject) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.name,
        "loss_judges": None if subject.loss_judges is None else list(subject.loss_judges),
        "loss_judges_are_a_claim": subject.is_claim,
        **guard_facts(subject),
        **({} if subject.energy is None else {"energy": subject.energy.as_dict()}),
        **subject.facts,
    }


def environment(device: str) -> dict[str, Any]:
    """Returns the versions and the device that may move the last digits."""
    return {
        "facesr": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "onnxruntime": version("onnxruntime"),
        "device": device,
        "num_ranks": dist.world_size(),
    }


def _statistics(found: Statistics) -> dict[str, Any]:
    return {
        "mean": found.mean,
        "std": found.std,
        f"ci{CONFIDENCE * 100:.0f}": [found.low, found.high],
        "min": found.minimum,
        "max": found.maximum,
        "count": found.count,
    }


def _without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}
