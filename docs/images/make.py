"""Draws the pictures of restored faces beside this file.

    uv run docs/images/make.py

faces.png, in README.md: input, bicubic, restored and original, side by side. wild.png, in docs/restore.md: a face
behind faults of photographs, restored without a cleaner and with one.

The portrait is scikit-image's astronaut: Eileen Collins, photographed by NASA, public domain. The other face is
synthetic. Everything runs on the CPU and gives the same picture again.
"""

from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

import facesr
from facesr.data.synthetic.face.render import render_faces
from facesr.evaluation.studies.operators import Case, degradation_of
from facesr.image import to_float, to_uint8
from facesr.photos.crop import Framing, cut, place_box
from facesr.photos.detect import detector, main_face

METHOD, FOR_PHOTOGRAPHS = "pretrained:asc19_final", "pretrained:wild"
FAULTS = {
    "JPEG, quality 60": Case("jpeg", 60),
    "noise of 10 levels": Case("gaussian_noise", 10),
    "blur of 3 pixels": Case("gaussian_blur", 3),
    "nearest neighbour": Case("nearest"),
}
ZOOM, GAP, HEADER = 2, 8, 28


def portrait() -> np.ndarray:
    """Returns the astronaut's face in the competition's framing, (112, 96, 3) RGB."""
    picture = astronaut()
    face = main_face(detector("cpu").find([picture])[0], picture.shape[1], picture.shape[0])
    assert face is not None
    framing = Framing("detect")
    return cut(picture, place_box(face.box, framing), framing)


def main() -> None:
    """Writes faces.png beside this file."""
    synthetic, _ = render_faces(1, seed=11, pictures_per_identity=1, first=5, num_workers=0)
    high = np.stack([portrait(), synthetic[0]])
    low = facesr.degrade(high)
    columns = {
        "input 24x28": low.repeat(4, 1).repeat(4, 2),
        "bicubic": facesr.open_method("bicubic", device="cpu").restore(low),
        "facesr": facesr.open_method(METHOD, device="cpu").restore(low, self_ensemble=True),
        "original 96x112": high,
    }
    draw("faces.png", columns)
    scores = facesr.score(columns["facesr"], high, judges=[], device="cpu")["psnr_rgb"]
    print("PSNR of facesr:", *(f"{value:.2f} dB" for value in scores))
    draw_faults(high[:1])


def draw_faults(high: np.ndarray) -> None:
    """Writes wild.png for one face (1, 112, 96, 3): a row for each fault."""
    low = np.concatenate([to_uint8(degradation_of(case)(to_float(high), 1, 0)) for case in FAULTS.values()])
    columns = {"input 24x28": low.repeat(4, 1).repeat(4, 2)}
    for label, method in (("asc19_final", METHOD), ("wild", FOR_PHOTOGRAPHS)):
        columns[label] = facesr.open_method(method, device="cpu").restore(low, self_ensemble=True)
    draw("wild.png", columns | {"original 96x112": high.repeat(len(low), 0)})


def draw(name: str, columns: dict[str, np.ndarray]) -> None:
    """Writes a sheet: a column for each label, with its pictures (N, H, W, 3) below each other."""
    count, *sides = next(iter(columns.values())).shape[:3]
    height, width = (side * ZOOM for side in sides)
    sheet = np.full((HEADER + count * (height + GAP), len(columns) * (width + GAP) - GAP, 3), 255, np.uint8)
    for column, (label, pictures) in enumerate(columns.items()):
        left = column * (width + GAP)
        cv2.putText(sheet, label, (left + 2, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
        for row, picture in enumerate(pictures):
            top = HEADER + row * (height + GAP)
            sheet[top : top + height, left : left + width] = picture.repeat(ZOOM, 0).repeat(ZOOM, 1)
    bgr = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(Path(__file__).with_name(name)), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
