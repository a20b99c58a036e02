"""Training and measuring the built-in judge, on synthetic faces and with a teacher of random weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from scipy import stats

from facesr.data.synthetic.face.render import render_faces
from facesr.embedders.builtin import BuiltinEmbedder, SmallRecogniser
from facesr.errors import DataError
from facesr.training.distill import distill
from facesr.training.distill import faces as distill_data
from facesr.training.distill.distill import same_different_auc, spearman
from facesr.training.distill.faces import (
    Faces,
    covered_copies,
    degraded_copies,
    is_held_out,
    read_faces,
    stranger_copies,
    varied_copies,
)
from facesr.training.distill.student import (
    Plan,
    Source,
    distillation_terms,
    folded,
    hint_error,
    moved,
    train_student,
)
from facesr.training.distill.teacher import HINTS, Lessons, Teacher, along, principal_axes

LANDMARKS = np.array([[34, 50], [62, 50], [48, 64], [38, 78], [58, 78]], np.float32)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return render_faces(24, seed=1, num_workers=0)[0]


@pytest.fixture
def folder(pictures: np.ndarray, tmp_path: Path) -> Path:
    """An index of four persons with three pictures each, one rolled copy, and three dev faces without a name."""
    (tmp_path / "train").mkdir()
    (tmp_path / "dev").mkdir()
    lines = ["file,identity,landmarks,rolled_copy_of"]
    for number in range(16):
        part, name = ("train", f"person {number % 4}") if number < 13 else ("dev", "")
        file = f"{part}/{number}.png"
        cv2.imwrite(str(tmp_path / file), pictures[number][..., ::-1])
        landmarks = " ".join(map(str, np.add(LANDMARKS, number % 3).ravel())) if number < 10 else ""
        lines.append(f"{file},{name},{landmarks},{'train/0.png' if number == 12 else ''}")
    (tmp_path / "index.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_held_out_persons_are_about_one_in_eight_and_never_nameless() -> None:
    share = np.mean([is_held_out(f"person {number}") for number in range(2000)])
    assert 0.1 < share < 0.15
    assert not is_held_out("")


def test_training_and_held_out_faces_share_no_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill_data, "is_held_out", lambda identity: identity == "person 2")
    kept, out = (read_faces(folder, "train", held_out=held_out) for held_out in (False, True))
    assert len(kept.identity) + len(out.identity) == 12, "the rolled copy belongs to neither"
    assert set(out.identity) == {"person 2"} and set(kept.identity) == {"person 0", "person 1", "person 3"}
    assert len(read_faces(folder, "dev", held_out=False).pictures) == 3


def test_landmarks_are_read_where_there_are_any(folder: Path) -> None:
    found = read_faces(folder, "train", held_out=False).landmarks
    assert np.array_equal(found[4], LANDMARKS + 1) and np.isnan(found[10:]).all() and np.isfinite(found[:10]).all()
    index = folder / "index.csv"
    index.write_text(index.read_text().replace("34.0 50.0", "34.0 x", 1))
    with pytest.raises(DataError, match=r"index\.csv: landmarks of train/0\.png are not five points x y"):
        read_faces(folder, "train", held_out=False)


def test_strangers_are_blended_inside_the_face_alone(pictures: np.ndarray) -> None:
    landmarks = np.repeat(LANDMARKS[None], 24, axis=0)
    landmarks[20:] = np.nan
    faces = Faces(pictures, [""] * 24, landmarks)
    copies = stranger_copies(faces, seed=1)
    assert np.array_equal(copies, stranger_copies(faces, seed=1))
    assert not np.array_equal(copies, stranger_copies(faces, seed=2))
    assert np.array_equal(copies[20:], pictures[20:]), "without landmarks"
    change = np.abs(copies[:20].astype(int) - pictures[:20]).mean(axis=(0, 3))
    assert change[55:75, 38:58].min() > 3 * max(change[:8].max(), change[:, :8].max(), change[:, -8:].max(), 1)
    # All landmarks alike: the other face comes as it is, by less than three quarters.
    reached = [np.abs(copies[0, 50:80, 40:56].astype(int) - other[50:80, 40:56]).mean() for other in pictures[:20]]
    assert min(reached[1:]) < 0.7 * np.median(reached[1:])


def test_covers_hide_eyes_or_reach_in_from_the_side() -> None:
    plain = np.full((300, 112, 96, 3), 128, np.uint8)
    landmarks = np.repeat(LANDMARKS[None], 300, axis=0)
    landmarks[290:] = np.nan
    copies = covered_copies(Faces(plain, [""] * 300, landmarks), seed=3)
    assert np.array_equal(copies, covered_copies(Faces(plain, [""] * 300, landmarks), seed=3))
    assert (plain == 128).all(), "the faces themselves stay"
    changed = (copies != plain).any(axis=3)
    assert not changed[290:].any(), "without landmarks"
    touched = changed.any(axis=(1, 2))[:290].mean()
    assert 0.45 < touched < 0.7
    # A cover's edge lies off the nose by half the way from eyes to mouth or more: nothing hides the whole face.
    assert not changed[:, 68:72, 46:50].any()
    both_eyes = changed[:290, 50, 34] & changed[:290, 50, 62]
    assert 0.25 < both_eyes.mean() < 0.45, "glasses on a third"
    shares = changed[:290].mean(axis=(1, 2))
    assert shares.max() < 0.5


def test_varied_copies_repeat_and_some_are_lit_from_one_side() -> None:
    plain = np.full((200, 112, 96, 3), 128, np.uint8)
    copies = varied_copies(plain, seed=2)
    assert np.array_equal(copies, varied_copies(plain, seed=2))
    spread = copies.astype(float).mean(axis=3).std(axis=(1, 2))
    assert 0.3 < (spread > 3.0).mean() < 0.5, "the others are even"


def test_damaged_picture_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dev" / "14.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"14\.png is no readable 96x112 picture"):
        read_faces(folder, "dev", held_out=False)
    arguments = ["measure", "--faces", str(folder / "nowhere"), "--weights", str(folder / "nothing.safetensors")]
    assert distill.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_degraded_copies_lose_detail_and_repeat(pictures: np.ndarray) -> None:
    copies = degraded_copies(pictures, seed=4)
    assert np.array_equal(copies, degraded_copies(pictures, seed=4))
    roughness = [np.abs(np.diff(batch.astype(np.float64), axis=2)).mean(axis=(1, 2, 3)) for batch in (pictures, copies)]
    assert (roughness[1] < roughness[0]).all()


def test_both_pictures_of_a_pair_move_alike(pictures: np.ndarray) -> None:
    pairs = np.stack([pictures, pictures], axis=1)
    flipped = np.arange(24) % 2 == 0
    result = moved(pairs, flipped, np.random.default_rng(0))
    assert np.array_equal(result[:, 0], result[:, 1])
    assert not np.array_equal(result, pairs)
    plain = moved(pairs, ~flipped, np.random.default_rng(0))
    assert np.array_equal(result[:, :, :, ::-1], plain), "the same shifts"


# What the teacher says


def test_principal_axes_keep_the_large_directions() -> None:
    random = torch.Generator().manual_seed(0)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=random))
    spread = torch.tensor([5.0, 3.0, 1.0, 0.01, 0.01, 0.01])
    features = torch.randn(4000, 6, generator=random) * spread @ turn.t() + 7.0
    mean, axes = principal_axes(features, 3)
    short = along(features.t().reshape(1, 6, 40, 100), mean, axes)
    assert short.shape == (1, 3, 40, 100)
    assert short.square().mean().item() == pytest.approx(1.0, abs=0.01)
    assert short.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    deviations = short.flatten(2).std(dim=2)[0]
    torch.testing.assert_close(deviations / deviations[0], spread[:3] / 5, rtol=0.05, atol=0)


@pytest.fixture
def teacher(pictures: np.ndarray, tmp_path: Path) -> Teacher:
    torch.manual_seed(1)
    torch.save(InceptionResnetV1(pretrained=None).state_dict(), tmp_path / "random.pt")
    return Teacher(tmp_path / "random.pt", pictures[:8])


def test_lessons_are_made_once_and_kept(
    teacher: Teacher, pictures: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = np.stack([pictures[:3], degraded_copies(pictures[:3], seed=0)], axis=1)
    lessons = teacher.teach(pairs, tmp_path, "pairs")
    with torch.no_grad():
        vectors = teacher.network(torch.from_numpy(pairs[:, 1]).permute(0, 3, 1, 2) / 255.0)
    np.testing.assert_allclose(lessons.vectors[:, 1], vectors.numpy(), atol=1e-3)
    assert [hint.shape for hint in lessons.hints] == [(3, 2, h.num_axes, h.height, h.width) for h in HINTS]
    assert all(0.3 < np.square(hint.astype(np.float32)).mean() < 3 for hint in lessons.hints)
    made = set(tmp_path.iterdir())
    teacher.network.network = torch.nn.Identity()  # asked again, it would fail
    again = teacher.teach(pairs, tmp_path, "pairs")
    assert all(np.array_equal(a, b) for a, b in zip(lessons.hints, again.hints, strict=True))
    assert set(tmp_path.iterdir()) == made and not any(path.name.startswith(".") for path in made)


def lessons_of(vectors: np.ndarray) -> Lessons:
    random = np.random.default_rng(1)
    shapes = [(len(vectors), 2, hint.num_axes, hint.height, hint.width) for hint in HINTS]
    return Lessons(vectors, [random.normal(size=shape).astype(np.float16) for shape in shapes])


def test_hints_count_for_upright_faces_alone() -> None:
    lessons = lessons_of(np.zeros((4, 2, 512), np.float32))
    said = [torch.from_numpy(hint).flatten(0, 1).float() for hint in lessons.hints]
    upright = torch.tensor([True, True, False, True])
    assert hint_error(said, lessons, upright) == 0
    assert hint_error([torch.zeros_like(part) for part in said], lessons, upright).item() == pytest.approx(1, abs=0.05)
    wrong = [part.clone() for part in said]
    for part in wrong:
        part[4:6] = 9.0  # both pictures of the third face
    assert hint_error(wrong, lessons, upright) == 0
    assert hint_error(wrong, lessons, ~upright) > 10
    assert hint_error(wrong, lessons, torch.zeros(4, dtype=torch.bool)) == 0


# What the student loses by


def test_loss_is_zero_for_the_teacher_itself_and_grows() -> None:
    random = torch.Generator().manual_seed(0)
    teacher = F.normalize(torch.randn(12, 512, generator=random), dim=1)
    noisy = F.normalize(teacher + 0.02 * torch.randn(12, 512, generator=random), dim=1)
    worse = F.normalize(teacher + 0.05 * torch.randn(12, 512, generator=random), dim=1)
    for name in distillation_terms(teacher, teacher):
        values = [distillation_terms(student, teacher)[name].item() for student in (teacher, noisy, worse)]
        assert abs(values[0]) < 1e-5 and values[0] < values[1] < values[2], name


def test_folding_keeps_the_function(pictures: np.ndarray) -> None:
    torch.manual_seed(0)
    network = SmallRecogniser(norm=True)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1.0
    with torch.no_grad():
        network.place.uniform_(0.5, 1.5)
        network(pixels)
        plain = folded(network)
        wanted = network.eval()(pixels)
        torch.testing.assert_close(plain(pixels), wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
    assert not any("running" in name for name in plain.state_dict())


@pytest.mark.slow
def test_training_brings_the_student_nearer_and_its_file_loads(
    pictures: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = np.stack([pictures, degraded_copies(pictures, seed=0)], axis=1)
    targets = np.random.default_rng(0).normal(size=(24, 2, 512)).astype(np.float32)
    targets[:, 1] = targets[:, 0]
    targets /= np.linalg.norm(targets, axis=2, keepdims=True)
    file = tmp_path / "student.safetensors"
    sources = [
        Source(pairs[part], lessons_of(targets[part]), np.ones(len(pairs[part])))
        for part in (slice(0, 20), slice(20, 24))
    ]
    train_student(sources, Plan(kimg=0.32, batch=8, learning_rate=2e-3, seed=0), file)
    with torch.no_grad():
        vectors = BuiltinEmbedder(file)(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255.0)
    cosine = vectors @ torch.from_numpy(targets[:, 0]).t()
    # Three seeds of weights and targets end 0.33 to 0.42 above.
    assert cosine.diagonal().mean() > cosine.mean() + 0.15
    assert "0.3 kimg, embedding" in capsys.readouterr().out


class SomePixels:
    """A judge that knows a picture by some of its pixels."""

    dim, weights_sha256, differentiable = 126, "", False

    def __init__(self, name: str, power: float) -> None:
        self.name, self.power = name, power

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        return F.normalize(batch[:, :, ::16, ::16].flatten(1) ** self.power - 0.3, dim=1)


def test_training_shows_photographs_their_copies_strangers_and_drawn_faces(
    folder: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taught: list[tuple[np.ndarray, str]] = []
    trained: list[tuple[object, ...]] = []
    made: list[tuple[object, ...]] = []

    class AnyTeacher:
        def __init__(self, weights: Path, faces: np.ndarray) -> None:
            made.append((weights, len(faces)))

        def teach(self, pairs: np.ndarray, kept: Path, label: str) -> str:
            taught.append((pairs, label))
            return label

    drawn = pictures[20:22]
    monkeypatch.setattr(distill, "Teacher", AnyTeacher)
    monkeypatch.setattr(distill, "train_student", lambda *arguments: trained.append(arguments))
    monkeypatch.setattr(distill, "render_faces", lambda *count, seed: made.append((*count, seed)) or (drawn,))
    monkeypatch.setattr(distill_data, "is_held_out", lambda identity: False)
    arguments = ["train", "--faces", str(folder), "--teacher-weights", "t.pt", "--out", "o", "--drawn", "2"]
    assert distill.main([*arguments, "--pose-shares", "--kimg", "5", "--batch", "7", "--seed", "9"]) == 0
    assert made == [(Path("t.pt"), 12), (2, 1)]
    faces = read_faces(folder, "train", held_out=False)
    strangers = Faces(stranger_copies(faces, 2), faces.identity, faces.landmarks)
    expected = {
        "photographs": (faces.pictures, 0),
        "varied copies 1": (varied_copies(covered_copies(faces, 1), 1), 1),
        "strangers 2": (varied_copies(covered_copies(strangers, 2), 2), 2),
        "synthetic faces": (drawn, 0),
    }
    assert [label for _, label in taught] == list(expected)
    for (pairs, _), (shown, seed) in zip(taught, expected.values(), strict=True):
        assert np.array_equal(pairs[:, 0], shown) and np.array_equal(pairs[:, 1], degraded_copies(shown, seed))
    ((sources, plan, out),) = trained
    assert (plan, out) == (Plan(kimg=5.0, batch=7, learning_rate=3e-3, seed=9), Path("o"))
    assert [source.lessons for source in sources] == list(expected)  # type: ignore[attr-defined]
    assert all((source.weights == 1).all() for source in sources)  # type: ignore[attr-defined]


def test_measuring_tells_both_judges_figures(
    folder: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    student, teacher = SomePixels("student", 1.0), SomePixels("teacher", 2.0)
    monkeypatch.setattr(distill, "BuiltinEmbedder", lambda weights: asked.append(weights) or student)
    monkeypatch.setattr(distill, "FaceNet", lambda name, weights: asked.append((name, weights)) or teacher)
    monkeypatch.setattr(distill_data, "is_held_out", lambda identity: identity in ("person 1", "person 2"))
    arguments = ["measure", "--faces", str(folder), "--weights", "w.safetensors", "--teacher-weights", "t.pt"]
    assert distill.main(arguments) == 0
    assert asked == [Path("w.safetensors"), ("vggface2", Path("t.pt"))]

    held_out = [number for number in range(12) if number % 4 in (1, 2)]
    expected = []
    for what, shown in (("as they are", pictures), ("bicubic x4", distill_data.bicubic_copies(pictures[:16]))):
        for judge in (student, teacher):
            vectors = judge(torch.from_numpy(shown[held_out]).permute(0, 3, 1, 2) / 255.0).numpy()
            same, different = [], []
            for i, first in enumerate(held_out):
                for j, second in enumerate(held_out[:i]):
                    (same if first % 4 == second % 4 else different).append(vectors[i] @ vectors[j])
            wins = np.mean([[(a > b) + 0.5 * (a == b) for b in different] for a in same])
            expected.append(f"{what}: AUC of {judge.name} {wins:.4f} (6 same, 9 different pairs)")
    dev = torch.from_numpy(pictures[13:16]).permute(0, 3, 1, 2) / 255.0
    poor = torch.from_numpy(distill_data.bicubic_copies(pictures[13:16])).permute(0, 3, 1, 2) / 255.0
    scores = [(judge(dev) * judge(poor)).sum(1).numpy() for judge in (student, teacher)]
    expected.append(
        f"dev: bicubic IS student {scores[0].mean():.4f}, teacher {scores[1].mean():.4f}; "
        f"Spearman {stats.spearmanr(*scores).statistic:.3f} over 3 faces"
    )
    assert capsys.readouterr().out.splitlines() == expected


def test_auc_and_spearman_by_hand() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.8, 0.6, 0, 0]
    assert same_different_auc(vectors, ["a", "a", "b", "c"]) == (1.0, 1, 5)
    assert same_different_auc(vectors, ["a", "b", "c", "c"]) == (0.4, 1, 5)
    line = np.arange(5, dtype=np.float32)
    assert spearman(line, line**3) == pytest.approx(1.0)
    assert spearman(line, -line) == pytest.approx(-1.0)
    assert spearman(line, np.array([1, 0, 2, 3, 4], np.float32)) == pytest.approx(0.9)
