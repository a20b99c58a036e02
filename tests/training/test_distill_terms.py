"""What the built-in judge's student loses by, is shown and reads, and what its teacher sees, worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facesr.embedders.builtin import SmallRecogniser
from facesr.image import to_float
from facesr.png import write_png
from facesr.training.distill import distill
from facesr.training.distill import faces as distill_faces
from facesr.training.distill import student as distill_student
from facesr.training.distill import teacher as distill_teacher
from facesr.training.distill.faces import batches, is_held_out, read_faces
from facesr.training.distill.student import (
    Source,
    Student,
    _falling,
    _picked,
    _report,
    distillation_terms,
    hint_error,
    moved,
    relit,
)
from facesr.training.distill.teacher import HINTS, Lessons, Teacher, along, principal_axes

# What the student loses by


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_the_terms_by_hand(strength: float) -> None:
    # Two faces, two pictures each, in the plane: at 0, 90, 0 and 60 degrees; the teacher's at 0, 0, 90 and 90.
    def at(*degrees: float) -> Tensor:
        turned = torch.tensor(degrees).deg2rad()
        return torch.stack([turned.cos(), turned.sin()], 1)

    terms = distillation_terms(at(0, 90, 0, 60), at(0, 0, 90, 90), strength)
    # Cosines to the teacher: 1, 0, 0 and sin 60.
    s = math.sqrt(3) / 2
    embedding = 1.0 - (1.0 + s) / 4
    # Cosines between pictures, twice each: 0 (1), 1 (0), 1/2 (0), 0 (0), s (0), 1/2 (1); those with itself agree.
    relations = 2 * (1.0 + 1.0 + 0.25 + 0.0 + s * s + 0.25) / 16
    similarity = (1.0 + 0.25) / 2
    expected = {"embedding": embedding, "relations": 4 * strength * relations, "similarity": 30 * strength * similarity}
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, abs=1e-6)
    if strength == 1.0:
        assert all(torch.equal(terms[n], v) for n, v in distillation_terms(at(0, 90, 0, 60), at(0, 0, 90, 90)).items())


def test_hints_are_a_mean_over_layers_of_means_over_upright_faces() -> None:
    shapes = [(2, 2, 3, 1, 1), (2, 2, 1, 2, 2)]
    lessons = Lessons(np.zeros((2, 2, 512), np.float32), [np.ones(shape, np.float16) for shape in shapes])
    said = [torch.full((4, 3, 1, 1), 3.0), torch.full((4, 1, 2, 2), 2.0)]
    said[0][:2] = 50.0  # the first face, which is not upright
    assert hint_error(said, lessons, torch.tensor([False, True])).item() == (4.0 + 1.0) / 2
    nothing = hint_error(said, lessons, torch.tensor([False, False]))
    assert nothing.item() == 0.0 and nothing.shape == ()


def test_the_cosine_falls_from_one_to_nothing() -> None:
    assert [_falling(share) for share in (0.0, 1 / 3, 0.5, 1.0)] == pytest.approx([1.0, 0.75, 0.5, 0.0])


# What the student is shown


def test_pairs_are_moved_up_to_three_pixels_with_the_edge_repeated() -> None:
    pairs = np.random.default_rng(0).integers(0, 256, (3, 2, 112, 96, 3), dtype=np.uint8)
    asked: list[Any] = []

    def integers(end: int, size: tuple[int, int]) -> np.ndarray:
        asked.append((end, size))
        return np.array([[3, 3], [0, 6], [5, 1]])

    flipped = np.array([False, False, True])
    found = moved(pairs, flipped, SimpleNamespace(integers=integers))  # type: ignore[arg-type]
    assert asked == [(7, (3, 2))] and found.dtype == np.uint8
    assert np.array_equal(found[0], pairs[0])
    # Three rows from above the picture, three columns from beyond its right.
    down, right = np.clip(np.arange(112) - 3, 0, 111), np.clip(np.arange(96) + 3, 0, 95)
    assert np.array_equal(found[1], pairs[1][:, down][:, :, right])
    down, right = np.clip(np.arange(112) + 2, 0, 111), np.clip(np.arange(96) - 2, 0, 95)
    assert np.array_equal(found[2], pairs[2][:, down][:, :, right][:, :, ::-1])


def test_pairs_are_relit_by_one_gain_and_one_offset() -> None:
    asked: list[Any] = []

    def uniform(low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
        asked.append((low, high, size))
        return np.array([1.1, 0.9] if low > 0 else [0.05, -0.02]).reshape(size)

    batch = torch.tensor([[0.0, 0.5], [1.0, 0.01]]).reshape(2, 2, 1, 1, 1).expand(2, 2, 3, 4, 5)
    found = relit(batch, SimpleNamespace(uniform=uniform))  # type: ignore[arg-type]
    assert asked == [(0.85, 1.15, (2, 1, 1, 1, 1)), (-0.08, 0.08, (2, 1, 1, 1, 1))]
    expected = torch.tensor([[0.05, 0.6], [0.88, 0.0]]).reshape(2, 2, 1, 1, 1).expand(2, 2, 3, 4, 5)
    torch.testing.assert_close(found, expected)
    asked.clear()
    assert relit(10.0 * batch, SimpleNamespace(uniform=uniform)).max() == 1.0  # type: ignore[arg-type]


def test_pairs_are_picked_across_sources_with_what_is_said_of_them() -> None:
    def source(first: int, count: int) -> Source:
        numbers = np.arange(first, first + count)
        hints: Any = [numbers[:, None] * 10, numbers[:, None] * 100]
        return Source(numbers.astype(np.uint8), Lessons(numbers[:, None].astype(np.float32), hints), np.ones(count))

    sources = [source(0, 3), source(3, 2), source(5, 4)]
    pairs, lessons = _picked(sources, np.array([3, 5, 9]), np.array([0, 2, 3, 5, 8]))
    assert pairs.tolist() == [0, 2, 3, 5, 8] and lessons.vectors[:, 0].tolist() == [0, 2, 3, 5, 8]
    assert [hint[:, 0].tolist() for hint in lessons.hints] == [[0, 20, 30, 50, 80], [0, 200, 300, 500, 800]]


def test_a_report_of_the_student_tells_speed_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    _report(2400, 12.0, {"embedding": torch.tensor(0.25), "hints": torch.tensor(1.5)}, 30.0)
    assert capsys.readouterr().out == "2.4 kimg, embedding 0.250, hints 1.500, 80 faces/s, 120 s left\n"


def test_pictures_come_in_parts_of_sixty_four() -> None:
    parts = batches(np.arange(130, dtype=np.uint8))
    assert [len(part) for part in parts] == [64, 64, 2] and np.concatenate(parts).tolist() == list(range(130))


def test_the_student_reads_the_hints_from_its_stages() -> None:
    torch.manual_seed(0)
    student = Student().eval()
    pixels = torch.randn(2, 3, 112, 96)
    with torch.no_grad():
        vectors, said = student(pixels)
        stages = student.network.stages(pixels)
        torch.testing.assert_close(vectors, student.network.embedding(stages[-1]))
        assert isinstance(student.network.centre, nn.BatchNorm1d), "normalised in training"
        for hint, stage, reader, found in zip(HINTS, stages, student.readers, said, strict=True):
            assert found.shape == (2, hint.num_axes, hint.height, hint.width)
            torch.testing.assert_close(found, F.adaptive_avg_pool2d(reader(stage), (hint.height, hint.width)))
    assert [tuple(reader.weight.shape) for reader in student.readers] == [  # type: ignore[union-attr, arg-type]
        (48, 128, 1, 1), (128, 256, 1, 1), (192, 512, 1, 1),
    ]  # fmt: skip
    assert SmallRecogniser.stage_channels == (128, 256, 512)


def test_weights_are_written_in_eight_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written: list[Any] = []
    monkeypatch.setattr(distill_student, "to_eight_bits", lambda state: {"short": len(state)})
    monkeypatch.setattr(distill_student, "save_file", lambda *given: written.append(given))
    distill_student.write_weights(nn.Linear(1, 1), tmp_path / "out")  # type: ignore[arg-type]
    assert written == [({"short": 2}, tmp_path / "out")]


# What the teacher sees


def test_principal_axes_by_hand() -> None:
    # Along x variance 8, along z 2, along y none; around (1, 2, 3).
    features = torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, -2.0]])
    mean, axes = principal_axes(features + torch.tensor([1.0, 2.0, 3.0]), 2)
    assert mean.tolist() == [1.0, 2.0, 3.0] and axes.is_contiguous()
    # Both axes are scaled by the root of the mean variance, 5.
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]) / math.sqrt(5.0)
    torch.testing.assert_close(axes.abs(), expected)
    short = along(torch.tensor([[[[5.0]], [[2.0]], [[1.0]]]]), mean, axes.abs())
    torch.testing.assert_close(short, torch.tensor([4.0, -2.0]).reshape(1, 2, 1, 1) / math.sqrt(5.0))
    _, axes = principal_axes(torch.ones(3, 2), 1)
    assert axes.isfinite().all(), "features that never change"


class AnyFaceNet:
    """A recogniser whose layers pass a picture's channels on, each in another size."""

    made: "list[Any]" = []  # noqa: RUF012

    def __init__(self, name: str, weights: Path | None, precision: str) -> None:
        AnyFaceNet.made.append((name, weights, precision))
        self.network = nn.Module()
        for number, hint in enumerate(HINTS):
            self.network.add_module(hint.layer, nn.Upsample(size=(20 - number, 16 - number), mode="bilinear"))

    def __call__(self, batch: Tensor) -> Tensor:
        assert torch.is_grad_enabled()
        wide = torch.cat([batch * (number + 1) for number in range(8)], 1)
        for hint in HINTS:
            self.network.get_submodule(hint.layer)(wide)
        return batch.mean((1, 2, 3))[:, None]


