"""What the built-in judge's training draws and computes, against figures worked out by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facesr.image import to_float, to_uint8
from facesr.resample import downscale_to_grey_levels, resize, upscale
from facesr.training.distill import faces as distill_data
from facesr.training.distill import student as distill_student
from facesr.training.distill.faces import Faces, covered_copies, degraded_copies, stranger_copies, varied_copies
from facesr.training.distill.student import Plan, Source, train_student
from facesr.training.distill.teacher import HINTS, Lessons, Teacher

HEIGHT, WIDTH = 112, 96
DOWN, RIGHT = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)


class Scripted:
    """A generator that gives prepared draws in turn: evenly synthetic ones as shares of their range."""

    def __init__(self, *draws: Any) -> None:
        self.draws = list(draws)

    def random(self, size: int | None = None) -> Any:
        return self.uniform(size=size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: int | None = None) -> Any:
        return loc + scale * self.uniform(size=size)

    def integers(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        return np.floor(self.uniform(low, high, size)).astype(int)

    def choice(self, values: Any) -> Any:
        return values[int(self.integers(len(values)))]

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> Any:
        share = np.asarray(self.draws.pop(0), np.float64)
        assert share.shape == (() if size is None else (size,))
        return low + (high - low) * (share if size else float(share))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    def script(*draws: Any) -> Scripted:
        generator = Scripted(*draws)
        monkeypatch.setattr(distill_data.np.random, "default_rng", lambda seed: generator)
        return generator

    return script


def share_of(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


# The draws that leave a picture as it is: its turn and size, its shift; its colours, brightness and exposure.
STILL = (0.0, share_of(1.0, 0.85, 1.2), (0.5, 0.5))
PLAIN = (0.5, share_of(1.0, 0.6, 1.3), share_of(1.0, 0.65, 1.5), share_of(1.0, 0.85, 1.1))


def smooth_picture() -> np.ndarray:
    waves = [np.sin(RIGHT / 17.0 + k) + np.cos(DOWN / (13.0 + 2 * k)) for k in range(3)]
    return (128.0 + 50.0 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_varied_copy_is_turned_scaled_shifted_and_mirrored_as_drawn(
    scripted: Callable[..., Scripted], mirrored: bool
) -> None:
    # Detail in which the cubic interpolation is told from others.
    grain = np.random.default_rng(0).normal(0.0, 12.0, (HEIGHT, WIDTH, 3))
    picture = np.clip(smooth_picture() + grain, 0.0, 255.0).astype(np.uint8)
    # 14 degrees anticlockwise, 1.06 times as large, 3 pixels to the right and 1.5 up.
    draws = scripted(1.0, share_of(1.06, 0.85, 1.2), (0.75, 0.375), 0.49 if mirrored else 0.5, *PLAIN, 0.4, (0.5,) * 3)
    copy = varied_copies(picture[None], seed=0)[0]
    assert not draws.draws
    angle = math.radians(14.0)
    across, down = RIGHT - 48.0 - 3.0, DOWN - 56.0 + 1.5
    x = 48.0 + (math.cos(angle) * across - math.sin(angle) * down) / 1.06
    y = 56.0 + (math.sin(angle) * across + math.cos(angle) * down) / 1.06
    source = picture[:, ::-1] if mirrored else picture
    expected = cv2.remap(
        np.ascontiguousarray(source), x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    assert np.abs(copy.astype(int) - expected).mean() < 0.75


def test_a_varied_copy_is_relit_as_drawn(scripted: Callable[..., Scripted]) -> None:
    picture = smooth_picture()
    # Colours 0.95 as strong, to the power 0.82, 0.9 as bright; lit from above; red 0.95 and blue 1.05 as bright.
    colours = (share_of(0.95, 0.6, 1.3), share_of(0.82, 0.65, 1.5), share_of(0.9, 0.85, 1.1))
    light = (0.25, share_of(0.45, 0.15, 0.75), share_of(10.0, -10.0, 20.0), share_of(12.0, 4.0, 20.0))
    draws = scripted(*STILL, 0.5, 0.1, *colours, 0.39, *light, (0.0, 0.5, 1.0))
    copy = varied_copies(picture[None], seed=0)[0]
    assert not draws.draws
    levels = picture / 255.0
    grey = (levels * [0.299, 0.587, 0.114]).sum(-1, keepdims=True)
    levels = np.clip(grey + 0.95 * (levels - grey), 0.0, 1.0) ** 0.82 * 0.9
    shade = 0.45 + 0.55 / (1.0 + np.exp((DOWN - 56.0 - 10.0) / 12.0))
    levels = levels * shade[..., None] * [0.95, 1.0, 1.05] * 255.0
    assert np.abs(copy - np.floor(np.clip(levels + 0.5, 0.0, 255.0))).mean() < 0.01
    # And one in ten without colours, lit evenly.
    scripted(*STILL, 0.5, 0.09, *PLAIN[2:], 0.4, (0.5,) * 3)
    copy = varied_copies(picture[None], seed=0)[0]
    grey_levels = (picture * [0.299, 0.587, 0.114]).sum(-1, keepdims=True)
    assert np.abs(copy - np.floor(grey_levels + 0.5)).mean() < 0.01


def test_half_the_copies_are_bicubic_and_the_others_blurred_by_a_factor_and_a_share(
    scripted: Callable[..., Scripted],
) -> None:
    pictures = np.stack([np.roll(smooth_picture(), 9 * k, axis=0) for k in range(5)])
    # The first is official; the others are blurred by 1.5, 2, 3 and 6 and blended by 0.3, 0.65, 1 and 0.51.
    draws = scripted((0.49, 0.5, 0.5, 0.9, 0.9), (0.0, 0.0, 0.26, 0.5, 0.99), (0.0, 0.0, 0.5, 1.0, 0.3))
    copies = degraded_copies(pictures, seed=0)
    assert not draws.draws
    assert np.array_equal(copies[0], to_uint8(upscale(downscale_to_grey_levels(to_float(pictures[:1]))))[0])
    for number, (height, width, share) in enumerate([(75, 64, 0.3), (56, 48, 0.65), (37, 32, 1.0), (19, 16, 0.51)], 1):
        high = to_float(pictures[number : number + 1]).double()
        blurred = resize(resize(high, height, width), HEIGHT, WIDTH)
        expected = 255.0 * (high + share * (blurred - high))[0].permute(1, 2, 0).numpy()
        assert np.abs(copies[number] - expected).max() <= 0.51


# Eyes 28 pixels apart in row 50, nose in the middle, mouth 28 below the eyes.
LANDMARKS = np.array([[34, 50], [62, 50], [48, 64], [38, 78], [58, 78]], np.float32)


def test_glasses_cover_both_eyes_and_the_way_between(scripted: Callable[..., Scripted]) -> None:
    plain = np.full((1, HEIGHT, WIDTH, 3), 200, np.uint8)
    # Lenses 0.5 of the eyes' distance wide and 0.75 of that high: 14 and 10.5 pixels to each side; a thin frame. Dark,
    # 0.5 * 60 and 4 more, and 0.825 of them is seen; the frame is 0.2 * 150.
    lens, frame = (0.5, (0.16,) * 3), (0.2, (0.0,) * 3)
    draws = scripted(
        0.33, share_of(0.5, 0.36, 0.55), share_of(0.75, 0.6, 1.0), 0.0, 0.79, *lens, 0.69, 0.5, *frame, 0.5
    )
    copy = covered_copies(Faces(plain, [""], LANDMARKS[None]), seed=0)[0]
    assert not draws.draws
    for x in (34, 62):
        assert (copy[50, x] == math.floor(200 + 0.825 * (34 - 200) + 0.5)).all()
        radius = np.hypot((RIGHT - x) / 14.0, (DOWN - 50.0) / 10.5)
        assert (copy[radius < 0.85] == copy[50, x]).all()
    apart = np.minimum(*(np.hypot((RIGHT - x) / 14.0, (DOWN - 50.0) / 10.5) for x in (34, 62)))
    assert (copy[(apart > 1.2) & (abs(DOWN - 50.0) > 3)] == 200).all()
    assert abs(copy[50, 48].astype(int) - 30).max() <= 1, "the frames meet"


@pytest.mark.parametrize(("kind", "shown"), [(0.0, 60.0), (0.4, 60.0 + 0.3 * 60.0), (0.8, 120.0)])
def test_a_cover_is_a_disc_beside_the_face(scripted: Callable[..., Scripted], kind: float, shown: float) -> None:
    pictures = np.stack([np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (200, 120)])
    landmarks = np.stack([LANDMARKS, np.full((5, 2), np.nan, np.float32)])
    # 28 pixels from eyes to mouth. Straight down from the middle of the landmarks (48, 64), a radius of 28 * 1 and the
    # edge 28 * 0.8 away; of the second picture, turned by 90 degrees and twice as large; the colour 255 / 5 + 9.
    where = (0.25, share_of(1.0, 0.7, 2.5), share_of(0.8, 0.5, 1.1), 0.25, 0.5)
    draws = scripted(0.34, 0.49, 0.5, *where, 0.2, (0.36,) * 3, kind)
    copy = covered_copies(Faces(pictures, ["", ""], landmarks), seed=0)
    assert not draws.draws and np.array_equal(copy[1], pictures[1])
    apart = np.hypot(RIGHT - 48.0, DOWN - 64.0 - 28.0 * 1.8)
    assert (apart < 27.0).any() and (copy[0][apart < 27.0] == round(shown)).all()
    assert (copy[0][apart > 29.0] == 200).all()


def test_a_cover_shows_the_other_picture_turned_and_enlarged_about_its_middle(
    scripted: Callable[..., Scripted],
) -> None:
    pictures = np.stack([np.full((HEIGHT, WIDTH, 3), 200, np.uint8), smooth_picture()])
    landmarks = np.stack([LANDMARKS, np.full((5, 2), np.nan, np.float32)])
    # The same disc, of a radius of 28 * 2.5; the second picture turned by 30 degrees and 1.5 times as large.
    where = (0.25, 1.0, share_of(0.8, 0.5, 1.1), 30 / 360, share_of(1.5, 1.0, 3.0))
    scripted(0.34, 0.49, 0.5, *where, 0.2, (0.36,) * 3, 0.8)
    copy = covered_copies(Faces(pictures, ["", ""], landmarks), seed=0)[0]
    angle, across, down = math.radians(30.0), RIGHT - 48.0, DOWN - 56.0
    x = 48.0 + (math.cos(angle) * across - math.sin(angle) * down) / 1.5
    y = 56.0 + (math.sin(angle) * across + math.cos(angle) * down) / 1.5
    expected = cv2.remap(
        pictures[1], x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    inside = np.hypot(RIGHT - 48.0, DOWN - 64.0 - 28.0 * 3.3) < 69.0
    assert inside.sum() > 1000 and np.abs(copy[inside].astype(int) - expected[inside]).max() <= 2


def test_glasses_lie_along_the_eyes(scripted: Callable[..., Scripted]) -> None:
    plain = np.full((1, HEIGHT, WIDTH, 3), 200, np.uint8)
    # The right eye 28 lower than the left one: turned by 45 degrees; lenses 0.4 of the way wide and 0.6 of that high.
    landmarks = LANDMARKS.copy()
    landmarks[1] = [62, 78]
    width = 0.4 * 28.0 * math.sqrt(2.0)
    lens = (0.5, (0.16,) * 3)
    scripted(0.33, share_of(0.4, 0.36, 0.55), 0.0, 0.99, 0.79, *lens, 0.69, 1.0, *lens, 0.5)
    copy = covered_copies(Faces(plain, [""], landmarks[None]), seed=0)[0]
    apart = []
    for x, y in landmarks[:2]:
        along, beside = (RIGHT - x + DOWN - y) / math.sqrt(2.0), (DOWN - y - RIGHT + x) / math.sqrt(2.0)
        apart.append(np.hypot(along / width, beside / (0.6 * width)))
        assert (copy[apart[-1] < 0.7] == 34).all()
        assert (apart[-1] < 0.7).sum() > 100
    changed = (copy != 200).any(axis=2)
    on_the_line = np.abs(DOWN - 50.0 - (RIGHT - 34.0)) < 5
    assert not changed[(np.minimum(*apart) > 1.35) & ~on_the_line].any()


def test_a_stranger_has_anothers_face_on_the_landmarks(scripted: Callable[..., Scripted]) -> None:
    pictures = np.stack([np.full((HEIGHT, WIDTH, 3), 40, np.uint8), smooth_picture()])
    landmarks = np.stack([LANDMARKS, np.add(LANDMARKS, [5.0, -3.0])]).astype(np.float32)
    # The first is given half of the second; the second 0.35 of itself.
    draws = scripted(0.5, share_of(0.5, 0.35, 0.75), 0.5, 0.0)
    copies = stranger_copies(Faces(pictures, ["", ""], landmarks), seed=0)
    assert not draws.draws and np.abs(copies[1].astype(int) - pictures[1]).max() <= 1
    radius = np.hypot((RIGHT - 48.0) / (1.15 * 28.0), (DOWN - 64.0) / (1.35 * 28.0))
    share = 0.5 * np.clip((1.15 - radius) / 0.35, 0.0, 1.0)[..., None]
    guest = np.roll(pictures[1], (3, -5), axis=(0, 1)).astype(float)
    difference = np.abs(copies[0] - (40.0 * (1.0 - share) + guest * share))
    assert difference[radius < 1.1].max() <= 1.5 and (copies[0][radius > 1.15] == 40).all()


class AnyNetwork:
    name, weights_sha256, precision = "teacher", "a" * 64, "fp32"


def teacher_of_means(axes: float, asked: list[int]) -> Teacher:
    """A teacher whose vectors are a picture's mean, and whose inner features are that times 1, 2 and 3."""
    teacher = Teacher.__new__(Teacher)
    teacher.network = AnyNetwork()  # type: ignore[assignment]
    teacher._axes = [(torch.full((3,), 0.5), torch.full((3, hint.num_axes), axes)) for hint in HINTS]

    def see(pictures: np.ndarray) -> tuple[Tensor, list[Tensor]]:
        asked.append(len(pictures))
        mean = torch.from_numpy(pictures.astype(np.float32)).mean((1, 2, 3))
        channels = mean[:, None] * torch.tensor([1.0, 2.0, 3.0])
        maps = [channels[:, :, None, None].expand(-1, -1, hint.height, hint.width) for hint in HINTS]
        return mean[:, None].expand(-1, 512), maps

    teacher._see = see  # type: ignore[method-assign]
    return teacher


