"""The synthetic faces: pure functions of seed and index, recognisable persons, exact landmarks, a safe cache."""

import csv
import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.data.synthetic.face import render as builtin
from facesr.data.synthetic.face.geometry import Pose, shape_of
from facesr.data.synthetic.face.identity import Identity, Picture, draw_identity, draw_picture
from facesr.data.synthetic.face.render import draw, render_face, render_faces, synthetic_cache
from facesr.errors import DataError

SEED = 5


def plainly(picture: Picture) -> Picture:
    """The same expression looking ahead in plain, frontal light."""
    return replace(
        picture,
        roll=0.0,
        yaw=0.0,
        pitch=0.0,
        scale=1.0,
        shift_x=0.0,
        shift_y=0.0,
        gaze_x=0.0,
        gaze_y=0.0,
        blink=0.0,
        light=(0.0, -0.2, 1.0),
        ambient=0.6,
        exposure=1.0,
        contrast=1.0,
        cast=(1.0, 1.0, 1.0),
        grey=False,
        hat="none",
        sunglasses=False,
        softness=0.0,
        noise=0.0,
    )


def painted(num: int, **colours: tuple[float, float, float]) -> list[tuple[Identity, Picture]]:
    """The first persons with nothing before eyes and mouth, some part of them in a colour that no face has."""
    found = []
    for number in range(200):
        person, picture = draw_identity(SEED, number), plainly(draw_picture(SEED, number, 0))
        if person.glasses == "none" and person.eye_height > 5.0 and person.beard_style == "none":
            found.append((replace(person, makeup=0.0, **colours), replace(picture, mouth_open=0.0)))
    return found[:num]


POSES = [(0.0, 0.0), (20.0, 0.0), (-15.0, 18.0), (10.0, -18.0)]


def test_face_is_eight_bit_rgb_of_the_asked_size() -> None:
    face = render_face(3, 1)
    assert face.shape == (112, 96, 3)
    assert face.dtype == np.uint8
    large = render_face(3, 1, height=224, width=192)
    assert large.shape == (224, 192, 3)
    small = cv2.resize(large, (96, 112), interpolation=cv2.INTER_AREA)
    inner = (slice(30, 90), slice(25, 70))  # the face; noise and background differ with the size
    assert np.abs(small[inner].astype(int) - face[inner].astype(int)).mean() < 12


def test_face_depends_on_nothing_but_its_arguments() -> None:
    first = render_face(7, 2, SEED)
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    render_face(8, 0, SEED + 1)
    assert np.array_equal(first, render_face(7, 2, SEED))
    for other in ((7, 2, SEED + 1), (7, 3, SEED), (8, 2, SEED)):
        assert not np.array_equal(first, render_face(*other))


def test_slices_of_a_set_agree_with_the_whole() -> None:
    images, identity = render_faces(12, SEED, pictures_per_identity=3)
    later, later_identity = render_faces(5, SEED, pictures_per_identity=3, first=4)
    assert np.array_equal(later, images[4:9])
    assert identity.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert identity.dtype == np.int64
    assert np.array_equal(later_identity, identity[4:9])
    assert np.array_equal(images[7], render_face(2, 1, SEED))


@pytest.mark.slow
def test_worker_processes_draw_the_same_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_CHUNK", 4)
    here, _ = render_faces(10, SEED, first=3, num_workers=0)
    there, _ = render_faces(10, SEED, first=3, num_workers=2)
    assert np.array_equal(here, there)


def test_empty_set_has_the_right_shape() -> None:
    images, identity = render_faces(0, SEED)
    assert images.shape == (0, 112, 96, 3)
    assert identity.shape == (0,)


@pytest.mark.parametrize(("num", "pictures", "first"), [(-1, 4, 0), (1, 0, 0), (1, 4, -1)])
def test_senseless_counts_are_refused(num: int, pictures: int, first: int) -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        render_faces(num, SEED, pictures, first)


def test_a_person_stays_the_same_and_persons_differ_in_every_parameter() -> None:
    people = [draw_identity(SEED, number) for number in range(60)]
    assert draw_identity(SEED, 11) == people[11]
    for field in fields(Identity):
        assert len({getattr(person, field.name) for person in people}) > 1, field.name
    pictures = [draw_picture(SEED, 11, number) for number in range(300)]
    for field in fields(Picture):
        assert len({getattr(picture, field.name) for picture in pictures}) > 1, field.name


