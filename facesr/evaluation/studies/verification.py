"""The verification study: is the person found again by another picture?

    uv run evaluate.py study=verification entries=[NAME,...] low=DIR high=DIR identities=FILE.csv

ID similarity compares a restored face with the original of the very same picture. A recogniser in use has another
picture of the person. Here every restored face is compared with every other original: with those of the same person and
those of all others. Bicubic interpolation and the originals themselves stand beside: what recognition has without a
network, and what it could have at most.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from facesr import dist
from facesr.config import EvaluateSettings
from facesr.data.export import IDENTITIES
from facesr.dist import together
from facesr.errors import ConfigError, DataError
from facesr.evaluation.bootstrap import Estimate
from facesr.evaluation.flow import find_pairs
from facesr.evaluation.identities import read_identities
from facesr.evaluation.out_folder import SUMMARY, write_bytes, write_text
from facesr.evaluation.pairs import MOST_BATCH_PIXELS, list_pictures
from facesr.evaluation.report.study_page import study_page
from facesr.evaluation.report.tables import aligned
from facesr.evaluation.result import environment
from facesr.evaluation.studies.study import Job
from facesr.evaluation.studies.tradeoff_entries import entries_of_study, subject_of
from facesr.evaluation.studies.verification_rates import Verified, can_be_measured, rates
from facesr.evaluation.subjects import pairs_to_score, progress, say
from facesr.figures.charts import Axes, curves_png
from facesr.image import Picture, to_float
from facesr.metrics.identity_similarity import embed
from facesr.names import shown_path
from facesr.png import read_png
from facesr.protocols import Embedder

STUDY = "verification"
ORIGINAL = "original"
# What is told, and what the plot shows; a rate that too few pairs would decide is left out.
FARS = (0.01, 0.001)
PLOTTED = (0.0001, 0.001, 0.01, 0.1)
# Every picture is compared with every other one, in float64.
MOST_PICTURES = 4_000
STUDY_FORMAT = 1

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """The faces whose person is known.

    Attributes:
        ids: of the pictures, sorted.
        persons: int64 (N,), 0..P-1.
        num_unknown: pictures of people who are not known, which are left out.
    """

    ids: tuple[str, ...]
    persons: NDArray[np.int64]
    num_unknown: int

    @property
    def num_several(self) -> int:
        """How many persons have two pictures or more: those who can be found again."""
        return int((np.bincount(self.persons) > 1).sum())


@dataclass(frozen=True)
class Verification:
    """What is found.

    Attributes:
        known: the faces.
        by_judge: judge -> kind of probe -> what is found at each FAR.
        curves: kind of probe -> TAR at `plotted`, by the last judge.
        plotted: the rates of the curves.
        white_box: kind of probe -> judges that were in its training loss.
    """

    known: Known
    by_judge: dict[str, dict[str, list[Verified]]]
    curves: dict[str, list[float]]
    plotted: tuple[float, ...]
    white_box: Mapping[str, Sequence[str]]


def read_known(path: Path, ids: Sequence[str]) -> Known:
    """Returns the faces of a folder whose person a file tells.

    Raises:
        DataError: the file does not fit, no person has two pictures, or there are too few persons or too many pictures.
    """
    names = read_identities(path, ids)
    kept = [number for number, name in enumerate(names) if name]
    _, persons = np.unique([names[number] for number in kept], return_inverse=True)
    known = Known(tuple(ids[number] for number in kept), persons.astype(np.int64), len(ids) - len(kept))
    if not kept or known.num_several == 0:
        raise DataError(
            f"identities={path}: nobody has two pictures; study=verification compares pictures of a person."
        )
    if not can_be_measured(known.persons, max(FARS)):
        raise DataError(
            f"identities={path}: {len(kept)} pictures of {int(persons.max()) + 1} persons are too few for a false "
            f"acceptance rate of {max(FARS):g}; give more persons."
        )
    if len(kept) > MOST_PICTURES:
        raise DataError(
            f"identities={path}: {len(kept)} pictures of known persons are more than the {MOST_PICTURES} that are "
            "compared with each other; leave the identity of some empty."
        )
    return known


def check(settings: EvaluateSettings, ids: Sequence[str]) -> None:
    """Checks the file of identities before anything is restored.

    Raises:
        DataError: see `read_known`.
    """
    read_known(Path(settings.identities or ""), ids)


def embedded(
    folder: Path,
    ids: Sequence[str],
    judges: Sequence[Embedder],
    device: torch.device,
    batch_size: int,
    on_batch: Callable[[int], None],
) -> dict[str, Embeddings] | None:
    """Returns each judge's embeddings (N, D) of the pictures of a folder on rank 0, None on the others.

    Raises:
        ImageError: a picture cannot be read.
        WeightsError: an embedding is not finite.
    """
    places = range(0, len(ids), batch_size)[dist.rank() :: dist.world_size()]
    paths = list_pictures(folder)

    def work() -> list[tuple[int, list[Embeddings]]]:
        rows = []
        for start in places:
            some = ids[start : start + batch_size]
            pictures = (read_png(paths[key]) for key in some)
            batches = (to_float(batch).to(device) for batch in _of_one_size(pictures))
            parts = [[embed(judge, batch) for judge in judges] for batch in batches]
            rows.append((start, [np.concatenate(of_judge) for of_judge in zip(*parts, strict=True)]))
            on_batch(len(some))
        return rows

    gathered = together(work)
    if gathered is None:
        return None
    rows = sorted((row for part in gathered for row in part), key=lambda row: row[0])
    return {judge.name: np.concatenate([row[1][number] for row in rows]) for number, judge in enumerate(judges)}


def _of_one_size(pictures: Iterable[Picture]) -> Iterator[NDArray[np.uint8]]:
    """Yields neighbouring pictures of one size together, (N, H, W, 3), no more than MOST_BATCH_PIXELS of them."""
    held: list[Picture] = []
    for picture in pictures:
        if held and (picture.shape != held[0].shape or (len(held) + 1) * picture[..., 0].size > MOST_BATCH_PIXELS):
            yield np.stack(held)
            held = []
        held.append(picture)
    if held:
        yield np.stack(held)


def similarities(probes: Embeddings, originals: Embeddings) -> NDArray[np.float64]:
    """Returns the cosine of each probe with each original, float64 (N, N), for embeddings (N, D)."""
    first, second = (one.astype(np.float64) for one in (probes, originals))
    lengths = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    found: NDArray[np.float64] = first @ second.T / np.where(lengths > 0.0, lengths, 1.0)
    return found


def verification(
    known: Known,
    kinds: Mapping[str, Mapping[str, Embeddings]],
    white_box: Mapping[str, Sequence[str]],
    num_resamples: int,
    seed: int,
) -> Verification:
    """Returns what is found, for kind of probe -> judge -> embeddings (N, D); the last kind is the originals."""
    fars = [far for far in FARS if can_be_measured(known.persons, far)]
    plotted = tuple(far for far in PLOTTED if can_be_measured(known.persons, far))
    *_, originals = kinds
    by_judge = {}
    for judge in kinds[originals]:
        scores = {kind: similarities(found[judge], kinds[originals][judge]) for kind, found in kinds.items()}
        by_judge[judge] = rates(scores, known.persons, fars, originals, num_resamples, seed)
    # The plot has no intervals, and is of the last judge, whose scores are at hand.
    points = rates(scores, known.persons, plotted, originals, 1, seed)
    curves = {kind: [one.tar.value for one in found] for kind, found in points.items()}
    return Verification(known, by_judge, curves, plotted, white_box)


def _shown(rate: Estimate, *, sign: bool = False) -> str:
    spec = "+.3f" if sign else ".3f"
    return f"{rate.value:{spec}} ({rate.low:{spec}} to {rate.high:{spec}})"


def table_of(found: Verification) -> list[list[str]]:
    """Returns the table: heads, then a line for each judge, FAR and kind of probe."""
    first = next(iter(found.white_box), ORIGINAL)
    rows = [["judge", "FAR", "probe", "TAR", f"minus {first}", "TAR, originals' threshold", "FAR there"]]
    for judge, kinds in found.by_judge.items():
        for number in range(len(next(iter(kinds.values())))):
            for place, (kind, rates_of_kind) in enumerate(kinds.items()):
                one = rates_of_kind[number]
                name = f"{kind} (white-box)" if judge in found.white_box.get(kind, ()) else kind
                gain = "" if place == 0 else _shown(one.gain, sign=True)
                far_there = f"{one.far_as_set.value:.5f}"
                rows.append([judge, f"{one.far:g}", name, _shown(one.tar), gain, _shown(one.tar_as_set), far_there])
    return rows


def about(found: Verification) -> str:
    """Returns what was compared, in a line."""
    num_persons = int(found.known.persons.max()) + 1
    return (
        f"{len(found.known.ids)} pictures of {num_persons} persons, {found.known.num_several} of them with two or "
        "more; each restored face beside every other original"
    )


def notes_of(found: Verification) -> list[str]:
    """Returns what a reader has to know before the figures."""
    known, notes = found.known, []
    if known.num_unknown:
        notes.append(f"{known.num_unknown} pictures of persons who are not known were left out.")
    missing = [far for far in FARS if not can_be_measured(known.persons, far)]
    if missing:
        listed = " and ".join(f"{far:g}" for far in missing)
        notes.append(f"TAR at a FAR of {listed} is left out: too few pairs of two persons.")
    if any(found.white_box.values()):
        notes.append("White-box: that judge was in the training loss, so its rates are what was optimised.")
    return notes


def csv_of(found: Verification) -> str:
    """Returns verification.csv, a line for each judge, FAR and kind of probe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("tar", "gain", "tar_as_set", "far_as_set")
    ends = [f"{column}{end}" for column in columns for end in ("", "_low", "_high")]
    writer.writerow(["judge", "far", "probe", "white_box", *ends])
    for judge, kinds in found.by_judge.items():
        for kind, rates_of_kind in kinds.items():
            for one in rates_of_kind:
                numbers = [value for column in columns for value in asdict(getattr(one, column)).values()]
                is_white_box = str(judge in found.white_box.get(kind, ())).lower()
                writer.writerow([judge, f"{one.far:g}", kind, is_white_box, *(f"{value:.6f}" for value in numbers)])
    return text.getvalue()


