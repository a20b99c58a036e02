"""One training step of the face generator: adaptive augmentation, the discriminator's loss, the generator's.

Source: Karras et al., StyleGAN2, arXiv 1912.04958 (non-saturating logistic loss, lazy R1 every 16 steps, mixed styles);
Karras et al., "Training generative adversarial networks with limited data" (ADA), arXiv 2006.06676.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from facesr.image import luma
from facesr.losses.adversarial import Vanilla, r1_penalty
from facesr.models.style_generator import StyleGenerator
from facesr.training.step import AUTOCAST_DTYPES, GanState

MIXING_PROBABILITY = 0.9  # StyleGAN2, appendix B: share of pictures with two styles
MAX_SHIFT = 0.125  # ADA, appendix B: share of the side that pictures are moved by at most
BRIGHTNESS = 0.1  # ADA: standard deviation 0.2 for pixels in [-1, 1]
LOG2_CONTRAST = 0.5
LOG2_SATURATION = 1.0
TARGET_SIGN = 0.6  # ADA, section 3.2: where the mean sign of the real logits is held
ADAPT_EVERY = 4  # ADA, section 3.2: minibatches between two adjustments of p
FULL_KIMG = 500.0  # ADA, section 3.2: thousands of pictures in which p may go from 0 to 1
# An augmentation that is never left out leaks into what is generated (ADA, section 2.2), so p stays below 1.
MAX_PROBABILITY = 0.8


@dataclass
class Adaptation:
    """The probability of each augmentation, adapted to how far the discriminator has learned the real faces by heart.

    Attributes:
        probability: p.
        sign_sum: sum of the signs of the real logits since the last adjustment.
        num_seen: real logits since then.
        num_batches: batches since then.
    """

    probability: float = 0.0
    sign_sum: float = 0.0
    num_seen: int = 0
    num_batches: int = 0

    def observe(self, real_logits: Tensor) -> None:
        """Counts a batch of real logits, and every fourth one moves p up or down a little.

        Source: ADA, section 3.2: r_t = E[sign(D_train)] is held at 0.6.
        """
        self.sign_sum += float(real_logits.detach().sign().sum())
        self.num_seen += len(real_logits)
        self.num_batches += 1
        if self.num_batches == ADAPT_EVERY:
            step = self.num_seen / (1000.0 * FULL_KIMG)
            up = self.sign_sum / self.num_seen > TARGET_SIGN
            self.probability = min(max(self.probability + (step if up else -step), 0.0), MAX_PROBABILITY)
            self.sign_sum, self.num_seen, self.num_batches = 0.0, 0, 0


def augment(pictures: Tensor, probability: float) -> Tensor:
    """Returns pictures (N, 3, H, W), each moved, lightened, given contrast and saturated with probability p each.

    A few of ADA's transformations: whole-pixel shifts up to an eighth of the side with a mirrored border, and the
    three colour changes. Its rotations, scalings, filters, noise and cutout are left out: faces lie at fixed places
    here, and what is left adapts just as well to sets of thousands. Differentiable in the pictures.
    """
    if probability <= 0:
        return pictures
    count, device = len(pictures), pictures.device

    def chosen(spread: Tensor) -> Tensor:
        return spread * (torch.rand(count, device=device) < probability)

    def normal(deviation: float) -> Tensor:
        return chosen(torch.randn(count, device=device) * deviation)[:, None, None, None]

    moved = shifted(
        pictures, chosen(torch.rand(count, device=device) * 2 - 1), chosen(torch.rand(count, device=device) * 2 - 1)
    )
    lit = moved + normal(BRIGHTNESS)
    contrasted = 0.5 + (lit - 0.5) * torch.exp2(normal(LOG2_CONTRAST))
    grey = luma(contrasted)
    return grey + (contrasted - grey) * torch.exp2(normal(LOG2_SATURATION))


def shifted(pictures: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Returns pictures moved by whole pixels, mirrored at the border; `down` and `right` (N,) are in [-1, 1]."""
    height, width = pictures.shape[2:]
    reach_y, reach_x = int(MAX_SHIFT * height), int(MAX_SHIFT * width)
    padded = F.pad(pictures, (reach_x, reach_x, reach_y, reach_y), mode="reflect")
    rows = torch.arange(height, device=pictures.device) + reach_y - (down * reach_y).round().long()[:, None]
    columns = torch.arange(width, device=pictures.device) + reach_x - (right * reach_x).round().long()[:, None]
    numbers = torch.arange(len(pictures), device=pictures.device)[:, None, None]
    return padded[numbers, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def draw_styles(generator: StyleGenerator, count: int, mixing: float = MIXING_PROBABILITY) -> Tensor:
    """Returns w (count, num_latents, D) of random latents; with probability `mixing` the finer layers have another one.

    Source: StyleGAN, arXiv 1812.04948, section 3.1. PULSE searches all layers' latents apart, so they must not rely
    on each other.
    """
    device = generator.input.input.device
    latents = torch.randn(2 * count, generator.latent_dim, device=device)
    first, second = generator.map(latents)[:, None].chunk(2)
    layers = torch.arange(generator.num_latents, device=device)
    border = torch.randint(1, generator.num_latents, (count, 1), device=device)
    mixed = (layers >= border) & (torch.rand(count, 1, device=device) < mixing)
    return torch.where(mixed[:, :, None], second, first)


def draw_faces(generator: StyleGenerator, count: int) -> Tensor:
    """Returns random faces (count, 3, H, W), float32, about [0, 1] and not clamped."""
    pictures: Tensor = generator(draw_styles(generator, count), generator.draw_noises(count))
    return (pictures.float() + 1.0) / 2.0


def train_step(gan: GanState, real: Tensor, adaptation: Adaptation) -> dict[str, Tensor]:
    """Does one step of discriminator and generator and returns its figures as detached scalars.

    Both learn from the same generated faces: the discriminator first, then the generator against the discriminator
    as it has become. That saves a pass through the generator.

    Args:
        gan: changed in place; the adversarial loss carries the weight of R1 and how often it is taken.
        real: float32 (N, 3, H, W) in [0, 1].
        adaptation: changed in place.
    """
    generator, discriminator, loss = gan.generator, gan.discriminator, gan.adversarial
    assert isinstance(generator, StyleGenerator) and isinstance(loss, Vanilla)
    assert discriminator is not None and gan.discriminator_optimizer is not None
    device, precision = real.device, gan.precision
    autocast = torch.autocast(device.type, AUTOCAST_DTYPES.get(precision), enabled=precision in AUTOCAST_DTYPES)
    generator.train()
    with autocast:
        fake = draw_faces(generator, len(real))

    # The discriminator learns to tell real from generated faces, both augmented alike.
    discriminator.requires_grad_(True)
    shown = augment(real, adaptation.probability)
    with autocast:
        real_logits = discriminator(shown).float()
        fake_logits = discriminator(augment(fake.detach(), adaptation.probability)).float()
    discriminator_loss = loss.discriminator_loss(fake_logits, real_logits)
    figures = {
        "loss/discriminator": discriminator_loss.detach(),
        "logit/real": real_logits.detach().mean(),
        "logit/fake": fake_logits.detach().mean(),
    }
    if loss.r1_gamma > 0 and gan.num_steps % loss.r1_every == 0:
        penalty = r1_penalty(discriminator, shown)
        figures["loss/r1"] = penalty.detach()
        discriminator_loss = discriminator_loss + loss.r1_gamma * loss.r1_every * penalty
    move(gan.discriminator_optimizer, discriminator_loss)

    # The generator makes faces that the discriminator takes for real.
    discriminator.requires_grad_(False)
    with autocast:
        logits = discriminator(augment(fake, adaptation.probability)).float()
    generator_loss = loss.generator_loss(logits, None)
    figures["loss/generator"] = generator_loss.detach()
    move(gan.generator_optimizer, generator_loss)

    adaptation.observe(real_logits)
    gan.num_steps += 1
    return figures


def move(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Does one optimiser step down the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
