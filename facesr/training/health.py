"""Whether a run is in order, all losses and gradients finite and no explosion, and its way back where it is not."""

import math
from collections.abc import Mapping

from facesr.errors import TrainingError
from facesr.log import shown_kimg
from facesr.snapshots.snapshot import newest_state
from facesr.training.run import Run
from facesr.training.state import unpack_state

# Share of a new loss in the smoothed one; about the last 50 reports.
SMOOTHING = 0.02


def is_finite(run: Run, figures: Mapping[str, float]) -> bool:
    """Returns whether all losses and gradients are finite, and so the weights that they have moved."""
    # GradScaler meets infinite gradients by design and lowers its scale; then only the losses count.
    watched = ("loss/",) if run.gan.scaler.is_enabled() else ("loss/", "gradient_norm/")
    return all(math.isfinite(value) for name, value in figures.items() if name.startswith(watched))


def is_healthy(run: Run, figures: Mapping[str, float], before: int) -> bool:
    """Returns whether every figure is finite and the smoothed loss has not exploded; updates the smoothed loss.

    Args:
        run: whose clock is moved on.
        figures: means since the last report.
        before: images seen at the last report.
    """
    clock, factor = run.clock, run.settings.explosion_factor
    if not is_finite(run, figures):
        return False
    # A term that began since then raises the sum, which is no explosion: the lowest is looked for anew from here on.
    last_steps = [max(0, number - run.settings.batch_size) / 1000.0 for number in (before, clock.num_images)]
    if any(term.active(last_steps[1]) and not term.active(last_steps[0]) for term in run.gan.terms.values()):
        clock.smoothed_loss, clock.lowest_loss = math.nan, math.inf
        return True
    # The adversarial term may be negative and swings by design: an explosion shows in what remains without it.
    loss = figures["loss/total"]
    if run.gan.adversarial is not None:
        loss -= run.gan.adversarial.weight * figures.get("loss/adversarial", 0.0)
    clock.smoothed_loss = loss if math.isnan(clock.smoothed_loss) else clock.smoothed_loss + SMOOTHING * (
        loss - clock.smoothed_loss
    )  # fmt: skip
    clock.lowest_loss = min(clock.lowest_loss, abs(clock.smoothed_loss))
    return not (factor > 0 and abs(loss) > factor * max(clock.lowest_loss, 1e-6))


def roll_back(run: Run) -> None:
    """Returns to the last saved state at half the learning rate, once; raises TrainingError where it cannot."""
    bad_kimg = run.clock.kimg
    advice = "lower generator_optimizer.lr, or set gradient_clip_norm"
    found = newest_state(run.folder / "state")
    if not run.settings.rollback or run.clock.num_rollbacks > 0 or found is None:
        raise TrainingError(
            f"run {run.settings.name}: the loss is not finite or exploded at {shown_kimg(bad_kimg)} kimg; {advice}, "
            "and start under another name."
        )
    earlier = unpack_state(found[1], run.gan, *run.state_digests)
    earlier.rate_factor, earlier.num_rollbacks = earlier.rate_factor * 0.5, earlier.num_rollbacks + 1
    earlier.joules, earlier.seconds = run.clock.joules, run.clock.seconds  # spent all the same
    vars(run.clock).update(vars(earlier))
    # What was told beyond that state will be told again.
    run.open_records()
    run.console.say(
        f"the loss is not finite or exploded at {shown_kimg(bad_kimg)} kimg: back to "
        f"{shown_kimg(run.clock.kimg)} kimg at half the learning rate (once); if it happens again, {advice}."
    )
