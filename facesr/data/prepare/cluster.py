"""``facesr prepare --dask``: shards made by the workers of a dask cluster, and merged here. dask is an extra.

Each task is `facesr.data.prepare.prepare.prepare` of one shard, so the set has the bytes of one machine's. How pictures
are shared out does not depend on the workers: the same command goes on, with other workers, too. dask gives what a
lost worker had to another one, which goes on with what is on the disk.
"""

import importlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facesr.data.packed.shard import Shard
from facesr.data.prepare.merge import merge
from facesr.errors import DataError

SHARD_PIECES = 16  # of a task's pictures: a thousand, minutes of work; fixed, so that a stopped run finds its shards
CONNECT_SECONDS = 20
_LOCAL = re.compile(r"local:([1-9][0-9]{0,3})")
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+")


def check_address(address: str) -> None:
    """Raises DataError unless an address is local:N or a scheduler's, or dask.distributed is missing."""
    if not _LOCAL.fullmatch(address) and not _ADDRESS.fullmatch(address):
        raise DataError(
            f"--dask {address[:60]!a} is no cluster; give local:N for N processes on this machine, or a scheduler's "
            "address such as tcp://host:8786."
        )
    _distributed()


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise DataError(
            "--dask needs dask.distributed; run uv run --extra dask facesr prepare ..., or pip install 'facesr[dask]'."
        ) from error


@contextmanager
def _client(address: str) -> Iterator[Any]:
    """Yields a client of the cluster; one that was started here ends with it."""
    dask = _distributed()
    logging.getLogger("distributed").setLevel(logging.ERROR)  # what matters of a lost worker is told here
    found = _LOCAL.fullmatch(address)
    if found:
        with (
            dask.LocalCluster(
                n_workers=int(found[1]), threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            dask.Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = dask.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise DataError(f"no dask scheduler answers at {address}; start one with: dask scheduler") from error
    with client:
        yield client


def prepare_shards(
    address: str,
    out: Path,
    num_sources: int,
    piece: int,
    make: Callable[[Path, Shard], object],
    advance: Callable[[int], None],
) -> list[Path]:
    """Returns the folders of all shards of a set, made by the workers of a cluster.

    Args:
        address: see `check_address`.
        out: folder of the set; the shards lie beside it, where all workers have to see them.
        num_sources: of the whole set.
        piece: sources that a worker takes at once.
        make: makes one shard in a folder; it is sent to the workers.
        advance: told how many sources have been done.

    Raises:
        DataError: the cluster cannot be reached, a shard cannot be made, or its workers were lost again and again.
    """
    dask = _distributed()
    count = max(1, -(-num_sources // (piece * SHARD_PIECES)))
    shards = [Shard(number, count) for number in range(1, count + 1)]
    folders = {shard: (shards_folder(out) / f"{shard.number:05d}").resolve() for shard in shards}
    with _client(address) as client:
        if not client.scheduler_info()["workers"]:
            raise DataError(f"the dask cluster at {address} has no worker; start some with: dask worker {address}")
        tasks = {client.submit(make, folders[shard], shard, pure=False): shard for shard in shards}
        try:
            for done in dask.as_completed(list(tasks)):
                done.result()
                share = tasks[done].share(num_sources, piece)
                advance(len(range(num_sources)[share]))
        except dask.KilledWorker as error:
            raise DataError(
                f"shard {tasks[done]} has lost all workers that tried it, perhaps for want of memory; run the same "
                "command again with fewer workers a machine, it goes on where it stopped."
            ) from error
    return list(folders.values())


def shards_folder(out: Path) -> Path:
    """Returns the folder that holds the shards of a set while it is made."""
    return out.with_name(f"{out.name}.shards")


def merge_shards(out: Path, folders: Sequence[Path]) -> None:
    """Makes the set of its shards, and removes them."""
    merge(out, folders)
    shutil.rmtree(shards_folder(out))
