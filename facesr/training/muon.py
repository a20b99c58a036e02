"""Muon: steps whose matrices are orthogonal, for the convolutions between features; Adam for everything else.

A gradient's few large directions drown the many small ones; an orthogonal step moves along all of them alike. Short of
convergence, where a CPU's runs end, that is worth several times the images (docs/results.md states how much).

Source: Jordan, "Muon: an optimizer for hidden layers in neural networks" (kellerjordan.github.io/posts/muon, 2024);
the step's size after Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982). `torch.optim.Muon` takes
matrices alone and rounds them to bfloat16; here kernels count as matrices and equal shapes are computed at once.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

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
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
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
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        matrices, rest = self.param_groups
        for weight in matrices["params"]:
            if weight.grad is not None:
                by_shape[len(weight), weight[0].numel()].append(weight)
        for shape, weights in by_shape.items():
            self._move(weights, matrices["lr"] * 0.2 * max(shape) ** 0.5, matrices["momentum"])
        # Looked up anew: loading a state replaces both.
        self._adam.param_groups, self._adam.state = [rest], self.state
        self._adam.step()
        return loss

    def _move(self, weights: list[nn.Parameter], size: float, momentum: float) -> None:
        """Moves weights of one shape by orthogonal steps of the given size."""
        ahead = weights[0].new_empty(len(weights), len(weights[0]), weights[0][0].numel())
        for weight, row in zip(weights, ahead, strict=True):
            assert weight.grad is not None
            average = self.state[weight].setdefault("average", torch.zeros_like(weight))
            average.lerp_(weight.grad, 1.0 - momentum)
            gradient, target = _in_memory_order(weight.grad, weight), _in_memory_order(average, weight)
            torch.lerp(gradient, target, momentum, out=row.view(gradient.shape))
        for weight, step in zip(weights, orthogonal(ahead.float()), strict=True):
            moved = _in_memory_order(weight, weight)
            moved.sub_(step.view(moved.shape).to(weight.dtype), alpha=size)


def _in_memory_order(tensor: Tensor, like: Tensor) -> Tensor:
    """Returns a view with the axes as they lie in the memory of `like`: columns may take any order, and copies cost."""
    channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if channels_last else tensor


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