def test_a_person_is_recognised_in_another_picture() -> None:
    people = range(14)
    sets: list[list[NDArray[np.float64]]] = [[], []]
    for number in people:
        for which, faces in enumerate(sets):
            picture = plainly(draw_picture(SEED, number, which))
            face = draw(draw_identity(SEED, number), picture)[0]
            faces.append(face[12:92, 20:76].astype(np.float64))  # the head without clothes and background
    distance = np.array([[np.abs(a - b).mean() for b in sets[1]] for a in sets[0]])
    own = np.diag(distance)
    others = distance[~np.eye(len(own), dtype=bool)]
    assert np.mean(distance.argmin(1) == np.arange(len(own))) >= 0.9
    assert own.mean() < 0.5 * others.mean()


@pytest.mark.parametrize(("roll", "yaw"), POSES)
def test_eye_landmarks_lie_on_the_irises(roll: float, yaw: float) -> None:
    for person, picture in painted(8, iris=(0.0, 250.0, 0.0)):
        face, landmarks = draw(person, replace(picture, roll=roll, yaw=yaw))
        red, green, blue = np.moveaxis(face.astype(np.float64), 2, 0)
        excess = np.maximum(green - np.maximum(red, blue) - 25.0, 0.0)
        for x, y in landmarks[:2]:
            left, top = round(float(x)) - 6, round(float(y)) - 6
            window = excess[top : top + 13, left : left + 13]
            rows, columns = np.mgrid[top : top + 13, left : left + 13]
            assert np.hypot((columns * window).sum() / window.sum() - x, (rows * window).sum() / window.sum() - y) < 1.2


@pytest.mark.parametrize(("roll", "yaw"), POSES)
def test_mouth_landmarks_lie_where_the_lips_end(roll: float, yaw: float) -> None:
    for person, picture in painted(8, lip=(0.0, 0.0, 250.0)):
        face, landmarks = draw(person, replace(picture, roll=roll, yaw=yaw))
        red, green, blue = np.moveaxis(face.astype(np.float64), 2, 0)
        lips = np.argwhere(blue - np.maximum(red, green) > 12.0)[:, ::-1]
        left, right = landmarks[3:]
        lips = lips[np.hypot(*(lips - 0.5 * (left + right)).T) < 20.0]  # clothes may be blue
        for corner in (left, right):
            assert np.hypot(*(lips - corner).T).min() < 1.8
        along = (lips - left) @ (right - left) / np.hypot(*(right - left))
        assert along.min() > -1.8
        assert along.max() < np.hypot(*(right - left)) + 1.8


def test_landmarks_are_those_of_an_upright_face() -> None:
    for number in range(10):
        person = draw_identity(SEED, number)
        _, landmarks = draw(person, plainly(draw_picture(SEED, number, 0)))
        left, right, nose, left_corner, right_corner = landmarks
        assert right[0] - left[0] == pytest.approx(person.eye_spacing, abs=0.01)
        assert left[1] == pytest.approx(right[1], abs=0.01)
        assert left_corner[0] < nose[0] < right_corner[0]
        assert left[1] < nose[1] < left_corner[1]


def test_framing_follows_the_competition() -> None:
    found = []
    for number in range(500):
        person, picture = draw_identity(SEED, number), draw_picture(SEED, number, 0)
        shape = shape_of(person, picture)
        found.append(Pose(picture, shape.nose_v, 96, 112).landmarks(shape.landmarks()))
    points = np.array(found)
    across = points[:, 1] - points[:, 0]
    distance = np.hypot(across[:, 0], across[:, 1])
    roll = np.degrees(np.arctan2(across[:, 1], across[:, 0]))
    assert 28 < np.median(distance) < 31
    assert -28 < np.percentile(roll, 5) < -14
    assert 14 < np.percentile(roll, 95) < 30
    assert np.allclose(points[:, :2].mean((0, 1)), (48.2, 46.8), atol=1.5)
    assert points.min() > 0
    assert points[..., 0].max() < 96


def test_greyscale_share_is_the_benchmarks() -> None:
    pictures = [draw_picture(SEED, number, 0) for number in range(2000)]
    assert 0.07 < np.mean([picture.grey for picture in pictures]) < 0.11
    grey = next(number for number, picture in enumerate(pictures) if picture.grey)
    face = render_face(grey, 0, SEED)
    assert np.array_equal(face[..., 0], face[..., 1])
    assert np.array_equal(face[..., 0], face[..., 2])
    colour = next(number for number, picture in enumerate(pictures) if not picture.grey)
    assert not np.array_equal(*np.moveaxis(render_face(colour, 0, SEED), 2, 0)[:2])


