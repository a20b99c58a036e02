"""The training loop. The clock counts images; the loop reads as paragraphs: take a batch, step, average, and, when
due, report, validate and save. Start it with train.py; the same command resumes.
"""

import math
import time

from facesr import dist
from facesr.config import TrainSettings
from facesr.errors import EXIT_REQUEUE
from facesr.log import Progress, shown_kimg
from facesr.methods.restore import restore_batch
from facesr.snapshots.snapshot import write_state
from facesr.training.health import is_finite, roll_back
from facesr.training.outcome import finish, validate
from facesr.training.report import Ticker, count_energy, report
from facesr.training.run import Run, set_up
from facesr.training.schedule import learning_rate_factor
from facesr.training.state import Part, pack_state
from facesr.training.step import train_step, update_average
from facesr.training.stop import StopRequest
from facesr.training.validation import Scores


def train(settings: TrainSettings, part: Part | None = None) -> int:
    """Trains until `duration_kimg`, or until asked to stop, and returns the exit code (0, or 75 for requeue).

    Args:
        settings: of the run.
        part: its place in a longer plan, which is told.

    Raises:
        FaceSRError: a setting, the data, a weights file or the run folder is not as it has to be, or the loss
            is no longer finite.
    """
    device = dist.choose_device(settings.device)
    dist.initialise(device)
    run = set_up(settings, device, part)
    stop = StopRequest()
    clock, gan = run.clock, run.gan
    total_images = int(settings.duration_kimg * 1000)
    progress = Progress(total_images, clock.num_images, label=part.label if part is not None else None)
    ticker = Ticker(clock.num_images, run.unreported, device)
    run.meter.start()
    batches = run.feed.batches(clock.num_images)
    scores: Scores | None = None
    try:
        while clock.num_images < total_images:
            # Wait for a batch of augmented faces, and cut it into the parts that fit the memory.
            start = time.perf_counter()
            high = next(batches)
            parts = high.chunk(settings.accumulation_steps)
            landmarks = None
            if any(term.needs_landmarks for term in gan.terms.values()):
                landmarks = run.feed.landmarks(clock.num_images).chunk(settings.accumulation_steps)
            ticker.data_seconds += time.perf_counter() - start

            # One step of both networks at the scheduled learning rate; then the average follows.
            set_learning_rates(run)
            figures = train_step(gan, parts, clock.kimg, landmarks)
            before, clock.num_images = clock.num_images, clock.num_images + settings.batch_size
            update_average(gan, settings.batch_size, clock.num_images, settings.ema_halflife_kimg)
            ticker.add(figures)
            finished = clock.num_images >= total_images

            validates = finished or due(before, clock.num_images, settings.validation_every_kimg)
            saves = finished or due(before, clock.num_images, settings.state_every_kimg)

            # Say how it goes; a loss that is not finite or explodes ends the run or takes it back once. What is not
            # finite is neither validated nor saved, between two reports either.
            healthy = True
            if finished or due(before, clock.num_images, settings.log_every_kimg):
                run.require_folder()
                healthy = report(run, ticker, progress, before_first=before == 0)
            elif progress.shown:
                progress.advance(clock.num_images - before)
            if (validates or saves) and healthy:
                healthy = is_finite(run, ticker.means())
            if not healthy:
                roll_back(run)
                batches = run.feed.batches(clock.num_images)
                ticker.reset(clock.num_images)
                continue

            # Validate the averaged generator; keep its weights, and the best ones.
            if validates:
                scores = validate(run)
                ticker.restart_clock()

            # Save the state, so that the same command can go on from here.
            asked = stop.agreed(gan.num_steps, device)
            if asked and not saves and not is_finite(run, ticker.means()):
                run.console.say("asked to stop: the loss is not finite, so the same command resumes at the last state.")
                return EXIT_REQUEUE
            if saves or asked:
                save_state(run, ticker)
                ticker.restart_clock()
            if asked and not finished:
                run.console.say(f"asked to stop: saved at {shown_kimg(clock.kimg)} kimg; the same command resumes.")
                return EXIT_REQUEUE
        count_energy(run)
        finish(run, scores or run.validator.score(lambda low: restore_batch(gan.average, low)))
        return 0
    finally:
        progress.close()
        run.close_records()
        run.console.close()
        stop.restore()


def due(before: int, now: int, every_kimg: float) -> bool:
    """Returns whether a multiple of `every_kimg` was reached between two clocks."""
    every = every_kimg * 1000
    return math.floor(now / every) > math.floor(before / every)


def set_learning_rates(run: Run) -> None:
    """Sets both optimisers to the scheduled rate."""
    factor = run.clock.rate_factor * learning_rate_factor(
        run.settings.schedule, run.clock.kimg, run.settings.duration_kimg
    )
    for optimizer in (run.gan.generator_optimizer, run.gan.discriminator_optimizer):
        for group in optimizer.param_groups if optimizer is not None else []:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor


def save_state(run: Run, ticker: Ticker) -> None:
    """Writes the training state on rank 0; the others wait, so that none runs ahead of a failure."""
    ticker.joules += count_energy(run)
    state = {**pack_state(run.gan, run.clock, run.state_digests[0]), "unreported": ticker.packed()}
    state["energy"] = run.energy.as_dict()

    def write() -> None:
        run.check_folder()
        write_state(run.folder / "state", run.clock.num_images, state)

    dist.by_main(write)
