"""An evaluation from folders to files: pair, score, describe, write.

pairs    = strict or official rules      (pairs.py, official.py)
scores   = metrics over batches, ranks   (scoring.py)
result   = statistics, groups, judges    (bootstrap.py, attributes.py, result.py)
files    = summary.json, per_image.csv, report.html
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from facesr.config import EvaluationProtocol
from facesr.evaluation.attributes import read_attributes, scores_by_group
from facesr.evaluation.bootstrap import describe
from facesr.evaluation.official import official_pairs
from facesr.evaluation.out_folder import SUMMARY, write_text
from facesr.evaluation.pairs import Pairs, strict_pairs
from facesr.evaluation.perceptual import Perceptual, figures_of, with_index
from facesr.evaluation.report.examples import examples
from facesr.evaluation.report.report import report_html
from facesr.evaluation.report.tables import per_image_csv
from facesr.evaluation.result import Evaluation, Subject, describe_judges, summary_of
from facesr.evaluation.scoring import score
from facesr.methods.record import SYNTHETIC
from facesr.metrics import default_metrics
from facesr.png import png_remark
from facesr.protocols import Embedder, Metric
from facesr.task import SCALE

# A remark lies right behind a PNG's header.
_HEAD_BYTES = 1024


@dataclass(frozen=True)
class Options:
    """How to score: none of these moves a score beyond float32 rounding.

    Attributes:
        device: judges and metrics run there.
        batch_size: pictures in memory at once, on each rank.
        num_resamples: of the bootstrap.
        num_examples: pictures in each row of the report.
        seed: of the bootstrap and of the random examples.
        kept_in: folder that keeps the originals' embeddings for later evaluations; None embeds them each time.
    """

    device: torch.device
    batch_size: int
    num_resamples: int
    num_examples: int
    seed: int
    kept_in: Path | None = None


def find_pairs(restored: Path, high: Path, low: Path | None, protocol: EvaluationProtocol) -> Pairs:
    """Returns the pairs of files to score, by the protocol's strict or the script's official rules.

    Raises:
        FaceSRError: see `strict_pairs` and `official_pairs`.
    """
    rules = strict_pairs if protocol.strict else official_pairs
    return rules(restored, high, low, protocol)


def evaluate(
    subject: Subject,
    high: Path,
    low: Path | None,
    protocol: EvaluationProtocol,
    judges: Sequence[Embedder],
    options: Options,
    *,
    perceptual: Perceptual | None = None,
    attributes: Path | None = None,
    seconds: dict[str, float] | None = None,
    on_batch: Callable[[int], None] = lambda count: None,
    beside_bicubic: bool = False,
    created: datetime | None = None,
) -> Evaluation | None:
    """Returns the evaluation of a folder of restored pictures on rank 0, None on the other ranks.

    Args:
        subject: what is scored, with its folder.
        high: folder of the originals.
        low: folder of the low-resolution pictures; without it there is no consistency.
        protocol: the rules.
        judges: the ranking one first; none where the perceptual index ranks.
        options: how to score.
        perceptual: what the perceptual index is taken with, for a protocol whose score it is.
        attributes: CSV file of groups.
        seconds: what was measured before, e.g. restoring.
        on_batch: called with the number of pictures after each batch.
        beside_bicubic: score bicubic interpolation of `low` as well, where there is such a comparison to make.
        created: the date and time to tell, with its time zone.

    Raises:
        FaceSRError: a folder, a picture or the attributes do not fit.
    """
    start = time.perf_counter()
    pairs = find_pairs(subject.folder, high, low, protocol)
    subject = labelled(subject, pairs)
    members = read_attributes(attributes, [pair.id for pair in pairs.items]) if attributes else {}
    with_bicubic = beside_bicubic and low is not None and has_baseline(subject, protocol, perceptual)
    metrics = _metrics(judges, perceptual, low is not None, options.kept_in, remember_high=with_bicubic)
    scores = score(pairs, metrics, options.device, options.batch_size, on_batch, with_bicubic=with_bicubic)
    if scores is None:
        return None
    if perceptual is not None:
        scores = replace(scores, metrics=(*with_index(scores.values, perceptual), *scores.metrics))
    return Evaluation(
        subject=subject,
        high=high,
        low=low,
        protocol=protocol,
        judges=describe_judges(judges, subject),
        pairs=pairs,
        scores=scores,
        statistics={
            name: describe(values, options.num_resamples, options.seed) for name, values in scores.values.items()
        },
        groups=scores_by_group(members, scores.values, options.num_resamples, options.seed),
        seconds={**(seconds or {}), "score": time.perf_counter() - start},
        device=str(options.device),
        settings={
            "batch_size": options.batch_size,
            "num_resamples": options.num_resamples,
            "seed": options.seed,
        },
        ranking_column=_ranking_column(judges, perceptual),
        figures=() if perceptual is None else figures_of(scores.values, perceptual),
        missing={} if perceptual is None else perceptual.missing,
        models={} if perceptual is None else perceptual.identity(),
        created=created,
    )


def has_baseline(subject: Subject, protocol: EvaluationProtocol, perceptual: Perceptual | None) -> bool:
    """Returns whether bicubic interpolation can stand beside a subject: it is another method, and judges rank."""
    return perceptual is None and protocol.scale == SCALE and not subject.is_bicubic


def _metrics(
    judges: Sequence[Embedder], perceptual: Perceptual | None, with_low: bool, kept_in: Path | None, remember_high: bool
) -> list[Metric]:
    if perceptual is not None:
        return perceptual.metrics(with_low)
    # Whatever is scored against the same originals twice shall embed them once.
    remember = remember_high or kept_in is not None
    return default_metrics(judges, with_low, remember_high=remember, kept_in=kept_in)


def labelled(subject: Subject, pairs: Pairs) -> Subject:
    """Returns the subject, with the fact ``synthetic`` where a picture of it says that its face is invented.

    However the pictures came here, restored now, in a folder or in an archive, their files say so themselves.
    """
    for pair in pairs.items:
        try:
            with pair.restored.open("rb") as file:
                remark = png_remark(file.read(_HEAD_BYTES))
        except OSError:
            continue  # scoring says what is wrong with the file
        if remark.startswith(SYNTHETIC):
            return replace(subject, facts={**subject.facts, "synthetic": True})
    return subject


def _ranking_column(judges: Sequence[Embedder], perceptual: Perceptual | None) -> str | None:
    if perceptual is None:
        return f"is/{judges[0].name}"
    return None if perceptual.index is None else perceptual.index.name


def write_evaluation(out: Path, evaluation: Evaluation, ranking: Embedder | None, options: Options) -> None:
    """Writes per_image.csv, report.html and, last, summary.json; each file is whole or absent.

    Raises:
        DataError: the folder cannot be written.
    """
    faces = examples(
        evaluation.pairs,
        evaluation.scores,
        evaluation.ordering,
        ranking,
        options.device,
        options.num_examples,
        options.seed,
    )
    write_text(out / "per_image.csv", per_image_csv(evaluation))
    write_text(out / "report.html", report_html(evaluation, faces))
    write_text(out / SUMMARY, json.dumps(summary_of(evaluation), indent=2, allow_nan=False) + "\n")
