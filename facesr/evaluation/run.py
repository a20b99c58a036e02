"""An evaluation or a study, from settings to a result folder."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

from facesr import dist
from facesr.config import EvaluateSettings
from facesr.evaluation.attributes import read_attributes
from facesr.evaluation.flow import Options, evaluate, find_pairs, write_evaluation
from facesr.evaluation.judges import open_judges
from facesr.evaluation.out_folder import check_free, claim
from facesr.evaluation.pairs import list_pictures
from facesr.evaluation.perceptual import open_perceptual
from facesr.evaluation.report.tables import console_table
from facesr.evaluation.request import archives_of, checked, only_restores, question_of, with_judges
from facesr.evaluation.studies import audit, pulse_paper, resolution, robustness, tradeoff, verification
from facesr.evaluation.studies.operators import require_originals
from facesr.evaluation.studies.paper_rows import paper_entries
from facesr.evaluation.studies.study import Job, asked_for
from facesr.evaluation.studies.tradeoff_entries import entries_of_study
from facesr.evaluation.subjects import pairs_to_score, progress, restored_by, restored_subject, say, submitted_subject
from facesr.methods.method import Method
from facesr.methods.open import Asked, open_asked
from facesr.names import shown_path
from facesr.submission.verify import VerifiedSubmission, opened_submission
from facesr.weights import cache_dir

STUDIES = {
    "resolution": resolution.run,
    "tradeoff": tradeoff.run,
    "robustness": robustness.run,
    "audit": audit.run,
    verification.STUDY: verification.run,
    pulse_paper.STUDY: pulse_paper.run,
}


def run(settings: EvaluateSettings) -> None:
    """Evaluates, or runs a study, and says where the result lies."""
    start = time.perf_counter()
    device = dist.choose_device(settings.device)
    dist.initialise(device)
    settings = checked(settings)
    options = Options(
        device,
        settings.batch_size,
        settings.num_resamples,
        settings.num_examples,
        settings.seed,
        kept_in=cache_dir() / "embeddings" if settings.reuse_embeddings else None,
    )
    out = Path(settings.out or "")
    with opened_archives(settings) as archives:
        # Whatever is cheap to check comes before judges are loaded, which can take minutes.
        question = question_of(settings, {name: submission.sha256 for name, submission in archives.items()})
        check_free(out, question)
        methods = check_inputs(settings, archives, device)
        if only_restores(settings):
            dist.together(lambda: claim(out, with_judges(question, [], None)) if dist.is_main() else None)
            run_restoration(Job(settings, archives, methods, [], None, options, out))
            return
        perceptual = open_perceptual(settings)
        judges = open_judges(settings, device)
        question = with_judges(question, judges, perceptual)
        dist.together(lambda: claim(out, question) if dist.is_main() else None)
        job = Job(settings, archives, methods, judges, perceptual, options, out)
        if settings.study is None:
            run_evaluation(job, start)
        else:
            STUDIES[settings.study](job)


@contextmanager
def opened_archives(settings: EvaluateSettings) -> Iterator[dict[str, VerifiedSubmission]]:
    """Yields the verified submissions that are to be scored, by what they are called in the settings.

    Raises:
        FaceSRError: an archive breaks a rule, or the low-resolution pictures are not as they have to be.
    """
    low = Path(settings.low) if settings.low else None
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(opened_submission(path, settings.protocol, low))
            for name, path in archives_of(settings).items()
        }


def check_inputs(
    settings: EvaluateSettings, archives: Mapping[str, VerifiedSubmission], device: torch.device
) -> dict[Asked, Callable[[], Method]]:
    """Returns what gives the methods; folders, pairs and methods are checked as far as headers and small files tell.

    Raises:
        FaceSRError: one of them is not as it has to be.
    """
    folders = [submission.folder for submission in archives.values()]
    folders += [Path(settings.restored)] if settings.restored else []
    asked = [asked_for(settings)] if settings.method else []
    if settings.study in ("tradeoff", verification.STUDY, pulse_paper.STUDY):
        for entry in paper_entries(settings) if settings.study == pulse_paper.STUDY else entries_of_study(settings):
            folders += [entry.folder] if entry.folder is not None else []
            asked += [entry.asked(settings)] if entry.method is not None and entry.share is None else []
    methods = {one: open_asked(settings, device, one) for one in dict.fromkeys(asked)}
    if settings.high is not None:
        _check_originals(settings, Path(settings.high), folders)
    return methods


def _check_originals(settings: EvaluateSettings, high: Path, folders: Sequence[Path]) -> None:
    """Checks the originals, with the folders that are scored against them."""
    low = Path(settings.low) if settings.low else None
    if settings.study == "robustness":
        require_originals(high, settings.protocol)
    elif settings.study in ("resolution", pulse_paper.STUDY):
        list_pictures(high)
    elif settings.protocol.strict:
        # The originals stand for what a method will restore.
        for folder in folders or [high]:
            pairs = find_pairs(folder, high, low, settings.protocol)
            if settings.study == "audit":
                audit.check(settings, [pair.id for pair in pairs.items])
            elif settings.study == verification.STUDY:
                verification.check(settings, [pair.id for pair in pairs.items])
            elif settings.attributes:
                read_attributes(Path(settings.attributes), [pair.id for pair in pairs.items])


def run_restoration(job: Job) -> None:
    """Restores pictures that there are no originals of, and says where they lie."""
    low = Path(job.settings.low or "")
    with progress("restore", low) as advance:
        subject, record = restored_by(job.method(), low, job.settings, job.options.device, job.out, advance)
    count = len(record.files)
    say(f"restored: {count} pictures in {shown_path(subject.folder)}; high=DIR, their originals, would give scores")


def run_evaluation(job: Job, start: float) -> None:
    """Scores one subject, writes its files and prints its table; `start` is when the program began."""
    settings, out = job.settings, job.out
    high, low = pairs_to_score(settings, out)
    seconds: dict[str, float] = {}
    if settings.method is not None:
        assert low is not None
        with progress("restore", low) as advance:
            subject, record = restored_by(job.method(), low, settings, job.options.device, out, advance)
        seconds["restore"] = record.seconds
    elif settings.submission is not None:
        subject = submitted_subject(settings, settings.submission, job.archives[settings.submission])
    else:
        subject = restored_subject(Path(settings.restored or ""), settings)
    with progress("score", high) as advance:
        evaluation = evaluate(
            subject,
            high,
            low,
            settings.protocol,
            job.judges,
            job.options,
            perceptual=job.perceptual,
            attributes=Path(settings.attributes) if settings.attributes else None,
            seconds=seconds,
            on_batch=advance,
            beside_bicubic=True,
            created=datetime.now(UTC),
        )
    if evaluation is not None:
        evaluation.seconds["total"] = time.perf_counter() - start
        write_evaluation(out, evaluation, job.judges[0] if job.judges else None, job.options)
        say(f"{console_table(evaluation)}\nreport: {shown_path(out / 'report.html')}")
