"""Scores restored pictures against the originals: a table, summary.json, per_image.csv and report.html.

    uv run evaluate.py                                                    bicubic on built-in faces, to see it work
    uv run evaluate.py restored=DIR high=DIR low=DIR                      a folder of restored pictures
    uv run evaluate.py method=bicubic low=DIR high=DIR                    restores first: bicubic | nearest | a snapshot
    uv run evaluate.py method=runs/NAME                                   ... or a run, here on built-in faces
    uv run evaluate.py method=pulse generator=eigenfaces low=DIR high=DIR invents faces that fit (docs/pulse.md)
    uv run evaluate.py submission=FILE.zip low=DIR high=DIR               a team's archive, verified first
    uv run evaluate.py submission=FILE.zip ... power_limit_watts=3000     ... and its power against the limit of 2019
    uv run evaluate.py ... embedder=facenet_vggface2 embedder.weights=FILE judges=[edgeface,mobilefacenet_ms1m]
    uv run evaluate.py ... protocol=asc19_final protocol.strict=false     the rules of the 2019 script
    uv run evaluate.py ... attributes=FILE.csv                            scores per group of faces
    uv run evaluate.py protocol=asc19_preliminary method=bicubic low=DIR high=DIR niqe.model=modelparameters.mat
    uv run evaluate.py study=tradeoff entries=[DIR,runs/NAME,FILE.zip,...] low=DIR high=DIR [protocol=...]
    uv run evaluate.py study=tradeoff method=runs/PSNR blend_with=runs/GAN low=DIR high=DIR       ... and a curve
    uv run evaluate.py study=resolution high=DIR judges=[...]             how much identity is left at which size
    uv run evaluate.py study=robustness method=runs/NAME high=DIR [operators=[jpeg,...]]  other ways to degrade

`embedder` ranks, `judges` are shown beside it. Runs on many ranks too: torchrun --nproc-per-node 2 evaluate.py ...
docs/evaluation.md explains protocols, metrics and files.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from facesr import dist
from facesr.blend_parts import BlendParts
from facesr.build import check_node, run_script
from facesr.config import EvaluateSettings
from facesr.data.export import export_builtin, export_dead_leaves
from facesr.evaluation.attributes import read_attributes
from facesr.evaluation.flow import Options, evaluate, find_pairs, write_evaluation, write_resolution
from facesr.evaluation.judges import open_judges
from facesr.evaluation.operators import cases_of, require_originals
from facesr.evaluation.out_folder import check_free, claim
from facesr.evaluation.pairs import list_pictures
from facesr.evaluation.perceptual import Perceptual, open_perceptual
from facesr.evaluation.power_limit import power_facts
from facesr.evaluation.request import archives_of, checked, question_of, with_judges
from facesr.evaluation.resolution import curve_table, resolution_curve
from facesr.evaluation.restoring import restore_folder
from facesr.evaluation.result import Evaluation, Subject
from facesr.evaluation.robustness import robustness_table, run_cases, write_robustness
from facesr.evaluation.scoring import together
from facesr.evaluation.tables import console_table
from facesr.evaluation.tradeoff import (
    Entry,
    Point,
    entries_of,
    point_of,
    require_perception,
    tradeoff_table,
    write_tradeoff,
)
from facesr.latent.pulse import check_pulse, open_pulse
from facesr.latent.status import write_pictures, write_status
from facesr.log import Console, Progress
from facesr.names import shown_path
from facesr.places import Place
from facesr.protocols import Embedder
from facesr.restoration import EQUAL_SHARES, PULSE, Method, open_method
from facesr.submission.guard_facts import guard_by_id
from facesr.submission.restore import PICTURES, read_restored
from facesr.submission.verify import VerifiedSubmission, opened_submission
from facesr.tiles import Tiles
from facesr.weights import cache_dir


def main(settings: EvaluateSettings) -> None:
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
        check_inputs(settings, archives, device)
        perceptual = open_perceptual(settings)
        judges = open_judges(settings, device)
        question = with_judges(question, judges, perceptual)
        together(lambda: claim(out, question) if dist.is_main() else None)
        if settings.study == "resolution":
            run_resolution(settings, judges, options, out)
        elif settings.study == "tradeoff":
            run_tradeoff(settings, archives, judges, perceptual, options, out)
        elif settings.study == "robustness":
            run_robustness(settings, judges, options, out)
        else:
            run_evaluation(settings, archives, judges, perceptual, options, out, start)


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


def check_inputs(settings: EvaluateSettings, archives: Mapping[str, VerifiedSubmission], device: torch.device) -> None:
    """Checks folders, pairs and methods, as far as headers and small files tell.

    Raises:
        FaceSRError: one of them is not as it has to be.
    """
    folders = [submission.folder for submission in archives.values()]
    folders += [Path(settings.restored)] if settings.restored else []
    methods = [(settings.method, settings.blend_with, settings.blend_weight)] if settings.method else []
    if settings.study == "tradeoff":
        for entry in entries_of_study(settings):
            folders += [entry.folder] if entry.folder is not None else []
            methods += [(entry.method, None, EQUAL_SHARES)] if entry.method is not None and entry.share is None else []
    for spec, blend_with, share in methods:
        if spec != PULSE:
            open_method(spec, device, blend_with, share)
            continue
        # A search's generator is no small file: it is opened when it is asked, and what it is built from checked now.
        check_pulse(settings.pulse)
        check_node(settings.latent_generator, Place.LATENT_GENERATOR, "generator")
    if settings.high is None:
        return
    high, low = Path(settings.high), Path(settings.low) if settings.low else None
    if settings.study == "robustness":
        require_originals(high, settings.protocol)
    elif settings.study == "resolution":
        list_pictures(high)
    elif settings.protocol.strict:
        # The originals stand for what a method will restore.
        for folder in folders or [high]:
            pairs = find_pairs(folder, high, low, settings.protocol)
            if settings.attributes:
                read_attributes(Path(settings.attributes), [pair.id for pair in pairs.items])


def run_evaluation(
    settings: EvaluateSettings,
    archives: Mapping[str, VerifiedSubmission],
    judges: list[Embedder],
    perceptual: Perceptual | None,
    options: Options,
    out: Path,
    start: float,
) -> None:
    """Scores one subject, writes its files and prints its table; `start` is when the program began."""
    high, low = pairs_to_score(settings, out)
    seconds: dict[str, float] = {}
    subject = subject_of(settings, archives, low, options.device, out, seconds)
    with progress("score", high) as advance:
        evaluation = evaluate(
            subject,
            high,
            low,
            settings.protocol,
            judges,
            options,
            perceptual=perceptual,
            attributes=Path(settings.attributes) if settings.attributes else None,
            seconds=seconds,
            on_batch=advance,
        )
    if evaluation is not None:
        evaluation.seconds["total"] = time.perf_counter() - start
        write_evaluation(out, evaluation, judges[0] if judges else None, options)
        say(f"{console_table(evaluation)}\nreport: {shown_path(out / 'report.html')}")


def pairs_to_score(settings: EvaluateSettings, out: Path) -> tuple[Path, Path | None]:
    """Returns (high, low); without them built-in faces, or general pictures where a protocol wants those, below `out`.

    They are those that train.py validates on, or like them.
    """
    if settings.high is not None:
        return Path(settings.high), Path(settings.low) if settings.low else None
    general = settings.protocol.perceptual is not None
    folder, kind = (out / "pictures", "general pictures") if general else (out / "faces", "faces")
    say(f"no folders were given: built-in {kind}, drawn ones, are scored (see --help for high= and low=)")
    export = export_dead_leaves if general else export_builtin
    together(lambda: export(folder) if dist.is_main() else None)
    return folder / "high", folder / "low"


def method_of(
    settings: EvaluateSettings, spec: str, device: torch.device, blend_with: str | None, blend_weight: float
) -> Method:
    """Returns the method that `spec` names, pulse among them.

    Raises:
        FaceSRError: there is none of that name, or its weights are not as they have to be.
    """
    if spec == PULSE:
        return dist.in_turn(lambda: open_pulse(settings, device))
    return open_method(spec, device, blend_with, blend_weight, guard=settings.guard)


def restored_by(
    method: Method,
    low: Path,
    folder: Path,
    settings: EvaluateSettings,
    device: torch.device,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Subject:
    """Returns a method's pictures of `low`, restored into `folder`."""
    tiles = Tiles(settings.tile_px, settings.tile_overlap_px)
    return restore_folder(method, low, folder, device, settings.batch_size, settings.flip_ensemble, on_batch, tiles)


