"""One GAN training step, and the networks and optimisers it moves.

Generator and discriminator are updated from the same restored pictures: the generator sees the discriminator
as it was before the step. That halves the cost of the generator's forward pass and lets gradients accumulate
over parts of a batch in one plain loop.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from facesr import dist
from facesr.degradation import Degradation, Official
from facesr.gradients import GradientMean
from facesr.losses.adversarial import Adversarial, r1_penalty
from facesr.losses.term import LossInputs, LossTerm

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class GanState:
    """Everything that one step changes.

    Attributes:
        generator: the network being trained.
        average: its exponential moving average, which is what is validated and shipped.
        generator_optimizer: moves `generator`.
        terms: the generator's loss terms by name, adversarial one left out.
        adversarial: the adversarial loss, None when there is no discriminator.
        discriminator: None without an adversarial loss.
        discriminator_optimizer: None without an adversarial loss.
        precision: fp32, bf16 or fp16.
        gradient_clip_norm: largest norm of each network's gradient, 0 for no limit.
        degradation: makes the generator's input from the (augmented) truth.
        seed: of the run, for a degradation or a loss term that draws.
        gradient_sync: flat or overlap: when gradients are averaged over ranks.
        gradient_precision: fp32 or bf16, of gradients on their way between ranks.
        num_steps: steps done, counted for the lazy gradient penalty.
    """

    generator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    terms: dict[str, LossTerm]
    precision: str
    gradient_clip_norm: float
    adversarial: Adversarial | None = None
    discriminator: nn.Module | None = None
    discriminator_optimizer: torch.optim.Optimizer | None = None
    degradation: Degradation = field(default_factory=Official)
    seed: int = 0
    gradient_sync: str = "flat"
    gradient_precision: str = "fp32"
    num_steps: int = 0
    average: nn.Module = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        device = next(self.generator.parameters()).device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")


def train_step(
    gan: GanState, parts: Sequence[Tensor], kimg: float, landmarks: Sequence[Tensor] | None = None
) -> dict[str, Tensor]:
    """Does one step on this rank's faces and returns its figures (losses, gradient norms) as detached scalars.

    Args:
        gan: changed in place.
        parts: the rank's share of the batch in equal parts, each float32 (n, 3, H, W) in [0, 1]; gradients are
            accumulated over them.
        kimg: thousands of images seen before this step; decides which terms take part, and what is drawn.
        landmarks: of the parts' faces, each (n, 5, 2), where a term needs them.
    """
    device = parts[0].device
    autocast = torch.autocast(
        device.type, dtype=AUTOCAST_DTYPES.get(gan.precision), enabled=gan.precision in AUTOCAST_DTYPES
    )
    playing = gan.adversarial is not None and gan.adversarial.active(kimg)
    figures: dict[str, Tensor] = {}

    def note(name: str, value: Tensor) -> None:
        share = value.detach().float() / len(parts)
        figures[name] = figures[name] + share if name in figures else share

    gan.generator.train()
    gan.generator_optimizer.zero_grad(set_to_none=True)
    generator_mean = _mean_for(gan, gan.generator)
    if playing and gan.discriminator is not None and gan.discriminator_optimizer is not None:
        gan.discriminator_optimizer.zero_grad(set_to_none=True)
        gan.discriminator.requires_grad_(True)
        discriminator_mean = _mean_for(gan, gan.discriminator)

    # Draws belong to a face's place in the run, so they are the same however the faces are shared out.
    position = round(kimg * 1000) + dist.rank() * sum(len(high) for high in parts)
    for number, high in enumerate(parts):
        last = number + 1 == len(parts)
        # What the generator is given: by default the official downscaling of the truth; whole grey levels always.
        low = gan.degradation(high, gan.seed, position)
        with autocast:
            restored, extras = _restore(gan.generator, low)

        # The discriminator learns to tell restored from real pictures.
        if playing:
            with autocast:
                discriminator_loss = _discriminator_loss(gan, high, restored.detach(), note)
            with discriminator_mean.sending(last):
                gan.scaler.scale(discriminator_loss / len(parts)).backward()  # type: ignore[no-untyped-call]

        # The generator lowers the weighted sum of its terms, the frozen discriminator's opinion among them.
        shown = landmarks[number] if landmarks else None
        inputs = LossInputs(low, high, restored, extras, shown, gan.seed, position)
        position += len(high)
        total = restored.new_zeros(())
        for name, term in gan.terms.items():
            if term.active(kimg):
                value = term(inputs)
                note(f"loss/{name}", value)
                total = total + term.weight * value
        if playing:
            with autocast:
                value = _adversarial_loss(gan, high, restored)
            note("loss/adversarial", value)
            assert gan.adversarial is not None
            total = total + gan.adversarial.weight * value
        note("loss/total", total)
        with generator_mean.sending(last):
            gan.scaler.scale(total / len(parts)).backward()  # type: ignore[no-untyped-call]

    figures["gradient_norm/generator"] = _move(gan, gan.generator, gan.generator_optimizer, generator_mean)
    if playing and gan.discriminator is not None and gan.discriminator_optimizer is not None:
        figures["gradient_norm/discriminator"] = _move(
            gan, gan.discriminator, gan.discriminator_optimizer, discriminator_mean
        )
    gan.scaler.update()
    gan.num_steps += 1
    return figures


def _mean_for(gan: GanState, network: nn.Module) -> GradientMean:
    return GradientMean(network.parameters(), gan.gradient_sync, gan.gradient_precision)


def _restore(generator: nn.Module, low: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the restored pictures and what else a generator such as FSRNet gives its loss terms, in float32."""
    if not getattr(generator, "extras", ()):
        return generator(low).float(), {}
    restored, extras = generator(low, with_extras=True)
    return restored.float(), {name: value.float() for name, value in extras.items()}