def test_lessons_are_kept_for_the_same_teacher_axes_and_pictures_alone(tmp_path: Path) -> None:
    pairs = np.arange(140, dtype=np.uint8)[:, None, None, None].repeat(2 * 3, 1).reshape(70, 2, 2, 1, 3)
    asked: list[int] = []
    lessons = teacher_of_means(0.25, asked).teach(pairs, tmp_path, "any")
    assert asked == [128, 12]  # both pictures of 64 pairs, then of 6
    (about,) = tmp_path.glob("*/set.json")
    assert json.loads(about.read_text()) == {"teacher": "teacher", "num_pairs": 70}
    level = np.arange(140, dtype=np.float32).reshape(70, 2)
    assert np.array_equal(lessons.vectors, np.broadcast_to(level[..., None], (70, 2, 512)))
    for hint, kept in zip(HINTS, lessons.hints, strict=True):
        assert kept.shape == (70, 2, hint.num_axes, hint.height, hint.width) and kept.dtype == np.float16
        # A quarter of the sum over channels of what lies above their mean.
        expected = 0.25 * (6.0 * level - 1.5)
        np.testing.assert_allclose(kept[:, :, 0, 0, 0], expected, rtol=1e-3)
        np.testing.assert_allclose(kept[:, :, -1, -1, -1], expected, rtol=1e-3)
    teacher_of_means(0.25, asked).teach(pairs, tmp_path, "any")
    assert len(asked) == 2, "found again"
    other = teacher_of_means(0.25, asked)
    other.network.weights_sha256 = "b" * 64
    rounded = teacher_of_means(0.25, asked)
    rounded.network.precision = "bf16"
    small = pairs[:1]
    first = teacher_of_means(0.25, asked)
    for teacher, shown in ((first, small), (first, small + 1), (other, small), (rounded, small)):
        teacher.teach(shown, tmp_path, "any")
    teacher_of_means(0.5, asked).teach(small, tmp_path, "any")
    assert asked[2:] == [2] * 5


