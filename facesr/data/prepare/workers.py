"""Crops pictures piece by piece, in this process or in many, always with the same result in the same order."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facesr.data.packed.dataset_format import Row
from facesr.photos import crop
from facesr.photos.crop import Framing
from facesr.photos.decode import Unusable, read_reduced
from facesr.processes import worker_pool

PIECE = 64  # pictures a worker takes at once; fixed, so that results do not depend on the number of workers
GROUP_PIXELS = 16_000_000  # a worker holds about so many decoded pixels at once, or one picture if it is larger

Crops = NDArray[np.uint8]


@dataclass(frozen=True)
class Piece:
    """The next sources for a worker.

    Attributes:
        paths: files.
        landmarks: known of each, 10 numbers in pixels of the source, or empty.
        framing: how they are cropped.
        device: where faces are detected.
        reduced: whether pictures may be decoded at a reduced size.
    """

    paths: tuple[str, ...]
    landmarks: tuple[tuple[float, ...], ...]
    framing: Framing
    device: str = "cpu"
    reduced: bool = False

    def most_reduction(self, width: int, height: int) -> int:
        """Returns by how much the sides of a picture may be divided when it is decoded."""
        return crop.most_reduction(width, height, self.framing) if self.reduced else 1


@dataclass
class _Decoded:
    picture: NDArray[np.uint8]
    landmarks: crop.Points | None
    size: tuple[int, int]  # of the whole picture
    factor: int
    box: NDArray[np.float64] | None = None


def crop_piece(piece: Piece) -> tuple[Crops, list[Row]]:
    """Returns the crops of the usable pictures of a piece, uint8 (n, H, W, 3), and a row for each picture."""
    width, height = piece.framing.stored_size
    crops = np.empty((len(piece.paths), height, width, 3), np.uint8)
    rows: list[Row] = []
    count = 0
    for group in _decode(piece):
        decoded = [item for item, _ in group if isinstance(item, _Decoded)]
        if piece.framing.crop in ("detect", "template"):
            _detect(decoded, piece)
        for item, digest in group:
            try:
                if isinstance(item, Unusable):
                    raise item
                crops[count], landmarks = _crop(item, piece.framing)
                rows.append(Row(digest, "", landmarks))
                count += 1
            except Unusable as reason:
                rows.append(Row(digest, str(reason)))
    return crops[:count], rows


def _decode(piece: Piece) -> Iterator[list[tuple[_Decoded | Unusable, str]]]:
    """Yields the pictures of a piece, or why they cannot be used, with their sha256, in groups that fit in memory."""
    group: list[tuple[_Decoded | Unusable, str]] = []
    num_pixels = 0
    for path, known in zip(piece.paths, piece.landmarks, strict=True):
        try:
            found = read_reduced(Path(path), piece.most_reduction)
            landmarks = np.array(known).reshape(5, 2) if known else None
            group.append((_Decoded(found.pixels, landmarks, found.size, found.factor), found.sha256))
            num_pixels += found.pixels.shape[0] * found.pixels.shape[1]
        except Unusable as reason:
            group.append((reason, reason.sha256))
        if num_pixels > GROUP_PIXELS:
            yield group
            group, num_pixels = [], 0
    yield group


def _detect(items: list[_Decoded], piece: Piece) -> None:
    """Adds boxes and landmarks; the template needs no detector where landmarks are known."""
    from facesr.photos.detect import detector, main_face  # torch is not loaded where nothing is detected

    template = piece.framing.crop == "template"
    wanted = [item for item in items if not (template and item.landmarks is not None)]
    # The smallest face that would be used: its box has the area of 66x82 after the largest enlargement. A quarter
    # is taken off because boxes vary.
    usable = float(np.sqrt(crop.BOX_SIZE[0] * crop.BOX_SIZE[1])) * piece.framing.zoom / piece.framing.max_enlargement
    found = detector(piece.device).find([item.picture for item in wanted], 0.75 * usable)
    for item, faces in zip(wanted, found, strict=True):
        height, width = item.picture.shape[:2]
        face = main_face(faces, width, height)
        if face is not None:
            item.box = face.box
            item.landmarks = face.landmarks if item.landmarks is None else item.landmarks


def _crop(item: _Decoded, framing: Framing) -> tuple[NDArray[np.uint8], str]:
    width, height = item.size
    if framing.crop == "as-is":
        placement = crop.place_whole(width, height, framing)
    elif framing.crop == "ffhq":
        placement = crop.place_ffhq(width, height, framing)
    elif framing.crop == "detect" and item.box is not None:
        placement = crop.place_box(item.box, framing)
    elif framing.crop == "template" and item.landmarks is not None:
        placement = crop.place_template(item.landmarks, framing)
    else:
        raise Unusable("no face: none was detected that is large enough")
    if framing.crop != "as-is":
        crop.check_placement(placement, width, height, framing)
    told = ""
    if item.landmarks is not None:
        told = " ".join(f"{value:.2f}" for value in crop.to_crop(item.landmarks, placement).ravel())
    if item.factor > 1:
        placement = crop.reduced(placement, item.factor)
    return crop.cut(item.picture, placement, framing), told


def crop_all(pieces: Iterator[Piece], num_workers: int) -> Iterator[tuple[Crops, list[Row]]]:
    """Yields the result of every piece, in order; a bounded number of pieces is under way."""
    if num_workers <= 1:
        yield from map(crop_piece, pieces)
        return
    advice = "run the same command again with fewer --workers, it goes on where it stopped"
    with worker_pool(num_workers, advice, preload=("facesr.data.prepare.workers",)) as pool:
        under_way: deque[Future[tuple[Crops, list[Row]]]] = deque()
        for piece in pieces:
            under_way.append(pool.submit(crop_piece, piece))
            if len(under_way) >= 2 * num_workers + 1:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