def write_verification(out: Path, found: Verification, device: str) -> None:
    """Writes verification.csv, verification.png, report.html and, last, summary.json.

    Raises:
        DataError: the folder cannot be written.
    """
    *_, judge = found.by_judge
    axes = Axes(
        title=f"Verification by {judge}",
        x_label="false acceptance rate",
        y_label="true acceptance rate",
        x_ticks=[f"{far:g}" for far in found.plotted],
    )
    plot = curves_png(axes, found.curves)
    write_text(out / "verification.csv", csv_of(found))
    write_bytes(out / "verification.png", plot)
    page = study_page(
        "Verification",
        heading="Is the person found again?",
        about=about(found),
        notes=notes_of(found),
        plot=plot,
        plot_alt=f"true acceptance rate against false acceptance rate by {judge}",
        table_title="Rates",
        table=[[row[2], row[0], row[1], *row[3:]] for row in table_of(found)],
        how={
            "TAR": "share of pairs of one person with a cosine above the threshold; each person counts once",
            "FAR": "share of pairs of two persons above it; their own pairs set each kind's threshold",
            "originals' threshold": "the threshold that unrestored originals set: that of a system in use",
            "intervals": "95 %, by resampling persons; kinds share their resamples",
        },
    )
    write_text(out / "report.html", page)
    summary = {
        "format": STUDY_FORMAT,
        "study": STUDY,
        "num_pictures": len(found.known.ids),
        "num_persons": int(found.known.persons.max()) + 1,
        "num_persons_with_several": found.known.num_several,
        "num_unknown": found.known.num_unknown,
        "judges": {
            judge: {kind: [asdict(one) for one in rates_of_kind] for kind, rates_of_kind in kinds.items()}
            for judge, kinds in found.by_judge.items()
        },
        "white_box": {kind: list(judges) for kind, judges in found.white_box.items()},
        "environment": environment(device),
    }
    write_text(out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def run(job: Job) -> None:
    """Restores every entry, compares all pictures, writes the study's files and prints its table."""
    settings, options = job.settings, job.options
    high, low = pairs_to_score(settings, job.out)
    identities = Path(settings.identities) if settings.identities else high.parent / IDENTITIES
    known = read_known(identities, list(list_pictures(high)))
    kinds: dict[str, dict[str, Embeddings]] = {}
    white_box: dict[str, Sequence[str]] = {}
    sources = [(entry.name, entry) for entry in entries_of_study(settings)]
    if ORIGINAL in (name for name, _ in sources):
        raise ConfigError(f"entries: one is called {ORIGINAL}, as the originals are; rename its folder.")
    for number, (name, entry) in enumerate([*sources, (ORIGINAL, None)]):
        folder = high
        with progress(name, high) as advance:
            if entry is not None:
                subject = subject_of(entry, number, job, low)
                find_pairs(subject.folder, high, low, settings.protocol)
                folder, white_box[name] = subject.folder, subject.loss_judges or ()
            found = embedded(folder, known.ids, job.judges, options.device, options.batch_size, advance)
        if found is not None:
            kinds[name] = found
    if kinds:
        result = verification(known, kinds, white_box, options.num_resamples, options.seed)
        write_verification(job.out, result, str(options.device))
        notes = [f"note: {note}" for note in notes_of(result)]
        say("\n".join([about(result), *aligned(table_of(result)), *notes]))
        say(f"report: {shown_path(job.out / 'report.html')}")