class Tiny(nn.Module):
    """A student of one weight that keeps what it is shown."""

    made: "list[Tiny]" = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, 1.0)
        self.shown: list[Tensor] = []
        Tiny.made.append(self)

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.shown.append(pixels)
        return torch.full((len(pixels), 512), 2.0), [self.network.weight]


class PlainSteps(torch.optim.SGD):
    """Plain steps, which keep their rates."""

    rates: list[float] = []  # noqa: RUF012

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        PlainSteps.rates.append(self.param_groups[0]["lr"])
        super().step(closure)


def test_the_student_is_trained_by_the_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    strengths: list[float] = []
    upright: list[Tensor] = []
    written: list[float] = []
    taught: list[Tensor] = []

    def terms(student: Tensor, teacher: Tensor, strength: float = 1.0) -> dict[str, Tensor]:
        strengths.append(strength)
        taught.append(teacher[:, 0])
        torch.testing.assert_close(student.square().sum(1), torch.ones(len(student)))
        return {"embedding": 3.0 * Tiny.made[0].network.weight.sum()}

    def hints(said: list[Tensor], lessons: Lessons, still: Tensor) -> Tensor:
        upright.append(still)
        assert lessons.hints[0][:, 0].tolist() == lessons.vectors[:, 0, 0].tolist()
        return said[0].sum()

    monkeypatch.setattr(Tiny, "made", [])
    monkeypatch.setattr(PlainSteps, "rates", [])
    for name, value in {
        "Student": Tiny, "Muon": PlainSteps, "distillation_terms": terms, "hint_error": hints, "relit": lambda b, _: b,
        "folded": lambda network: network, "write_weights": lambda n, out: written.append(n.weight.item()),
    }.items():  # fmt: skip
        monkeypatch.setattr(distill_student, name, value)
    # Each face is one grey, its number, and so is what the teacher says of it.
    numbers = np.arange(10, dtype=np.uint8)
    sources = [
        Source(
            np.broadcast_to(part[:, None, None, None, None], (len(part), 2, HEIGHT, WIDTH, 3)),
            Lessons(np.broadcast_to(part[:, None, None], (len(part), 2, 512)).astype(np.float32), [part[:, None]]),
            np.ones(len(part)),
        )
        for part in (numbers[:7], numbers[7:])
    ]
    train_student(sources, Plan(kimg=0.12, batch=1, learning_rate=0.01, seed=0), tmp_path / "out")

    steps = range(120)
    falling = [0.5 + 0.5 * math.cos(math.pi * step / 120) for step in steps]
    # Up over the first twentieth, six steps, then along the cosine to a hundredth.
    rates = [0.01 * min((step + 1) / 6, 0.01 + 0.99 * falling[step]) for step in steps]
    np.testing.assert_allclose(PlainSteps.rates, rates, rtol=1e-6)
    np.testing.assert_allclose(strengths, [min(1.0, step / 60) for step in steps])
    weight = average = 1.0
    averages = []
    for step in steps:
        weight -= rates[step] * (3.0 + 0.2 + 0.8 * falling[step])
        average = weight if step == 0 else average * (1 - 20 / 120) + weight * 20 / 120
        averages.append(average)
    assert written == pytest.approx([averages[99], averages[119]], rel=1e-5)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(" kimg, ")[0] for line in told] == ["0.1", "0.1", "0.1"]
    for pixels, said in zip(Tiny.made[0].shown, taught, strict=True):
        assert pixels.shape == (2, 3, HEIGHT, WIDTH)
        torch.testing.assert_close(pixels, (said / 127.5 - 1.0)[:, None, None, None].expand_as(pixels))
    seen = torch.stack(taught)[:, ::2].flatten().int().bincount(minlength=10)
    assert seen.tolist() == [12] * 10  # 120 faces, all ten equally often
    assert torch.stack(upright).float().mean().item() == pytest.approx(0.65, abs=0.1)


