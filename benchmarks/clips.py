"""Films: how steady restored faces are, whether they stay the same person, timestamps, time and memory.

    uv run benchmarks/clips.py [--frames 48] [--width 17] [--keep DIR]

A film is made of scikit-image's astronaut: a small face under a known movement, with light that drifts, noise, uneven
timestamps and sound. The warping error is taken with the true movement, in grey levels, over the face.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from facesr.clips.stream import frames_of, probe
from facesr.evaluation.judges import named_judge
from facesr.image import to_float
from facesr.methods.open import open_method
from facesr.metrics.identity_similarity import cosine, embed
from facesr.photos.crop import Framing, cut
from facesr.photos.detect import detector
from facesr.photos.search import find_faces
from facesr.processes import peak_memory_mib
from facesr.restore_photo import clip
from facesr.restore_photo.clip import Work, restore_clip
from facesr.restore_photo.decide import placed
from facesr.restore_photo.photo import Means, Wishes
from tests.clips.made import moving, packets_of, path_of, times_of, uneven, write_film

SCALE = 4
# The astronaut's face is 87 pixels wide at (224, 117).
FACE_WIDTH = 87.0


def scene(width: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns the picture at `SCALE` times the film's size, and at the film's."""
    from skimage.data import astronaut

    factor = width * SCALE / FACE_WIDTH
    whole = astronaut()[:260, 84:364]
    high = cv2.resize(
        whole, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    )
    rows, columns = (side // (4 * SCALE) * (4 * SCALE) for side in high.shape[:2])
    high = np.ascontiguousarray(high[:rows, :columns])
    low = cv2.resize(high, (columns // SCALE, rows // SCALE), interpolation=cv2.INTER_AREA)
    return high, np.asarray(low, np.uint8)


def true_placement(number: int, count: int, low_size: tuple[int, int]) -> NDArray[np.float64]:
    """Returns (2, 3): takes a point of the enlarged still to its point in an enlarged frame."""
    placement = path_of(number, count, ((low_size[0] - 1) / 2, (low_size[1] - 1) / 2)) * SCALE
    half = (SCALE - 1) / 2
    placement[:, :2] /= SCALE
    placement[:, 2] += half - placement[:, :2] @ np.full(2, half)
    return placement


def stilled(path: Path, count: int, low_size: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Returns the frames of an enlarged film, each moved back to where the still picture is, without its light."""
    about = probe(path)
    found = []
    for number, frame in enumerate(frames_of(path)):
        rgb = frame.to_ndarray(format="rgb24", src_colorspace=about.colours[2]).astype(np.float32)
        light = 1.0 + 0.08 * np.sin(2 * np.pi * number / 50)
        placement = true_placement(number, count, low_size)
        size = (rgb.shape[1], rgb.shape[0])
        found.append(cv2.warpAffine(rgb / light, placement, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--width", type=float, default=17.0, help="pixels of the face in the film")
    parser.add_argument("--method", default="pretrained:wild")
    parser.add_argument("--judge", default="builtin")
    parser.add_argument("--keep", type=Path, help="folder for the films")
    parser.add_argument("--only-memory", action="store_true", help="restore once and print the peak memory")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        compare(asked, folder)


def compare(asked: argparse.Namespace, folder: Path) -> None:
    high, low = scene(asked.width)
    size, count = (low.shape[1], low.shape[0]), asked.frames
    source = folder / f"film{count}.mp4"
    write_film(source, list(moving(low, count)), uneven(count))
    device = torch.device("cpu")
    judge = named_judge(asked.judge, "--judge")
    means = Means(open_method(asked.method, device), None, detector("cpu"), named_judge("builtin", "judge"), device)
    face = find_faces(high, means.detector)[0]
    framing = Framing(width=96, height=112)
    truth = embed(judge, to_float(cut(high, placed(face, framing), framing)[None]))
    down, across = np.mgrid[: high.shape[0], : high.shape[1]]
    # The ellipse in the face's box: its corners are not face.
    inside = ((across - face.centre[0]) * 2 / face.width) ** 2 + ((down - face.centre[1]) * 2 / face.height) ** 2 < 1
    ways = (
        {"stabilised": (clip.REACH, 1.0)}
        if asked.only_memory
        else {"bicubic": (0, 0.0), "frame by frame": (0, 1.0), "stabilised": (clip.REACH, 1.0)}
    )
    for name, (reach, strength) in ways.items():
        state = folder / f"state_{name.split()[0]}"
        state.mkdir(exist_ok=True)
        for path in state.iterdir():
            path.unlink()
        target = folder / f"{name.split()[0]}{count}.mp4"
        clip.REACH = reach
        start = time.perf_counter()
        told = restore_clip(
            Work(source, probe(source), (0, None), state, lambda *_: None),
            target, means, Wishes(SCALE, "all", 10.0, 60.0, strength), "invented", True,
        )  # fmt: skip
        seconds = (time.perf_counter() - start) / count
        same = times_of(target) == times_of(source), packets_of(target, "audio") == packets_of(source, "audio")
        frames = stilled(target, count, size)
        warping = np.mean([np.abs(a - b)[inside].mean() for a, b in itertools.pairwise(frames)])
        crops = np.stack(
            [cut(np.clip(one + 0.5, 0, 255).astype(np.uint8), placed(face, framing), framing) for one in frames]
        )
        alike = cosine(embed(judge, to_float(crops)), np.repeat(truth, count, 0)).mean()
        print(
            f"{name}: warping error {warping:.3f} levels, IS {alike:.4f} ({asked.judge}), {seconds:.2f} s a frame, "
            f"PTS equal {same[0]}, sound equal {same[1]}, mirror agreement {told.agreement}",
            flush=True,
        )
    tell_jitter(told, count, size)
    print(f"peak memory {peak_memory_mib() or 0:.0f} MiB for {count} frames of {size[0]}x{size[1]}", flush=True)


def tell_jitter(told: clip.RestoredClip, count: int, size: tuple[int, int]) -> None:
    """Prints how much the placement wanders about the true movement from frame to frame, in pixels of the film."""
    for plan in told.plans[:1]:
        back = []
        for number in range(plan.first, plan.last + 1):
            placement = path_of(number, count, ((size[0] - 1) / 2, (size[1] - 1) / 2))
            centre = plan.faces[number - plan.first].centre
            back.append(np.linalg.solve(placement[:, :2], centre - placement[:, 2]))
        steps = np.diff(np.array(back), axis=0)
        jitter = np.sqrt((steps**2).sum(1).mean())
        print(f"jitter of the placement {jitter:.3f} px a frame (RMS)", flush=True)


if __name__ == "__main__":
    main()
