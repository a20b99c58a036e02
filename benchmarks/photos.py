"""Restoring a made group picture, where the truth of every face is known.

    uv run benchmarks/photos.py --faces DIR [--num 50] [--blurs 0,0.7,1.4] [--noise 8] [--jpeg 60] [--out DIR]
    uv run benchmarks/photos.py --faceless

DIR holds faces of 96x112 (PNG). Each is made small, rolled and, as asked, blurred, and pasted into a picture of
scikit-image; the same picture with the sharp faces four times as large is the truth. The photograph may have noise (its
standard deviation in grey levels) and be saved as JPEG (its quality). Printed: how many faces were found
by width, roll and blur, PSNR and ID similarity of the restored faces beside cubic interpolation, false faces, seconds,
and memory. --faceless counts the faces that are found in 21 pictures without one.
"""

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from facesr.data.synthetic.dead_leaves import render_pictures
from facesr.degradation import GaussianNoise, Jpeg
from facesr.evaluation.judges import named_judge
from facesr.image import to_float, to_uint8
from facesr.methods.open import open_method
from facesr.metrics.identity_similarity import embed
from facesr.metrics.psnr import psnr_rgb
from facesr.photos.crop import BOX_CENTRE, BOX_SIZE, Framing, cut
from facesr.photos.detect import detector
from facesr.photos.paste import Patch, paste, scaled
from facesr.photos.search import find_faces, rotation
from facesr.png import list_png, read_png
from facesr.processes import peak_memory_mib
from facesr.restore_photo.photo import Means, Wishes, interpolated, restore_photo