def test_a_long_gradient_of_the_student_is_clipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Tiny, "made", [])
    monkeypatch.setattr(PlainSteps, "rates", [])
    written: list[float] = []
    for name, value in {
        "Student": Tiny, "Muon": PlainSteps, "hint_error": lambda said, *_: said[0].sum(),
        "distillation_terms": lambda *_: {"embedding": 100.0 * Tiny.made[0].network.weight.sum()},
        "folded": lambda network: network, "write_weights": lambda n, out: written.append(n.weight.item()),
    }.items():  # fmt: skip
        monkeypatch.setattr(distill_student, name, value)
    source = Source(
        np.zeros((2, 2, HEIGHT, WIDTH, 3), np.uint8), Lessons(np.zeros((2, 2, 512), np.float32), []), np.ones(2)
    )
    told: list[tuple[int, float]] = []
    monkeypatch.setattr(distill_student, "_report", lambda shown, kimg, terms, seconds: told.append((shown, kimg)))
    # At least six steps, each of 5 times its rate; half of the average is forgotten at each.
    train_student([source], Plan(kimg=0.001, batch=2, learning_rate=0.01, seed=0), tmp_path / "out")
    assert told == [(12, 0.001)]
    weight = average = 1.0
    for step, rate in enumerate(PlainSteps.rates):
        weight -= 5.0 * rate
        average = weight if step == 0 else (average + weight) / 2
    assert len(PlainSteps.rates) == 6 and written == pytest.approx([average], rel=1e-4)