@pytest.mark.parametrize(("fast", "taken"), [(True, "bf16"), (False, "fp32")])
def test_a_teacher_listens_to_its_layers(monkeypatch: pytest.MonkeyPatch, fast: bool, taken: str) -> None:
    asked: list[torch.device] = []
    seen: list[tuple[tuple[int, ...], int]] = []

    def axes_of(features: Tensor, num_axes: int) -> tuple[Tensor, Tensor]:
        seen.append((tuple(features.shape), num_axes))
        return features.mean(0), features[:num_axes].t()

    monkeypatch.setattr(AnyFaceNet, "made", [])
    monkeypatch.setattr(distill_teacher, "FaceNet", AnyFaceNet)
    monkeypatch.setattr(distill_teacher, "has_bf16", lambda device: asked.append(device) or fast)
    monkeypatch.setattr(distill_teacher, "principal_axes", axes_of)
    monkeypatch.setattr(distill_teacher, "bicubic_copies", lambda pictures: 255 - pictures)
    monkeypatch.setattr(distill_teacher, "_AXES_FROM", 4)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 112, 96, 3), dtype=np.uint8)
    teacher = Teacher(Path("weights"), pictures, seed=3)
    assert AnyFaceNet.made == [("vggface2", Path("weights"), taken)]
    assert asked == [torch.device("cpu")]
    # Four pictures and their four copies, 24 channels at every place.
    assert seen == [((8 * hint.height * hint.width, 24), hint.num_axes) for hint in HINTS]
    some = pictures[np.random.default_rng(3).permutation(6)[:4]]
    shown = to_float(np.concatenate([some, 255 - some]))
    vectors, maps = teacher._see(np.concatenate([some, 255 - some]))
    torch.testing.assert_close(vectors[:, 0], shown.mean((1, 2, 3)))
    for number, (hint, found, (mean, _)) in enumerate(zip(HINTS, maps, teacher._axes, strict=True)):
        wide = F.interpolate(shown, size=(20 - number, 16 - number), mode="bilinear")
        size = (hint.height, hint.width)
        expected = F.interpolate(wide, size=size, mode="bilinear", antialias=True)
        torch.testing.assert_close(found[:, :3], expected)
        torch.testing.assert_close(found[:, 21:], 8 * expected)
        torch.testing.assert_close(mean, found.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)


