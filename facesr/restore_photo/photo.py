"""Restoring one photograph: background, faces, and what is to be told of each face."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facesr.guard import Finding
from facesr.image import to_float, to_uint8
from facesr.methods.method import Method
from facesr.methods.restore import restore_pictures
from facesr.metrics.consistency import consistency_of_pictures
from facesr.metrics.identity_similarity import embed
from facesr.photos.colour import strips, to_eight_bits, with_room
from facesr.photos.crop import Framing, cut
from facesr.photos.detect import Detector
from facesr.photos.paste import Patch, Pixels, mask_of, matched, paste, pitch_of, scaled
from facesr.photos.search import FoundFace, find_faces
from facesr.protocols import Embedder
from facesr.resample import upscale
from facesr.restore_photo.background import Background, OnProgress
from facesr.restore_photo.decide import COMPETITION, Decision, decided, low_placement, restored_framing
from facesr.restore_photo.wishes import chosen_of
from facesr.task import SCALE

# Mirror agreement by the built-in judge below this is told as "less certain": 1.3 % of 300 held-out faces have less;
# their mean ID similarity is 0.933 instead of 0.968 (docs/restore.md).
LOW_AGREEMENT = 0.985
# The networks were trained on faces of 16.5 pixels; of narrower ones less was seen than they know how to use.
SMALL_FACE_PX = 12.0
# A face is left alone where the photograph holds at least so much of the detail that the restored one would have.
MOST_DETAIL_HELD = 0.7
# Asked only where a pixel that the network is shown covers more than so many of the photograph's: else it holds none.
FINER = 1.25
# Cubic interpolation asks for two rows on each side.
CUBIC_REACH = 3


@dataclass(frozen=True)
class Means:
    """What photographs are restored with.

    Attributes:
        method: restores the faces.
        background: restores the rest where the photograph is enlarged; None is cubic interpolation.
        detector: finds the faces.
        judge: says how much the restorations of a face and of its mirror image agree.
        device: of the method.
        framing: of the faces that the method was trained to answer.
    """

    method: Method
    background: Background | None
    detector: Detector
    judge: Embedder
    device: torch.device
    framing: Framing = COMPETITION


@dataclass(frozen=True)
class Wishes:
    """What is asked for; the keys of configs/restore.yaml."""

    scale: int
    faces: str | Sequence[int]
    min_face_px: float
    max_turn: float
    strength: float


@dataclass(frozen=True)
class FaceFacts:
    """What is told of a face.

    Attributes:
        face: where it is, in pixels of the photograph.
        reason: why it was left as it is; empty where it was restored.
        mirror_agreement: cosine between the judge's embeddings of the face as it is restored and as its mirror image
            is, None where it was not restored. Of all figures that need no original it goes best with the truth.
        input_cosine: cosine between the embeddings of the input and of the restored face. It says nothing of whether
            the person is the same: the input's embedding is the poor one.
        consistency_db: how well the restored face gives its input again, in dB.
        less_certain: why the face is less certain than others; empty where nothing says so.
    """

    face: FoundFace
    reason: str = ""
    mirror_agreement: float | None = None
    input_cosine: float | None = None
    consistency_db: float | None = None
    less_certain: tuple[str, ...] = ()


@dataclass(frozen=True)
class Restored:
    """A restored photograph and what is told of it; `pixels` and `alpha` as those of the photograph."""

    pixels: Pixels
    alpha: Pixels | None
    faces: tuple[FaceFacts, ...]
    seconds: float


def scale_for(width: int, height: int) -> int:
    """Returns how many times as large a photograph becomes by default: 4 up to a megapixel, 2 up to four, else 1."""
    pixels = width * height
    return 4 if pixels <= 1_000_000 else 2 if pixels <= 4_000_000 else 1


def restore_photo(
    pixels: Pixels,
    alpha: Pixels | None,
    view: NDArray[np.uint8],
    is_grey: bool,
    means: Means,
    wishes: Wishes,
    on_progress: OnProgress | None = None,
) -> Restored:
    """Returns a photograph `wishes.scale` times as large with its faces restored.

    Without a face, or at strength 0, it is the background, bit for bit.

    Args:
        pixels: uint8 or uint16 (H, W, 3), the file's own encoded values. alpha: (H, W) of the same type, or None.
        view: uint8 (H, W, 3), the photograph in sRGB, for the detector.
        is_grey: all channels are and stay equal.
        on_progress: see `Background.enlarged`.
    """
    start = time.perf_counter()
    height, width = pixels.shape[:2]
    faces = find_faces(view, means.detector, wishes.min_face_px)
    del view  # its place is needed for what is written
    chosen = chosen_of(wishes.faces, len(faces))
    decisions = [
        decided(
            face, (width, height), wishes.scale, number in chosen, wishes.min_face_px, wishes.max_turn, means.framing
        )
        for number, face in enumerate(faces)
    ]
    restored = enlarged(pixels, wishes.scale, is_grey, means, on_progress)
    new_alpha = None if alpha is None else interpolated(alpha[:, :, None], wishes.scale)[:, :, 0]
    facts = [FaceFacts(face, decision.reason) for face, decision in zip(faces, decisions, strict=True)]
    patches: list[Patch] = []
    shown, behind = to_eight_bits(pixels), to_eight_bits(restored)
    # Faces on one grid are restored in one batch.
    grids = {decision.grid for decision in decisions if not decision.reason}
    for grid in sorted(grids, key=lambda grid: grid.width):
        numbers = [n for n, decision in enumerate(decisions) if not decision.reason and decision.grid == grid]
        found, told = _faces(
            shown, behind, [faces[n] for n in numbers], [decisions[n] for n in numbers], means, wishes.scale
        )
        patches += found
        for number, some in zip(numbers, told, strict=True):
            facts[number] = some
    paste(restored, patches, wishes.strength, is_grey=is_grey)
    return Restored(restored, new_alpha, tuple(facts), time.perf_counter() - start)


def enlarged(pixels: Pixels, scale: int, is_grey: bool, means: Means, on_progress: OnProgress | None = None) -> Pixels:
    """Returns the background: the photograph `scale` times as large, in an array of its own.

    At scale 1 it is the photograph itself: what is not enlarged is not restored.
    """
    if scale == 1 or means.background is None:
        return interpolated(pixels, scale)
    return means.background.enlarged(pixels, scale, is_grey, on_progress)


def interpolated(pixels: Pixels, scale: int) -> Pixels:
    """Returns uint8 or uint16 pixels (H, W, C) `scale` times as large by cubic interpolation, of the same type."""
    if scale == 1:
        return pixels.copy()
    height, width, channels = pixels.shape
    found = with_room(height * scale, width * scale, pixels)
    top = 255.0 if pixels.dtype == np.uint8 else 65535.0
    # In strips: as floats the whole would be four times as large as the result.
    for rows in strips(height, width * scale**2):
        first, last = max(rows.start - CUBIC_REACH, 0), min(rows.stop + CUBIC_REACH, height)
        kept = slice((rows.start - first) * scale, (rows.stop - first) * scale)
        for channel in range(channels):
            image = Image.fromarray(np.ascontiguousarray(pixels[first:last, :, channel]).astype(np.float32))
            large = np.asarray(image.resize((width * scale, (last - first) * scale), Image.Resampling.BICUBIC))
            levels = np.clip(np.floor(large[kept] + 0.5), 0.0, top).astype(pixels.dtype)
            found[rows.start * scale : rows.stop * scale, :, channel] = levels
    return found


def _faces(
    pixels: NDArray[np.uint8],
    background: NDArray[np.uint8],
    faces: Sequence[FoundFace],
    decisions: Sequence[Decision],
    means: Means,
    scale: int,
) -> tuple[list[Patch], list[FaceFacts]]:
    """Returns the changes to a background that restore faces of one grid, and what is told of each."""
    grid, framing = decisions[0].grid, restored_framing(decisions[0].grid)
    low = np.stack([cut(pixels, low_placement(decision.placement), grid) for decision in decisions])
    found: dict[int, Finding] = {}
    straight, mirrored, mean = restored_both_ways(low, means, lambda finding: found.__setitem__(finding.place, finding))
    final = (mean + 0.5).astype(np.uint8)
    agreement, input_cosine = alike(straight, mirrored, means), alike(low, final, means)
    consistency = consistency_of_pictures(final, low)
    smooth = to_uint8(upscale(to_float(low))).astype(np.float32)
    patches, told = [], []
    for number, (face, decision) in enumerate(zip(faces, decisions, strict=True)):
        onto = scaled(decision.placement, scale)
        there = cut(background, onto, framing).astype(np.float32)
        held, gained = (detail_of(picture - smooth[number], framing) for picture in (there, mean[number]))
        if SCALE * pitch_of(decision.placement) > FINER and held > MOST_DETAIL_HELD * gained:
            told.append(FaceFacts(face, "the photograph holds detail here that the network would replace by its own"))
            continue
        patches.append(Patch(matched(mean[number] - there, framing), onto, framing))
        reasons = []
        if number in found:
            reasons.append(f"restored by {found[number].restored_by} instead: it contradicted its input")
        reasons += doubts(float(agreement[number]), face.width)
        figures = (float(agreement[number]), float(input_cosine[number]), float(consistency[number]))
        told.append(FaceFacts(face, "", *figures, less_certain=tuple(reasons)))
    return patches, told


def detail_of(difference: NDArray[np.float32], framing: Framing) -> float:
    """Returns the root mean square of a difference (h, w, 3) between two crops over the face, in grey levels."""
    weight = mask_of(framing)[:, :, None]
    return float(np.sqrt((weight * difference**2).sum() / (3.0 * weight.sum())))


def doubts(agreement: float | None, width: float) -> list[str]:
    """Returns why a face is less certain than others.

    Args:
        agreement: cosine between the judge's embeddings of both ways to restore it; None where it was not asked.
        width: in pixels of the photograph.
    """
    found = []
    if agreement is not None and agreement < LOW_AGREEMENT:
        found.append(f"its mirror image is restored otherwise (agreement {agreement:.2f})")
    if width < SMALL_FACE_PX:
        found.append(f"only {width:.0f} px wide")
    return found


def restored_both_ways(
    low: NDArray[np.uint8], means: Means, on_finding: Callable[[Finding], None]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Returns faces as they are restored, as their mirror images are, turned back, and the mean of both.

    The mirror image is always restored as well: the mean is better, and how much the two agree warns.

    Args:
        low: uint8 (N, h, w, 3).
        means: what they are restored with.
        on_finding: called for each face that the guard's fallback restored, either way.

    Returns:
        uint8, uint8 and float32 (N, 4h, 4w, 3), in grey levels.
    """

    def restored(some: NDArray[np.uint8]) -> NDArray[np.uint8]:
        some = np.ascontiguousarray(some)
        return restore_pictures(means.method, some, device=means.device, on_finding=on_finding)

    straight, mirrored = restored(low), restored(low[:, :, ::-1])[:, :, ::-1]
    return straight, mirrored, 0.5 * (straight.astype(np.float32) + mirrored)


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8], means: Means) -> NDArray[np.float32]:
    """Returns (N,) cosines between the judge's embeddings of faces, uint8 (N, h, w, 3), of any size each."""
    first, second = (embed(means.judge, to_float(np.ascontiguousarray(some)).to(means.device)) for some in (one, other))
    found: NDArray[np.float32] = (first * second).sum(1)
    return found
