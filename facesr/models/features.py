"""The largest feature of a network on each picture: what shows that features run away, before a picture is lost.

A trained network's largest feature hardly differs from face to face. One face whose largest feature is ten times that
of the others is unlike all that the network has learnt, whatever its output looks like.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class LargestFeatures:
    """What `recorded` has seen.

    Attributes:
        values: float64 tensors (n,), one for each batch: each picture's largest absolute value of any layer's output.
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def per_picture(self) -> Tensor:
        """Returns the largest absolute feature of each picture, float64 (N,), in the order of the batches."""
        return torch.cat(self.values) if self.values else torch.zeros(0, dtype=torch.float64)


@contextmanager
def recorded(network: nn.Module) -> Iterator[LargestFeatures]:
    """Records the largest feature of each picture that goes through the network while the context lasts.

    Layers that return anything but one tensor with the pictures in front are passed over. A picture with a feature that
    is not a number has infinity. The network's own answer counts as a layer's output, too.
    """
    found = LargestFeatures()
    running: list[Tensor] = []

    def note(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.ndim > 1:
            largest = output.detach().abs().flatten(1).amax(1).double().nan_to_num(nan=float("inf"))
            running.append(largest)

    def close(_network: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        of_pictures = [largest for largest in running if len(largest) == len(inputs[0])]
        running.clear()
        if of_pictures:
            found.values.append(torch.stack(of_pictures).amax(0).cpu())

    hooks = [layer.register_forward_hook(note) for layer in network.modules()]
    # Behind the network's own hook: the last one registered is called last.
    hooks.append(network.register_forward_hook(close))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