def subject_of(
    settings: EvaluateSettings,
    archives: Mapping[str, VerifiedSubmission],
    low: Path | None,
    device: torch.device,
    out: Path,
    seconds: dict[str, float],
) -> Subject:
    """Returns what is scored, its pictures restored now where a method is; adds to `seconds` what that took.

    Raises:
        FaceSRError: the method or the pictures are not as they have to be.
    """
    if settings.method is not None:
        assert low is not None
        method = method_of(settings, settings.method, device, settings.blend_with, settings.blend_weight)
        start = time.perf_counter()
        with progress("restore", low) as advance:
            subject = restored_by(method, low, out / "restored", settings, device, advance)
        seconds["restore"] = time.perf_counter() - start
        if settings.method == PULSE:
            tell_search(method, low, out, device)
        return subject
    if settings.submission is not None:
        return submitted_subject(settings, settings.submission, archives[settings.submission])
    return restored_subject(Path(settings.restored or ""))


def submitted_subject(settings: EvaluateSettings, archive: str, submission: VerifiedSubmission) -> Subject:
    """Returns a verified submission as a subject; what its manifest says are claims."""
    made = submission.manifest.restoration
    facts = {
        "team": submission.manifest.team,
        "archive": archive,
        "archive_sha256": submission.sha256,
        "model": made.model,
        "weights_sha256": made.weights_sha256,
        "config_sha256": made.config_sha256,
        "kimg": made.kimg,
        "flip_ensemble": made.flip_ensemble,
        "commit": made.commit,
        **blend_facts(made.blend),
        **power_facts(made.energy_joules, made.seconds, settings.power_limit_watts),
    }
    name, guard = submission.manifest.team, guard_by_id(made.guard)
    return Subject("submission", name, submission.folder, made.loss_judges, facts, is_claim=True, guard=guard)


