"""Adversarial losses: what generator and discriminator want of the discriminator's logits.

A logit above 0 says "real". Logits may be one per picture (N, 1) or a map (N, 1, H, W); losses are means.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from facesr.dist import mean_over_ranks
from facesr.losses.term import LossTerm
from facesr.ranges import Count, Kimg, Positive, Weight


class Adversarial(LossTerm):
    """Base of the adversarial losses.

    Args:
        weight: factor in the generator's loss.
        start_kimg: when discriminator and generator begin to play.
        r1_gamma: weight of the gradient penalty on real pictures; 0 leaves it out.
        r1_every: the penalty is taken every so many steps, and weighs as many times more then.
    """

    # Relativistic losses compare real with generated logits, so the generator needs both.
    needs_real_logits = False

    def __init__(self, weight: Positive, start_kimg: Kimg, r1_gamma: Weight = 0.0, r1_every: Count = 16) -> None:
        super().__init__(weight, start_kimg)
        if r1_every < 1:
            raise ValueError(f"r1_every={r1_every} must be at least 1")
        self.r1_gamma, self.r1_every = r1_gamma, r1_every

    def generator_loss(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Returns the scalar that the generator lowers."""
        raise NotImplementedError

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Returns the scalar that the discriminator lowers."""
        raise NotImplementedError


class Vanilla(Adversarial):
    """Non-saturating logistic loss.

    Source: Goodfellow et al., "Generative adversarial nets", NeurIPS 2014, section 3.
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Returns mean softplus(-fake)."""
        return functional.softplus(-fake).mean()

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Returns mean softplus(fake) + mean softplus(-real)."""
        return functional.softplus(fake).mean() + functional.softplus(-real).mean()


class Hinge(Adversarial):
    """Hinge loss.

    Source: Lim and Ye, "Geometric GAN" (arXiv 1705.02894), equations 14 and 15.
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Returns -mean(fake)."""
        return -fake.mean()

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Returns mean relu(1 + fake) + mean relu(1 - real)."""
        return functional.relu(1.0 + fake).mean() + functional.relu(1.0 - real).mean()


class RelativisticAverage(Adversarial):
    """Is a real picture more real than the average generated one? The averages run over the batch of all ranks.

    Source: Jolicoeur-Martineau, "The relativistic discriminator" (arXiv 1807.00734), section 4.2; ESRGAN (Wang et al.,
    ECCVW 2018), equations 1 and 2.
    """

    needs_real_logits = True

    def _loss(self, more_real: Tensor, less_real: Tensor) -> Tensor:
        over = more_real - mean_over_ranks(less_real.mean())
        under = less_real - mean_over_ranks(more_real.mean())
        return 0.5 * (functional.softplus(-over).mean() + functional.softplus(under).mean())

    def generator_loss(self, fake: Tensor, real: Tensor | None) -> Tensor:
        """Returns the loss that is low when generated pictures look more real than real ones on average."""
        if real is None:
            raise ValueError("the relativistic loss needs the real logits")
        return self._loss(fake, real.detach())

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> Tensor:
        """Returns the loss that is low when real pictures look more real than generated ones on average."""
        return self._loss(real, fake)


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Returns half the mean squared length of the logits' gradient with respect to real pictures, in float32.

    The mean is over pictures, so that ranks that average their gradients get that of the whole batch.

    Source: Mescheder et al., "Which training methods for GANs do actually converge?", ICML 2018, equation 9.
    """
    with torch.autocast(real.device.type, enabled=False):
        pictures = real.detach().float().requires_grad_(True)
        logits = discriminator(pictures).float()
        # A map of logits counts as its mean, so that the penalty does not grow with the map.
        score = logits.flatten(1).mean(1).sum()
        (gradient,) = torch.autograd.grad(score, pictures, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2, 3)).mean()
