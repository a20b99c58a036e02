"""Crops pictures piece by piece, in this process or in many, always with the same result in the same order."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facesr.data.crop import Framing, cut_as_is
from facesr.data.picture_files import Unusable, read_picture
from facesr.data.set_writer import Row
from facesr.errors import DataError

PIECE = 64  # pictures a worker takes at once; fixed, so that results do not depend on the number of workers


@dataclass(frozen=True)
class Piece:
    """The next sources for a worker: files, and the landmarks known of each."""

    paths: tuple[str, ...]
    landmarks: tuple[tuple[float, ...], ...]
    framing: Framing


def crop_piece(piece: Piece) -> tuple[NDArray[np.uint8], list[Row]]:
    """Returns the crops of the usable pictures of a piece, uint8 (n, H, W, 3), and a row for each picture."""
    width, height = piece.framing.stored_size
    crops = np.empty((len(piece.paths), height, width, 3), np.uint8)
    rows: list[Row] = []
    count = 0
    for path, landmarks in zip(piece.paths, piece.landmarks, strict=True):
        digest = ""
        try:
            picture, digest = read_picture(Path(path))
            crops[count] = cut_as_is(picture, piece.framing)
            rows.append(Row(digest, "", " ".join(f"{value:.2f}" for value in landmarks)))
            count += 1
        except Unusable as reason:
            rows.append(Row(getattr(reason, "sha256", digest), str(reason)))
    return crops[:count], rows


def crop_all(pieces: Iterator[Piece], num_workers: int) -> Iterator[tuple[NDArray[np.uint8], list[Row]]]:
    """Yields the result of every piece, in order; a bounded number of pieces is under way."""
    if num_workers <= 1:
        yield from map(crop_piece, pieces)
        return
    methods = multiprocessing.get_all_start_methods()
    # Workers fork from a small clean server, because forking a process that runs threads can hang.
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["facesr.data.pieces"])
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_start_worker) as pool:
        under_way: deque[Future[tuple[NDArray[np.uint8], list[Row]]]] = deque()
        try:
            for piece in pieces:
                under_way.append(pool.submit(crop_piece, piece))
                if len(under_way) >= 4 * num_workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process was killed, perhaps for want of memory; run the same command again with fewer "
                "--workers, it goes on where it stopped."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes share the cores already
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow_parent() -> None:
        parent.join()
        os._exit(1)  # the parent was killed; a worker left behind would wait for work for ever

    threading.Thread(target=follow_parent, daemon=True).start()
