"""One training step of the face generator's VAE: likelihood of the picture and of its downscaling, and the divergence.

Source: Kingma and Welling, "Auto-encoding variational Bayes", arXiv 1312.6114; the likelihood's standard deviation is
the best one for each batch (Rybkin et al., "Simple and effective VAE training with calibrated decoders", arXiv
2006.13202), so there is no weight to choose between picture and divergence.
"""

import math

import torch
from torch import Tensor

from facesr.models.face_vae import FaceVae, divergences
from facesr.resample import downscale
from facesr.training.step import AUTOCAST_DTYPES, GanState

LEARNING_RATE = 2.5e-3
WARMUP = 0.03  # of a run's images: the learning rate rises to its full height, and then falls like a cosine
MAX_NORM = 2.0  # of the gradient
# A search sees the downscaling alone: each of its values counts as much as so many of the picture's.
LOW_WEIGHT = 2.0


def rate_at(progress: float) -> float:
    """Returns the learning rate after a share of the run, 0 to 1."""
    return LEARNING_RATE * min(1.0, progress / WARMUP) * 0.5 * (1.0 + math.cos(math.pi * progress))


def log_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Returns half a face's number of values times the logarithm of the mean square error over the batch, in nats.

    It is the Gaussian likelihood's negative logarithm at the best standard deviation, without its constant.
    """
    square = (found - wanted).square().mean().clamp_min(1e-8)
    return 0.5 * wanted[0].numel() * square.log()


def vae_step(state: GanState, real: Tensor, progress: float) -> dict[str, Tensor]:
    """Does one step of decoder and encoder and returns its figures as detached scalars.

    Args:
        state: changed in place.
        real: float32 (N, 3, H, W) in [0, 1].
        progress: share of the run that is behind, 0 to 1.
    """
    network, optimizer = state.generator, state.generator_optimizer
    assert isinstance(network, FaceVae)
    for group in optimizer.param_groups:
        group["lr"] = rate_at(progress)
    network.train()
    dtype = AUTOCAST_DTYPES.get(state.precision)
    with torch.autocast(real.device.type, dtype, enabled=dtype is not None):
        found, posteriors = network(real)
    found = found.float()
    small = downscale(real)
    whole, low = log_error(found, real), log_error(downscale(found), small)
    nats = divergences([(mean.float(), spread.float()) for mean, spread in posteriors]).mean(0)
    loss = (whole + LOW_WEIGHT * low + nats.sum()) / real[0].numel()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
    optimizer.step()
    state.num_steps += 1
    decibels = -20.0 / math.log(10.0)
    return {
        "loss/vae": loss.detach(),
        "psnr": decibels * whole.detach() / real[0].numel(),
        "psnr_low": decibels * low.detach() / small[0].numel(),
        "nats": nats.detach().sum(),
        **{f"nats/{number}": value for number, value in enumerate(nats.detach())},
    }