SCALE = 4
CROP = Framing(width=96, height=112)
WIDTHS = (10, 12, 14, 16, 20, 24)
ROLLS = (0, 45, 90, 135, 180, 225, 270, 315)
# Of scikit-image, those that come with it and show no face; `camera` shows a man.
FACELESS = (
    *("brick", "cell", "chelsea", "clock", "coffee", "coins", "colorwheel", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
DEAD_LEAVES, MOST_SIDE = 4, 768
Placed = tuple[float, float, NDArray[np.float64], float]


def faceless() -> dict[str, NDArray[np.uint8]]:
    """Returns pictures without a face: of scikit-image, at most 768 pixels a side, and drawn ones."""
    pictures = {}
    for name in FACELESS:
        picture = getattr(data, name)()
        if picture.dtype == bool:
            picture = 255 * picture.astype(np.uint8)
        if picture.ndim == 2:
            picture = np.repeat(picture[:, :, None], 3, 2)
        pictures[name] = np.ascontiguousarray(picture[:MOST_SIDE, :MOST_SIDE, :3])
    for number, picture in enumerate(render_pictures(DEAD_LEAVES, 448, 448, 7, first=0)):
        pictures[f"dead_leaves {number}"] = picture
    return pictures


def count_false() -> None:
    """Prints the faces that are found where none is."""
    found = {name: len(find_faces(picture, detector("cpu"), 10.0)) for name, picture in faceless().items()}
    for name, count in found.items():
        print(f"  {name}: {count}")
    print(f"{sum(found.values())} false faces on {len(found)} pictures")


def made(faces: list[Path], seed: int, blurs: tuple[float, ...]) -> tuple[NDArray[np.uint8], list[Placed]]:
    """Returns the picture, four times as large as it is given to the network, and (width, roll, placement, blur) of
    each face; the blur is the sigma of a Gaussian, in pixels of what is given to the network.
    """
    generator = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(len(faces)))
    cell = 64
    side = columns * cell * SCALE
    background = Image.fromarray(data.coffee()).resize((side, side), Image.Resampling.BICUBIC)
    picture = np.array(background, np.uint8)
    placed = []
    for number, path in enumerate(faces):
        width, roll = WIDTHS[number % len(WIDTHS)], ROLLS[number % len(ROLLS)] if number % 3 == 2 else 0
        middle = np.array([number % columns + 0.5, number // columns + 0.5]) * cell * SCALE
        middle += generator.uniform(-24, 24, 2)
        linear = rotation(roll) * (width * SCALE / BOX_SIZE[0])
        placement = np.column_stack([linear, middle - linear @ np.array(BOX_CENTRE)])
        # The face in full, not its difference: the whole crop is there, feathered at its ellipse.
        blur = blurs[number // len(WIDTHS) % len(blurs)]
        face = read_png(path).astype(np.float32)
        if blur:
            face = cv2.GaussianBlur(face, (0, 0), blur * BOX_SIZE[0] / width)
        change = face - cut(picture, placement, CROP)
        paste(picture, [Patch(change, placement, CROP)])
        placed.append((float(width), float(roll), placement, blur))
    return picture, placed


def damaged(photo: NDArray[np.uint8], noise: float, quality: int | None, seed: int) -> NDArray[np.uint8]:
    """Returns the photograph with noise of so many grey levels, and after a stay in a JPEG file."""
    generator = np.random.default_rng(seed)
    picture = GaussianNoise(noise)(to_float(photo[None])[0], generator)
    if quality is not None:
        picture = Jpeg(quality)(picture, generator)
    return to_uint8(picture[None])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path)
    parser.add_argument("--faceless", action="store_true")
    parser.add_argument("--blurs", type=lambda text: tuple(map(float, text.split(","))), default=(0.0,))
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--jpeg", type=int)
    parser.add_argument("--num", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="pretrained:wild")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.faceless:
        count_false()
        return
    if options.faces is None:
        parser.error("--faces DIR or --faceless")
    files = list(list_png(options.faces).values())
    chosen = [files[place] for place in np.random.default_rng(options.seed).permutation(len(files))[: options.num]]
    truth, _ = made(chosen, options.seed, (0.0,))
    given, placed = made(chosen, options.seed, options.blurs)
    photo = np.array(Image.fromarray(given).resize((truth.shape[1] // SCALE, truth.shape[0] // SCALE), Image.BICUBIC))
    photo = damaged(photo, options.noise, options.jpeg, options.seed)
    device = torch.device("cpu")
    judge = named_judge("builtin", "judge")
    means = Means(open_method(options.method, device), None, detector("cpu"), judge, device)
    wishes = Wishes(SCALE, "all", 8.0, 90.0, 1.0)
    start = time.process_time()
    restored = restore_photo(photo, None, photo, False, means, wishes)
    spent = time.process_time() - start
    plain = interpolated(photo, SCALE)
    found: dict[int, int] = {}
    for place, told in enumerate(restored.faces):
        at = scaled(np.column_stack([np.eye(2), told.face.centre]), SCALE)[:, 2]
        centres = np.array([placement[:, :2] @ np.array(BOX_CENTRE) + placement[:, 2] for _, _, placement, _ in placed])
        distance = np.hypot(*(centres - at).T)
        nearest = int(distance.argmin())
        if distance[nearest] < 0.5 * placed[nearest][0] * SCALE:
            found[nearest] = place
    print(
        f"{photo.shape[1]}x{photo.shape[0]}, {len(placed)} faces: {len(found)} found, "
        f"{len(restored.faces) - len(found)} false; {spent:.1f} CPU s, "
        f"{peak_memory_mib() or 0:.0f} MiB"
    )
    for name, values, key in (("width", WIDTHS, 0), ("roll", ROLLS, 1), ("blur", options.blurs, 3)):
        for value in values:
            own = [n for n, face in enumerate(placed) if face[key] == value]
            if own:
                print(f"  {name} {value:>3}: {sum(n in found for n in own)} of {len(own)} found")
    reasons = sorted({told.reason for told in restored.faces if told.reason})
    for reason in reasons:
        print(f"  left: {reason}")
    print(f"  less certain: {sum(bool(told.less_certain) for told in restored.faces)}")
    rows = []
    for number, (width, roll, placement, _) in enumerate(placed):
        if number not in found or restored.faces[found[number]].reason:
            continue
        crops = [cut(picture, placement, CROP) for picture in (truth, plain, restored.pixels)]
        want, cubic, ours = (to_float(crop[None]) for crop in crops)
        e = [embed(judge, batch)[0] for batch in (want, cubic, ours)]
        rows.append(
            (
                width,
                roll,
                float(psnr_rgb(cubic, want)[0]),
                float(psnr_rgb(ours, want)[0]),
                float(e[0] @ e[1]),
                float(e[0] @ e[2]),
                restored.faces[found[number]].mirror_agreement,
            )
        )
    print("width  faces  PSNR cubic  restored    IS cubic  restored   (builtin)")
    for value in (*WIDTHS, None):
        own = np.array([row[2:6] for row in rows if value in (None, row[0])])
        if len(own):
            mean = own.mean(0)
            print(
                f"{value or 'all':>5}  {len(own):5}  {mean[0]:10.2f}  {mean[1]:8.2f}  {mean[2]:10.4f}  {mean[3]:8.4f}"
            )
    worst = min(rows, key=lambda row: row[3] - row[2])
    print(f"worst change in PSNR: {worst[3] - worst[2]:+.2f} dB (width {worst[0]:.0f}, roll {worst[1]:.0f})")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, picture in (("photo", photo), ("truth", truth), ("cubic", plain), ("restored", restored.pixels)):
            Image.fromarray(picture).save(options.out / f"{name}.png")


if __name__ == "__main__":
    main()
