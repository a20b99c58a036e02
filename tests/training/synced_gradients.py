"""What ranks have after steps by each way of sending gradients; writes it into a folder, one file a rank.

A program for `tests/training/test_gradient_sync.py`, started once a rank.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facesr import dist
from facesr.gradients import GRADIENT_SYNCS, GradientMean
from facesr.losses.adversarial import RelativisticAverage
from facesr.losses.pixel import L1
from facesr.models.facesr import FaceSR
from facesr.models.unet_discriminator import UNetDiscriminator
from facesr.training.muon import Muon
from facesr.training.step import GanState, train_step

NUM_STEPS = 4


def faces_of(rank: int, step: int, num_faces: int = 4) -> Tensor:
    """Returns a rank's faces in a step."""
    generator = torch.Generator().manual_seed(100 * rank + step)
    return torch.randint(0, 256, (num_faces, 3, 32, 32), generator=generator).float() / 255


def gan_of(sync: str) -> GanState:
    """Returns a GAN with R1 every second step and averages over ranks in its loss."""
    torch.manual_seed(1)
    generator = FaceSR(channels=32, num_blocks=1, channels_up=32, num_hourglass_blocks=0)
    generator = generator.to(memory_format=torch.channels_last)
    adversarial = RelativisticAverage(0.1, 0.0, r1_gamma=1.0, r1_every=2)
    optimizer = Muon(generator.parameters(), lr=1e-3)
    gan = GanState(generator, optimizer, {"pixel": L1(1.0, 0.0)}, "fp32", 0.1, adversarial, gradient_sync=sync)
    gan.discriminator = UNetDiscriminator(num_channels=4)
    gan.discriminator_optimizer = torch.optim.Adam(gan.discriminator.parameters(), lr=1e-3)
    return gan


def gan_steps(sync: str, num_parts: int) -> dict[str, Any]:
    """Returns all weights and optimiser states after some steps of a GAN, and its last figures."""
    gan = gan_of(sync)
    for step in range(NUM_STEPS):
        figures = train_step(gan, faces_of(dist.rank(), step).chunk(num_parts), kimg=1.0)
    assert gan.discriminator is not None and gan.discriminator_optimizer is not None
    return {
        "generator": gan.generator.state_dict(),
        "discriminator": gan.discriminator.state_dict(),
        "generator_optimizer": gan.generator_optimizer.state_dict()["state"],
        "discriminator_optimizer": gan.discriminator_optimizer.state_dict()["state"],
        "figures": {name: value for name, value in figures.items() if name.startswith("gradient_norm")},
    }


class Uneven(nn.Module):
    """Weights of which each rank uses some, in an order of its own, around an average over ranks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(5, 5, bias=False) for _ in range(10))

    def forward(self, values: Tensor) -> Tensor:
        """Returns one number. Rank 1 lacks layers 3 and 9, no rank has 4; 6 to 8 come in opposite orders."""
        first = dist.rank() == 0
        values = self._through([0, 1, 2, 3, 5] if first else [0, 1, 2, 5], values)
        values = values + dist.mean_over_ranks(values)
        return self._through([6, 7, 8, 9] if first else [8, 7, 6], values).square().sum()

    def _through(self, order: Sequence[int], values: Tensor) -> Tensor:
        for number in order:
            values = values + torch.tanh(self.layers[number](values))
        return values


def uneven_gradients(sync: str, precision: str = "fp32", average: bool = True) -> list[Tensor | None]:
    """Returns the gradients of `Uneven` as this rank has them after, or before, they are averaged."""
    torch.manual_seed(3)
    network = Uneven()
    values = torch.randn(2, 5, generator=torch.Generator().manual_seed(dist.rank()))
    mean = GradientMean(network.parameters(), sync if average else "flat", precision)
    with mean.sending():
        network(values).backward()
    if average:
        mean.wait()
    return [parameter.grad for parameter in network.parameters()]


def counted(inner: Callable[..., Any], sizes: list[int], flat: Tensor, channel: Any = None) -> Any:
    """Sends, and notes the size."""
    sizes.append(flat.numel())
    return inner(flat, channel)


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.initialise(torch.device("cpu"))
    left: dict[str, Any] = {}
    plain = dist.sum_started
    for sync in GRADIENT_SYNCS:
        sizes: list[int] = []
        dist.sum_started = functools.partial(counted, plain, sizes)
        left[sync] = {
            "whole": gan_steps(sync, 1),
            "in parts": gan_steps(sync, 2),
            "uneven": uneven_gradients(sync),
            "sizes": sizes,
        }
    left["bf16"] = uneven_gradients("overlap", "bf16")
    left["own"] = uneven_gradients("flat", average=False)
    torch.save(left, Path(sys.argv[1], f"{dist.rank()}.pt"))
    dist.shutdown()
