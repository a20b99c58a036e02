"""Muon: steps whose matrices are orthogonal, for the convolutions between features; Adam for everything else.

A gradient's few large directions drown the many small ones; an orthogonal step moves along all of them alike. Short of
convergence, where a CPU's runs end, that is worth several times the images (docs/log.md states how much).

Source: Jordan, "Muon: an optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon, 2024);
the step's size after Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982). `torch.optim.Muon` takes
matrices alone and rounds them to bfloat16; here kernels count as matrices, equal shapes are computed at once, and each
rank computes a share of them, because ranks whose gradients are the same would all compute the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from facesr import dist
from facesr.ranges import Momentum, Positive, Rate

_NUM_STEPS = 5
# Jordan's: they drive singular values from 0.01 up into 0.7 .. 1.2 within five steps, and do not converge further.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Layers from or to colours have no features to orthogonalise on one side.
_MIN_CHANNELS = 4


class Muon(torch.optim.Optimizer):
    """Muon for kernels and matrices between features, Adam at the same rate for the rest.

    Args:
        params: the weights; those of 2 and more dimensions with at least 4 channels on both sides are Muon's.
        lr: learning rate. A step has the root mean square that Adam's has, so Adam's rates are where to begin.
        momentum: of Muon's average gradient, 0 .. 1.
        betas: Adam's.
        eps: Adam's.

    Raises:
        ValueError: the learning rate, the momentum, a beta or eps is out of range.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: Rate = 1e-3,
        momentum: Momentum = 0.95,
        betas: tuple[Momentum, Momentum] = (0.9, 0.99),
        eps: Positive = 1e-8,
    ) -> None:
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum must be in [0, 1), not {momentum}")
        weights = list(params)
        matrices = [weight for weight in weights if _is_matrix(weight)]
        rest = [weight for weight in weights if not _is_matrix(weight)]
        # Adam of nothing is refused; a group without weights is not.
        self._adam = torch.optim.Adam(rest or [nn.Parameter(torch.zeros(0))], lr, betas=betas, eps=eps)
        group = {**self._adam.param_groups[0], "params": rest}
        super().__init__([{"params": matrices, "lr": lr, "momentum": momentum}, group], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Moves the weights once; returns the closure's loss, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices, rest = self.param_groups
        weights = [weight for weight in matrices["params"] if weight.grad is not None]
        for weight in weights:
            self._update_average(weight, matrices["momentum"])
        for weight, step in zip(weights, self._steps(weights, matrices["momentum"]), strict=True):
            moved = _in_memory_order(weight, weight)
            size = matrices["lr"] * 0.2 * max(_shape(weight)) ** 0.5
            moved.sub_(step.view(moved.shape).to(weight.dtype), alpha=size)
        # Looked up anew: loading a state replaces both.
        self._adam.param_groups, self._adam.state = [rest], self.state
        self._adam.step()
        return loss

    def _update_average(self, weight: nn.Parameter, momentum: float) -> None:
        """Moves a weight's average gradient toward its gradient."""
        assert weight.grad is not None
        average = self.state[weight].setdefault("average", torch.zeros_like(weight))
        average.lerp_(weight.grad, 1.0 - momentum)

    def _steps(self, weights: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """Returns the orthogonal step of every weight, flat, in the order of its memory."""
        owners = dist.share_out([_work(weight) for weight in weights])
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for number, weight in enumerate(weights):
            if owners[number] == dist.rank():
                by_shape[_shape(weight)].append(number)
        own: dict[int, Tensor] = {}
        for numbers in by_shape.values():
            own.update(zip(numbers, self._orthogonal([weights[number] for number in numbers], momentum), strict=True))
        sizes = [weight.numel() for weight in weights]
        return dist.from_owners(own, owners, sizes, weights[0].device) if weights else []

    def _orthogonal(self, weights: list[nn.Parameter], momentum: float) -> Tensor:
        """Returns the orthogonal steps (K, M, N) of K weights of one shape, columns in the order of their memory."""
        ahead = weights[0].new_empty(len(weights), *_shape(weights[0]))
        for weight, row in zip(weights, ahead, strict=True):
            assert weight.grad is not None
            gradient, average = weight.grad, self.state[weight]["average"]
            gradient, average = _in_memory_order(gradient, weight), _in_memory_order(average, weight)
            torch.lerp(gradient, average, momentum, out=row.view(gradient.shape))
        return orthogonal(ahead.float())


def _in_memory_order(tensor: Tensor, like: Tensor) -> Tensor:
    """Returns a view with the axes as they lie in the memory of `like`: columns may take any order, and copies cost."""
    channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if channels_last else tensor


def _shape(weight: Tensor) -> tuple[int, int]:
    return len(weight), weight[0].numel()


def _work(weight: Tensor) -> float:
    """Returns what `orthogonal` costs for a weight, in multiply-accumulates: two large products and 17 small ones."""
    small, large = sorted(_shape(weight))
    return small * small * (2.0 * large + 17.0 * small)


def _is_matrix(weight: Tensor) -> bool:
    return weight.ndim >= 2 and min(weight.shape[:2]) >= _MIN_CHANNELS


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns the nearest matrices (K, M, N) with orthonormal rows or columns, roughly: singular values of 0.7 to 1.2.

    Newton-Schulz steps on the small Gram matrix alone, which commutes with all that is made of it: the large matrix
    takes part in the first product and in the last one. Singular values below a hundredth of a matrix's norm stay
    smaller; a matrix of zeros stays one.
    """
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    gram = wide @ wide.mT
    energy = gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-30)[:, None, None]
    gram = gram / energy
    unit = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = unit / energy.sqrt()
    a, b, c = _COEFFICIENTS
    for number in range(_NUM_STEPS):
        factor = a * unit + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        product = factor @ product
        if number + 1 < _NUM_STEPS:  # nobody reads the last one
            gram = factor @ gram @ factor
            gram = (gram + gram.mT) / 2.0
    found = product @ wide
    return found if wide is matrices else found.mT