# Faces and the command


def test_one_digest_in_eight_is_held_out() -> None:
    # sha256: "b" begins with 0x3e, "d" with 0x18, which is 24.
    assert not is_held_out("b") and is_held_out("d")


def test_an_index_may_begin_with_a_mark_and_lack_landmarks(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_bytes("\ufefffile,identity,rolled_copy_of\ndev/1.png,,\n".encode())
    (tmp_path / "dev").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (112, 96, 3), dtype=np.uint8)
    write_png(tmp_path / "dev" / "1.png", picture)
    faces = read_faces(tmp_path, "dev", held_out=False)
    assert np.array_equal(faces.pictures, picture[None]) and faces.identity == [""]
    assert faces.landmarks.shape == (1, 5, 2) and np.isnan(faces.landmarks).all()
    assert faces.with_landmarks().tolist() == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "--faces", "f", "--out", "o"],
            {
                "command": "train", "faces": Path("f"), "out": Path("o"), "teacher_weights": None, "varied": 1,
                "strangers": 1, "drawn": 600, "pose_shares": (0.5, 0.22, 0.18, 0.1), "kimg": 260.0, "batch": 48,
                "learning_rate": 3e-3, "seed": 0,
            },
        ),
        (
            ["train", "--faces", "f", "--out", "o", "--teacher-weights", "t", "--varied", "0", "--strangers", "2",
             "--drawn", "0", "--pose-shares", "0.75", "0.25", "--kimg", "0.5", "--batch", "3", "--learning-rate", "0.5",
             "--seed", "7"],
            {
                "command": "train", "faces": Path("f"), "out": Path("o"), "teacher_weights": Path("t"), "varied": 0,
                "strangers": 2, "drawn": 0, "pose_shares": [0.75, 0.25], "kimg": 0.5, "batch": 3, "learning_rate": 0.5,
                "seed": 7,
            },
        ),
        (
            ["measure", "--faces", "f"],
            {"command": "measure", "faces": Path("f"), "weights": None, "benchmark": None, "teacher_weights": None},
        ),
        (
            ["measure", "--faces", "f", "--weights", "w", "--benchmark", "b", "--teacher-weights", "t"],
            {
                "command": "measure", "faces": Path("f"), "weights": Path("w"), "benchmark": Path("b"),
                "teacher_weights": Path("t"),
            },
        ),
    ],
)  # fmt: skip
def test_the_commands_arguments(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: dict[str, Any]
) -> None:
    asked: list[Any] = []
    for name in ("run_training", "run_measurement"):
        monkeypatch.setattr(distill, name, lambda chosen, name=name: asked.append((name, vars(chosen))))
    assert distill.main(arguments) == 0
    assert asked == [("run_training" if arguments[0] == "train" else "run_measurement", expected)]


