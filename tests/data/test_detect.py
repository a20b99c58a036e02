"""The detector in its role: which face is meant, and the framing it gives on real faces."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.data.prepare import prepare
from facesr.photos import crop
from facesr.photos.crop import Framing, Points
from facesr.photos.detect import Detector, Face, detector, main_face


@pytest.fixture(scope="module")
def net() -> Detector:
    return detector("cpu")


def face(left: float, top: float, size: float) -> Face:
    return Face(np.array([left, top, left + size, top + size]), np.zeros((5, 2)), 1.0)


def test_the_main_face_is_large_and_central() -> None:
    small, large = face(80, 80, 40), face(60, 60, 80)
    assert main_face([small, large], 200, 200) is large
    central, corner = face(80, 80, 40), face(0, 0, 50)
    assert main_face([corner, central], 200, 200) is central
    assert main_face([], 200, 200) is None


def test_pictures_without_a_face_have_none(net: Detector) -> None:
    grey = np.full((120, 160, 3), 128, np.uint8)
    assert net.find([grey, grey[:10, :10], grey[:, :100]]) == [[], [], []]
    assert net.find([]) == []


def real_faces(shared: Path, count: int) -> list[tuple[NDArray[np.uint8], Points]]:
    """Every so many-th upright development face, 96x112 in the competition's framing, and its landmarks."""
    with (shared / "faces" / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("dev/") and not row["rolled_copy_of"]]
    chosen = rows[:: len(rows) // count][:count]
    return [
        (
            np.asarray(cv2.imread(str(shared / "faces" / row["file"]), cv2.IMREAD_COLOR_RGB), np.uint8),
            np.array(row["landmarks"].split(), np.float64).reshape(5, 2),
        )
        for row in chosen
    ]


@pytest.mark.shared
def test_the_framing_is_recovered_on_a_larger_canvas(net: Detector, shared: Path) -> None:
    framing, rng = Framing("detect"), np.random.default_rng(0)
    canvases, corners, scales = [], [], rng.uniform(1.2, 2.2, 10)
    faces = real_faces(shared, 10)
    for (picture, _), scale in zip(faces, scales, strict=True):
        size = (round(96 * scale), round(112 * scale))
        left, top = int(rng.integers(40, 400 - size[0] - 40)), int(rng.integers(40, 360 - size[1] - 40))
        large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        edges = (top, 360 - top - size[1], left, 400 - left - size[0])
        canvases.append(np.asarray(cv2.copyMakeBorder(large, *edges, cv2.BORDER_REPLICATE), np.uint8))
        corners.append((left, top))
    off, sizes, landmarks_off = [], [], []
    for (_, points), corner, scale, found in zip(faces, corners, scales, net.find(canvases), strict=True):
        chosen = main_face(found, 400, 360)
        assert chosen is not None
        placement = crop.place_box(chosen.box, framing)
        middle = placement @ np.array([47.5, 55.5, 1.0])
        off.append((middle - (np.array([47.5, 55.5]) * scale + corner)) / scale)
        sizes.append(placement[0, 0] / scale)
        landmarks_off.append(np.abs(crop.to_crop(chosen.landmarks, placement) - points).mean())
    assert np.abs(np.median(off, axis=0)).max() < 1.5  # pixels of the crop
    assert np.abs(off).max() < 10
    assert np.median(sizes) == pytest.approx(1.0, abs=0.05)
    assert np.median(landmarks_off) < 2.5


@pytest.mark.shared
def test_ffhqs_crop_has_the_competitions_box(net: Detector, shared: Path) -> None:
    # Real faces, aligned by FFHQ's formula (source: NVlabs/ffhq-dataset, download_ffhq.py), then cut by our framing.
    crops = []
    for picture, points in real_faces(shared, 16):
        eyes, mouth = points[:2].mean(0), points[3:].mean(0)
        across, down = points[1] - points[0], mouth - eyes
        axis = across + np.array([down[1], -down[0]])
        axis *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*axis)
        other = np.array([-axis[1], axis[0]])
        linear = np.column_stack([axis, other]) / 128  # 256 pixels across the square of twice `axis`
        start = eyes + 0.1 * down - axis - other
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        matrix = np.column_stack([linear, start])
        aligned = cv2.warpAffine(picture, matrix, (256, 256), flags=flags, borderMode=cv2.BORDER_REFLECT)
        framing = Framing("ffhq")
        crops.append(crop.cut(np.asarray(aligned, np.uint8), crop.place_ffhq(256, 256, framing), framing))
    boxes = np.array([chosen.box for faces in net.find(crops) if (chosen := main_face(faces, 96, 112))])
    assert len(boxes) >= 15
    size, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    assert np.sqrt(np.median(size.prod(1))) == pytest.approx(np.sqrt(66 * 82), abs=3)
    assert np.median(centre, axis=0) == pytest.approx(crop.BOX_CENTRE, abs=3)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["detect", "template"])
def test_a_folder_of_photographs_is_cut_by_its_faces(tmp_path: Path, shared: Path, name: str) -> None:
    (tmp_path / "photos").mkdir()
    for number, (picture, _) in enumerate(real_faces(shared, 3)):
        large = cv2.resize(picture, (144, 168), interpolation=cv2.INTER_CUBIC)
        photo = cv2.copyMakeBorder(large, 60, 40, 70, 90, cv2.BORDER_REPLICATE)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(tmp_path / "photos" / "wall.png"), np.full((200, 200, 3), 90, np.uint8))
    out = tmp_path / "out"
    assert prepare.main([str(tmp_path / "photos"), str(out), "--crop", name, "--margin", "4"]) == 0
    with (out / "index.csv").open(newline="", encoding="utf-8") as file:
        points = np.array([row["landmarks"].split() for row in csv.DictReader(file)], np.float64).reshape(-1, 5, 2)
    if name == "template":
        assert np.abs(points - crop.TEMPLATE).mean() < 3
    else:
        assert np.abs(points.mean((0, 1)) - (48, 61)).max() < 4
    assert np.load(out / "images.npy").shape == (3, 120, 104, 3)
    assert "wall.png,no face: " in (out / "rejected.csv").read_text()


@pytest.mark.gpu
@pytest.mark.shared
def test_a_gpu_finds_the_same_faces(net: Detector, shared: Path) -> None:
    pictures = [picture for picture, _ in real_faces(shared, 4)]
    for own, other in zip(net.find(pictures), Detector("cuda").find(pictures), strict=True):
        assert len(own) == len(other) >= 1
        assert own[0].box == pytest.approx(other[0].box, abs=0.5)