def blend_facts(blend: BlendParts | None) -> dict[str, Any]:
    """Returns what a submission's manifest says of its blend, as summary.json has it for a method."""
    return {} if blend is None else {"blend_weight": blend.weight, "blend_sha256": blend.weights_sha256[1]}


def tell_search(method: Method, low: Path, out: Path, device: torch.device) -> None:
    """Writes how the search of each face ended below `out`, and the generator's pictures."""
    rows = together(lambda: write_pictures(method, list_pictures(low), out, device))
    if rows is not None:
        say(write_status(out, [row for part in rows for row in part]))


def restored_subject(folder: Path) -> Subject:
    """Returns a folder of restored pictures as a subject; one that submit.py restored has its record beside it."""
    record = read_restored(folder.parent) if folder.name == PICTURES else None
    if record is None:
        return Subject("restored", folder.name, folder, None, {"path": str(folder)})
    facts = {"path": str(folder), "weights_sha256": record.weights_sha256, "kimg": record.kimg}
    guard = guard_by_id(record.guard)
    return Subject("restored", record.model, folder, record.loss_judges, facts, guard=guard)


def run_resolution(settings: EvaluateSettings, judges: list[Embedder], options: Options, out: Path) -> None:
    """Runs the resolution study, writes its files and prints its table."""
    high = Path(settings.high or "")
    with progress("study", high) as advance:
        curve = resolution_curve(
            high,
            judges,
            options.device,
            options.batch_size,
            options.num_resamples,
            options.seed,
            advance,
        )
    if curve is not None:
        write_resolution(out, curve)
        say(f"cosine with the original after shrinking, {curve.num_pictures} faces\n{curve_table(curve)}")
        say(f"curve: {shown_path(out / 'resolution.png')}")


