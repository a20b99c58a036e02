"""Ranks: the one module that knows whether one process or many are at work.

Every function works without a process group, where there is one rank. Start many with torchrun:
``torchrun --nproc-per-node 2 train.py``; gloo is used on CPU, nccl on CUDA.

Gradients are averaged by facesr/gradients.py instead of by DistributedDataParallel: penalties that need second
derivatives, several backward passes per step and two networks in turn then need no special care.
"""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as td
import torch.distributed.nn  # optimizers load it: after `initialise` its defaults would keep the group past `shutdown`
from torch import Tensor, nn

from facesr import ranks
from facesr.attempts import word_of_attempt
from facesr.errors import ConfigError, FaceSRError, RankLostError
from facesr.lost_rank import lost_rank_told, without_stderr
from facesr.processes import num_cores

Result = TypeVar("Result")

TIMEOUT = datetime.timedelta(minutes=60)  # validation on rank 0 or a slow disk must not kill the other ranks
# All ranks are started at once, and get as far as joining in the time that imports take.
JOIN_TIMEOUT = datetime.timedelta(minutes=10)

_store: Any = None  # where the ranks met
_apart: Any = None  # the group of `channel_apart`


def rank() -> int:
    """Returns this process's rank, 0 when alone."""
    return td.get_rank() if td.is_initialized() else ranks.rank()


def world_size() -> int:
    """Returns the number of ranks, 1 when alone."""
    return td.get_world_size() if td.is_initialized() else ranks.world_size()


def is_alone() -> bool:
    """Returns whether there is no other rank to send anything to."""
    return not td.is_initialized()


def is_first_on_machine() -> bool:
    """Returns whether this is the first of this machine's ranks, the one that counts what the machine has once."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def is_main() -> bool:
    """Returns whether this is rank 0, the one that prints and writes."""
    return rank() == 0


def choose_device(name: str) -> torch.device:
    """Returns the device of this rank for ``auto``, ``cpu`` or ``cuda``, and keeps torch within this process's cores.

    Raises:
        ConfigError: the name is unknown, or CUDA is asked for and absent.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device={name} is unknown; choose auto, cpu or cuda.")
    # torch sees the affinity, but not a container's quota; 128 threads on the time of 2 cores mostly wait.
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > num_cores():
        torch.set_num_threads(num_cores())
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda was asked for, but no CUDA device is available; use device=auto or cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"rank {local_rank} of this machine has no GPU of its own ({torch.cuda.device_count()} present); "
            "start fewer ranks per node."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@lost_rank_told()
def initialise(device: torch.device) -> None:
    """Joins the process group that torchrun describes in the environment; does nothing for one rank.

    Raises:
        ConfigError: the environment does not say where the ranks meet.
        RankLostError: not all of them came.
    """
    global _store
    if ranks.world_size() > 1 and not td.is_initialized():
        try:
            _store, number, count = next(td.rendezvous("env://", timeout=JOIN_TIMEOUT))  # type: ignore[attr-defined]
        except ValueError as error:
            raise ConfigError(f"the ranks cannot meet ({error}); start them with torchrun.") from error
        if "TORCHELASTIC_RUN_ID" in os.environ:
            word = word_of_attempt(_store, number, count, JOIN_TIMEOUT)
            _store = td.PrefixStore(word, _store)  # type: ignore[attr-defined]
        backend = "nccl" if device.type == "cuda" else "gloo"
        td.init_process_group(backend, timeout=TIMEOUT, store=_store, rank=number, world_size=count)


def first_to_tell(error: FaceSRError) -> bool:
    """Returns whether this rank is the one to print why the run ends: the first that asks."""
    try:
        with without_stderr():
            return is_main() if _store is None else bool(_store.add("facesr/told", 1) == 1)
    except RuntimeError:
        # The store has ended with rank 0, which has told of all but its own death.
        return isinstance(error, RankLostError) and rank() == 1


def shutdown() -> None:
    """Leaves the process group, if there is one; a thread of it that outlives Python would abort the process."""
    global _apart
    if td.is_initialized():
        td.destroy_process_group()
        _apart = None


@lost_rank_told()
def barrier() -> None:
    """Waits for all ranks."""
    if td.is_initialized():
        td.barrier()


def by_main(do: Callable[[], Result]) -> Result | None:
    """Returns what `do` returns on rank 0, None elsewhere; the others wait, and raise a user's error as rank 0 does."""
    result: Result | None = None
    problem: FaceSRError | None = None
    try:
        result = do() if is_main() else None
    except FaceSRError as error:
        problem = error
    problem = from_main(problem)
    if problem is not None:
        raise problem
    return result


def once(do: Callable[[], Result]) -> Result:
    """Returns on every rank what `do` returns on rank 0, where alone it is called; all raise a user's error."""
    result: Result = from_main(by_main(do))
    return result


def in_turn(make: Callable[[], Result]) -> Result:
    """Returns what `make` returns, made by rank 0 first: what it puts into a cache is then there for the others."""
    made = by_main(lambda: [make()])
    return made[0] if made else make()


@lost_rank_told()
def gather_objects(value: Any) -> list[Any] | None:
    """Returns the values of all ranks in rank order on rank 0, None elsewhere. Plain containers only."""
    if not td.is_initialized():
        return [value]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    td.gather_object(value, gathered, dst=0)
    return gathered


@lost_rank_told()
def from_main(value: Any) -> Any:
    """Returns rank 0's value on every rank."""
    if not td.is_initialized():
        return value
    box = [value]
    td.broadcast_object_list(box, src=0)
    return box[0]