def test_faces_hold_detail_that_downscaling_loses() -> None:
    images, _ = render_faces(8, SEED, pictures_per_identity=1)
    losses = []
    for face in images:
        low = cv2.resize(face, (24, 28), interpolation=cv2.INTER_AREA)
        again = cv2.resize(low, (96, 112), interpolation=cv2.INTER_CUBIC)
        losses.append(np.mean((again.astype(float) - face) ** 2))
    psnr = 10 * np.log10(255**2 / np.array(losses))
    assert psnr.mean() < 29


def test_cache_is_a_prepared_set_and_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthetic_cache(6, SEED, 3, 2, tmp_path / "deep" / "cache")
    images = np.load(folder / "images.npy", mmap_mode="r")
    expected, identity = render_faces(6, SEED, 3, 2)
    assert np.array_equal(images, expected)
    facts = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    assert (facts["format"], facts["width"], facts["height"], facts["count"], facts["margin"]) == (1, 96, 112, 6, 0)
    assert facts["settings"] == {"source": "builtin", "seed": SEED, "pictures_per_identity": 3, "first": 2}
    assert facts["version"] == builtin.RENDERER_VERSION
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["position", "source", "sha256", "identity", "landmarks"]
    assert [int(row["position"]) for row in rows] == list(range(6))
    assert [int(row["identity"]) for row in rows] == identity.tolist()
    assert len({row["source"] for row in rows}) == 6
    assert [row["sha256"] for row in rows] == [hashlib.sha256(face.tobytes()).hexdigest() for face in expected]
    landmarks = np.array([[float(value) for value in row["landmarks"].split(" ")] for row in rows])
    exact = draw(draw_identity(SEED, 0), draw_picture(SEED, 0, 2))[1]
    assert np.allclose(landmarks[0], exact.ravel(), atol=0.006)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]

    monkeypatch.setattr(builtin, "_render", None)  # a second call must not render
    assert synthetic_cache(6, SEED, 3, 2, tmp_path / "deep" / "cache") == folder


def test_other_sets_and_other_renderers_have_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [(1, 0, 1, 0), (2, 0, 1, 0), (1, 1, 1, 0), (1, 0, 2, 0), (1, 0, 1, 1)]
    folders = {synthetic_cache(*arguments, tmp_path) for arguments in asked}
    monkeypatch.setattr(builtin, "RENDERER_VERSION", builtin.RENDERER_VERSION + 1)
    folders.add(synthetic_cache(1, 0, 1, 0, tmp_path))
    assert len(folders) == 6


def test_half_written_cache_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("facesr.data.packed.dataset_format.json.dumps", fail)
        with pytest.raises(KeyboardInterrupt):
            synthetic_cache(2, SEED, 1, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []
    folder = synthetic_cache(2, SEED, 1, 0, tmp_path)
    (folder / "set.json").unlink()
    (folder / "images.npy").write_bytes(b"half")
    assert synthetic_cache(2, SEED, 1, 0, tmp_path) == folder
    assert np.load(folder / "images.npy").shape == (2, 112, 96, 3)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_loser_of_a_race_uses_the_winners_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = builtin._write_set

    def write_after_another(folder: Path, *arguments: int) -> None:
        monkeypatch.setattr(builtin, "_write_set", write)
        synthetic_cache(2, SEED, 1, 0, tmp_path)
        write(folder, *arguments)

    monkeypatch.setattr(builtin, "_write_set", write_after_another)
    folder = synthetic_cache(2, SEED, 1, 0, tmp_path)
    assert np.load(folder / "images.npy").shape == (2, 112, 96, 3)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="FACESR_CACHE"):
        synthetic_cache(1, SEED, 1, 0, tmp_path / "file")


def test_contact_sheet_has_a_column_a_person(tmp_path: Path) -> None:
    builtin.main([str(tmp_path / "sheet.png"), "--people", "3", "--pictures", "2", "--seed", str(SEED)])
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (2 * 112, 3 * 96, 3)
    assert np.array_equal(sheet[112:, 192:, ::-1], render_face(2, 1, SEED))