def _discriminator_loss(gan: GanState, high: Tensor, restored: Tensor, note: Callable[[str, Tensor], None]) -> Tensor:
    """Returns the discriminator's loss, with the lazy gradient penalty where it is due."""
    assert gan.discriminator is not None and gan.adversarial is not None
    gan.discriminator.requires_grad_(True)
    real, fake = gan.discriminator(high).float(), gan.discriminator(restored).float()
    loss = gan.adversarial.discriminator_loss(fake, real)
    note("loss/discriminator", loss)
    note("logit/real", real.mean())
    note("logit/fake", fake.mean())
    if gan.adversarial.r1_gamma > 0 and gan.num_steps % gan.adversarial.r1_every == 0:
        penalty = r1_penalty(gan.discriminator, high)
        note("loss/r1", penalty)
        loss = loss + gan.adversarial.r1_gamma * gan.adversarial.r1_every * penalty
    return loss


def _adversarial_loss(gan: GanState, high: Tensor, restored: Tensor) -> Tensor:
    """Returns the generator's adversarial loss; the discriminator's own gradients stay as they are."""
    assert gan.discriminator is not None and gan.adversarial is not None
    gan.discriminator.requires_grad_(False)
    fake = gan.discriminator(restored).float()
    real = None
    if gan.adversarial.needs_real_logits:
        with torch.no_grad():
            real = gan.discriminator(high).float()
    return gan.adversarial.generator_loss(fake, real)


def _move(gan: GanState, network: nn.Module, optimizer: torch.optim.Optimizer, mean: GradientMean) -> Tensor:
    """Averages a network's gradients over ranks, clips them and steps; returns the norm before clipping."""
    # Before the scale is taken off: where one rank's gradient overflowed all must know, skip the step and scale less.
    mean.wait()
    gan.scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), gan.gradient_clip_norm or float("inf"))
    # A step on gradients that are not finite would destroy the weights before the loop sees it. Asking costs a
    # wait for the device, so on a GPU the loop's own check, and its return to the last state, must do.
    if norm.device.type == "cuda" or bool(torch.isfinite(norm)):
        gan.scaler.step(optimizer)
    return norm.detach()


def update_average(gan: GanState, num_faces: int, num_images: int, halflife_kimg: float) -> None:
    """Moves the averaged generator toward the trained one.

    The half-life is a twentieth of the images seen until it reaches `halflife_kimg`, so that the average does
    not drag the random start along.

    Source: the ramp-up of Karras et al., "Analyzing and improving the training dynamics of diffusion models"
    (edm2) and StyleGAN2-ADA, which use the same 5 %.
    """
    halflife = min(halflife_kimg * 1000.0, 0.05 * num_images)
    decay = 0.5 ** (num_faces / halflife) if halflife > 0 else 0.0
    with torch.no_grad():
        trained = [value for value in gan.generator.state_dict().values() if value.is_floating_point()]
        average = [value for value in gan.average.state_dict().values() if value.is_floating_point()]
        torch._foreach_lerp_(average, trained, 1.0 - decay)
        for name, value in gan.average.state_dict().items():
            if not value.is_floating_point():
                value.copy_(gan.generator.state_dict()[name])