def entries_of_study(settings: EvaluateSettings) -> list[Entry]:
    """Returns the entries of study=tradeoff; built-in pictures, where no folders are given, are low-resolution too."""
    with_low = settings.low is not None or settings.high is None
    return entries_of(settings.entries, settings.method, settings.blend_with, settings.curve_weights, with_low)


def run_tradeoff(
    settings: EvaluateSettings,
    archives: Mapping[str, VerifiedSubmission],
    judges: list[Embedder],
    perceptual: Perceptual | None,
    options: Options,
    out: Path,
) -> None:
    """Restores and scores every entry, writes the plane's files and prints its table."""
    require_perception(perceptual)
    high, low = pairs_to_score(settings, out)
    points: list[Point] = []
    for number, entry in enumerate(entries_of_study(settings)):
        with progress(entry.name, high) as advance:
            if entry.folder is not None:
                subject = restored_subject(entry.folder)
            elif entry.archive is not None:
                subject = submitted_subject(settings, entry.archive, archives[entry.archive])
            else:
                assert entry.method is not None and low is not None
                blend_with, share = (None, EQUAL_SHARES) if entry.share is None else (settings.blend_with, entry.share)
                method = method_of(settings, entry.method, options.device, blend_with, share)
                folder = f"{number:02d}"
                subject = restored_by(method, low, out / "restored" / folder, settings, options.device)
                if entry.method == PULSE:
                    tell_search(method, low, out / "pulse" / folder, options.device)
            evaluation = evaluate(
                subject, high, low, settings.protocol, judges, options, perceptual=perceptual, on_batch=advance
            )
        if evaluation is not None:
            points.append(point_of(entry, evaluation))
    if points:
        write_tradeoff(out, points, settings.num_examples, settings.seed)
        say(f"{tradeoff_table(points)}\nplot: {shown_path(out / 'tradeoff.png')}")


def run_robustness(settings: EvaluateSettings, judges: list[Embedder], options: Options, out: Path) -> None:
    """Degrades, restores and scores every case, writes the study's files and prints its table."""
    high, _ = pairs_to_score(settings, out)
    require_originals(high, settings.protocol)
    spec = settings.method or ""
    method = method_of(settings, spec, options.device, settings.blend_with, settings.blend_weight)

    def restore(name: str, low: Path, folder: Path) -> Evaluation | None:
        subject = restored_by(method, low, folder, settings, options.device)
        if spec == PULSE:
            tell_search(method, low, out / "pulse" / folder.name, options.device)
        with progress(name, high) as advance:
            return evaluate(subject, high, low, settings.protocol, judges, options, on_batch=advance)

    cases = cases_of(settings.operators)
    scores = run_cases(cases, high, out, settings.seed, options.device, options.batch_size, restore)
    if scores:
        write_robustness(out, scores, settings.num_examples, settings.seed)
        say(f"{robustness_table(scores)}\nplot: {shown_path(out / 'robustness.png')}")


@contextmanager
def progress(what: str, folder: Path) -> Iterator[Callable[[int], None]]:
    """Yields a function that moves a progress bar on by so many pictures of this rank."""
    total = sum(1 for _ in folder.glob("*.png")) if folder.is_dir() else 0
    bar = Progress(total, 0, unit=f" pictures, {what}")
    try:
        yield lambda count: bar.advance(min(count * dist.world_size(), total))
    finally:
        bar.close()


def say(text: str) -> None:
    """Prints on rank 0."""
    Console().say(text)


if __name__ == "__main__":
    run_script(main, "evaluate", EvaluateSettings)