def together(work: Callable[[], Result]) -> list[Result] | None:
    """Returns every rank's result of `work` on rank 0, None elsewhere; a user's error on one rank is raised by all.

    Raises:
        FaceSRError: the first one in rank order.
    """
    result: Result | None = None
    error: FaceSRError | None = None
    try:
        result = work()
    except FaceSRError as raised:
        error = raised
    gathered = gather_objects((result, error))
    first = from_main(next((fault for _, fault in gathered if fault is not None), None) if gathered else None)
    if first is not None:
        raise first
    return None if gathered is None else [part for part, _ in gathered]


@lost_rank_told()
def any_rank(flag: bool, device: torch.device) -> bool:
    """Returns whether the flag is set on at least one rank."""
    if not td.is_initialized():
        return flag
    box = torch.tensor([float(flag)], device=device)
    td.all_reduce(box, op=td.ReduceOp.MAX)
    return bool(box.item() > 0)


@lost_rank_told()
def average_scalars(values: Tensor) -> Tensor:
    """Returns the mean over ranks of a small tensor of figures (for logs); no gradient."""
    if td.is_initialized():
        values = values.detach().clone()
        td.all_reduce(values)
        values /= world_size()
    return values


@lost_rank_told()
def channel_apart() -> Any:
    """Returns a channel for sums that overlap with other messages, the same one at every call; all ranks open it.

    Messages of one channel must come in the same order on all ranks. What a backward pass sends (`mean_over_ranks`)
    and gradients sent meanwhile need not, where a rank lacks a gradient; so these have a channel of their own.
    """
    global _apart
    if _apart is None:
        _apart = td.new_group(timeout=TIMEOUT)
    return _apart


@lost_rank_told()
def sum_started(flat: Tensor, channel: Any = None) -> Callable[[], Any]:
    """Begins to replace a tensor by its sum over ranks, and returns what waits until it is.

    Args:
        flat: the same size on every rank; neither read nor written until then.
        channel: of `channel_apart`, None for that of all other messages.
    """
    work = td.all_reduce(flat, group=channel, async_op=True)
    return lost_rank_told()(work.wait)


def share_out(work: Sequence[float]) -> list[int]:
    """Returns which rank does each piece of work: from the largest on, each goes to the rank that has least so far.

    Every rank gets the same answer for the same amounts.
    """
    if not td.is_initialized():
        return [rank()] * len(work)
    owners, loads = [0] * len(work), [0.0] * world_size()
    for number in sorted(range(len(work)), key=lambda number: -work[number]):
        owners[number] = loads.index(min(loads))
        loads[owners[number]] += work[number]
    return owners


@lost_rank_told()
def from_owners(
    own: Mapping[int, Tensor], owners: Sequence[int], sizes: Sequence[int], device: torch.device
) -> list[Tensor]:
    """Returns on every rank what its owner (`share_out`) has made of each piece of work, flat.

    All is sent in one message: a broadcast for each owner waits for the network as often as there are ranks.

    Args:
        own: this rank's pieces by number, float32.
        owners: rank of each piece.
        sizes: number of values of each piece.
        device: of the pieces.
    """
    if not td.is_initialized():
        return [own[number].reshape(-1) for number in range(len(owners))]
    shares: list[list[int]] = [[] for _ in range(world_size())]
    for number, owner in enumerate(owners):
        shares[owner].append(number)
    # All send as much as the one that has most.
    most = max(sum(sizes[number] for number in share) for share in shares)
    flat = torch.zeros(most, device=device)
    for number, part in zip(shares[rank()], _cut(flat, shares[rank()], sizes), strict=True):
        part.copy_(own[number].reshape(-1))
    gathered = [torch.empty_like(flat) for _ in shares]
    td.all_gather(gathered, flat)
    found = [flat] * len(owners)
    for share, whole in zip(shares, gathered, strict=True):
        for number, part in zip(share, _cut(whole, share, sizes), strict=True):
            found[number] = part
    return found


def _cut(flat: Tensor, share: Sequence[int], sizes: Sequence[int]) -> Sequence[Tensor]:
    """Returns the pieces of one rank's share, which lie one behind the other at the beginning of `flat`."""
    wanted = [sizes[number] for number in share]
    return torch.split(flat[: sum(wanted)], wanted) if wanted else ()


@lost_rank_told()
def copy_from_main(module: nn.Module) -> None:
    """Gives every rank rank 0's parameters and buffers."""
    if td.is_initialized():
        for tensor in [*module.parameters(), *module.buffers()]:
            td.broadcast(tensor.data, src=0)


class _MeanOverRanks(torch.autograd.Function):
    """All-reduced mean whose gradient is the mean of the gradients, so that averaging them later is exact."""

    @staticmethod
    @lost_rank_told()
    def forward(ctx: Any, value: Tensor) -> Tensor:
        result = value.detach().clone()
        td.all_reduce(result)
        return result / td.get_world_size()

    @staticmethod
    @lost_rank_told()
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        result = gradients[0].detach().clone()
        td.all_reduce(result)
        return result / td.get_world_size()


def mean_over_ranks(value: Tensor) -> Tensor:
    """Returns the differentiable mean of `value` over ranks, for losses that compare with a batch average."""
    if not td.is_initialized():
        return value
    result = _MeanOverRanks.apply(value)
    assert isinstance(result, Tensor)
    return result