@pytest.mark.parametrize(
    "arguments",
    ["", "train --faces f", "train --out o", "measure", "train --faces f --out o --batch 0"],
)
def test_what_is_missing_or_out_of_range_ends_the_command(arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        distill.main(arguments.split())
    assert caught.value.code == 2


def test_poses_decide_how_often_a_photograph_comes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pictures = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(112, 1).repeat(96, 2).repeat(3, 3)
    faces = distill_faces.Faces(pictures, ["a", "b", "c"], np.ones((3, 5, 2), np.float32))
    asked: list[Any] = []
    trained: list[Any] = []
    often = np.array([0.5, 1.0, 1.5])
    teacher = SimpleNamespace(teach=lambda pairs, folder, label: asked.append((len(pairs), folder, label)) or label)
    for name, value in {
        "read_faces": lambda folder, part, held_out: asked.append((folder, part, held_out)) or faces,
        "pose_weights": lambda *given: asked.append(given) or often,
        "Teacher": lambda weights, shown: teacher, "cache_dir": lambda: tmp_path,
        "train_student": lambda *given: trained.append(given),
        "degraded_copies": lambda shown, seed: shown, "varied_copies": lambda shown, seed: shown,
        "covered_copies": lambda persons, seed: persons.pictures + 10 * seed,
        "stranger_copies": lambda persons, seed: persons.pictures + 100,
    }.items():  # fmt: skip
        monkeypatch.setattr(distill, name, value)
    arguments = ["train", "--faces", "f", "--out", "o", "--drawn", "0", "--pose-shares", "0.5", "--varied", "2"]
    assert distill.main(arguments) == 0
    labels = ["photographs", "varied copies 1", "varied copies 2", "strangers 3"]
    assert asked == [
        (Path("f"), "train", False), (faces.landmarks, [0.5], "--pose-shares"),
        *((3, tmp_path / "distill", label) for label in labels),
    ]  # fmt: skip
    ((sources, _, _),) = trained
    assert [int(source.pairs[0, 0, 0, 0, 0]) for source in sources] == [0, 10, 20, 130]
    assert all(source.weights is often for source in sources) and [source.lessons for source in sources] == labels
