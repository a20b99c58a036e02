"""The network that a snapshot names, built so that a stranger's file takes no more memory than its weights have.

The network is made without memory first (torch's meta device) and stopped as soon as it has more weights than the file;
only one whose names and shapes are those of the file is built, and only one that enlarges a picture 4x is returned.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from facesr.build import build
from facesr.errors import CheckpointError, FaceSRError
from facesr.places import Place
from facesr.snapshots.snapshot import Snapshot
from facesr.task import SCALE
from facesr.weights import check_fit, load_into

# A normalisation may register a weight anew, so what is registered is more than what there is in the end.
_REGISTRATIONS = 4
_SIDE_PX = 16


# What fills a tensor in place with numbers that are drawn.
_FILLING = frozenset({Tensor.normal_, Tensor.uniform_})


class _Unfilled(TorchFunctionMode):
    """Leaves first weights out: on the meta device there are none, but drawing them loads torch's compiler (2 s)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FILLING or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class _TooLarge(Exception):
    """The network under construction has more weights than the file."""


def network_of(snapshot: Snapshot, path: Path) -> nn.Module:
    """Returns the network of a snapshot with its weights, in evaluation mode, on the CPU.

    Args:
        snapshot: what was read.
        path: its file, for errors.

    Raises:
        CheckpointError: the snapshot names a network that this version does not have or that restores no pictures.
        WeightsError: the weights do not fit that network.
    """
    _check_without_memory(snapshot, path)
    network: nn.Module = build(snapshot.generator, Place.GENERATOR)
    load_into(network, snapshot.state, path)
    network.eval().requires_grad_(False)
    _check_restores(network, path)
    return network


def _check_without_memory(snapshot: Snapshot, path: Path) -> None:
    try:
        with _Unfilled(), torch.device("meta"), _at_most_the_weights_of(snapshot.state):
            shell: nn.Module = build(snapshot.generator, Place.GENERATOR)
    except _TooLarge:
        raise CheckpointError(
            f"{path} is no sound snapshot: the network that it names is larger than its weights; use another one of "
            "the run."
        ) from None
    except FaceSRError as error:
        raise CheckpointError(f"{path} names a network that cannot be built here: {error}") from error
    # A stranger may write any numbers, so any error of a constructor is the file's.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(f"{path} names a network that cannot be built: {reason.rstrip('.')}.") from error
    check_fit(shell, snapshot.state, path)


@contextmanager
def _at_most_the_weights_of(state: Mapping[str, Tensor]) -> Iterator[None]:
    num_left = _REGISTRATIONS * (len(state) + 1)
    values_left = _REGISTRATIONS * (sum(tensor.numel() for tensor in state.values()) + 1)

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal num_left, values_left
        if parameter is not None:
            num_left, values_left = num_left - 1, values_left - parameter.numel()
            if min(num_left, values_left) < 0:
                raise _TooLarge

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _check_restores(network: nn.Module, path: Path) -> None:
    low = torch.full((1, 3, _SIDE_PX, _SIDE_PX), 0.5)
    try:
        with torch.no_grad():
            answer = network(low)
        fits = isinstance(answer, Tensor) and answer.shape == (1, 3, SCALE * _SIDE_PX, SCALE * _SIDE_PX)
    # Not every network of facesr.models is a generator: a discriminator's input may not even have this size.
    except Exception:
        fits = False
    if not fits:
        raise CheckpointError(f"{path} names a network that does not enlarge pictures {SCALE}x; give a generator's.")
