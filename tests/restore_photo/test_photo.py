"""One photograph: what is decided of each face, and what the answer is made of. The detector's faces are made."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from facesr.errors import ConfigError
from facesr.methods.method import Method
from facesr.models.interpolation import Bicubic
from facesr.photos.crop import Framing, to_crop
from facesr.photos.search import FoundFace, rotation
from facesr.restore_photo import photo as module
from facesr.restore_photo.background import background_of
from facesr.restore_photo.decide import decided, grid_for, low_placement, placed, restored_framing
from facesr.restore_photo.photo import Means, Wishes, interpolated, restore_photo, scale_for
from facesr.restore_photo.wishes import chosen_of
from tests.judges import Quarters

CPU = torch.device("cpu")
POINTS = np.array([[-0.25, -0.2], [0.25, -0.2], [0.0, 0.1], [-0.2, 0.35], [0.2, 0.35]])


def face(x: float, y: float, width: float = 16.5, roll: float = 0.0) -> FoundFace:
    """Returns a made face whose box has the competition's proportions, 66 to 82."""
    landmarks = (POINTS * width) @ rotation(roll).T + np.array([x, y])
    return FoundFace(np.array([x, y]), width, width * 82 / 66, roll, landmarks, 0.99)


class Striped(nn.Module):
    """Cubic interpolation with vertical stripes, two pixels wide and 20 grey levels high, which a mirror turns over."""

    def __init__(self, height: float = 20.0) -> None:
        super().__init__()
        self.cubic, self.height = Bicubic(), height

    def forward(self, low: Tensor) -> Tensor:
        restored: Tensor = self.cubic(low)
        stripes = (torch.arange(restored.shape[-1]) // 2 % 2).float() * self.height / 255.0
        return restored + stripes


def means(generator: nn.Module, background: Method | None = None) -> Means:
    behind = None if background is None else background_of(background, CPU)
    return Means(Method("made", generator), behind, None, Quarters(), CPU)  # type: ignore[arg-type]


def smooth(height: int, width: int, depth: type[np.uint8] | type[np.uint16] = np.uint8) -> NDArray[np.uint8]:
    """Returns a smooth colourful picture, its values between a quarter and three quarters."""
    down, across = np.mgrid[:height, :width] / 24.0
    waves = np.stack([np.sin(across), np.cos(down), np.sin(across + down)], 2) / 4 + 0.5
    return (waves * np.iinfo(depth).max).astype(depth)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[FoundFace]:
    faces: list[FoundFace] = []
    monkeypatch.setattr(module, "find_faces", lambda picture, detector, min_face: list(faces))
    return faces


WISHES = Wishes(4, "all", 10.0, 60.0, 1.0)


def test_without_a_face_the_answer_is_the_background(found: list[FoundFace]) -> None:
    pixels = smooth(60, 50)
    restored = restore_photo(pixels, None, pixels, False, means(Striped()), WISHES)
    assert restored.faces == () and np.array_equal(restored.pixels, interpolated(pixels, 4))
    # Pillow's own cubic interpolation of 8 bits, which rounds between the axes, is the independent answer.
    cubic = np.asarray(Image.fromarray(pixels).resize((200, 240), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(restored.pixels - cubic).max() <= 1


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_method_that_adds_nothing_changes_almost_nothing(
    found: list[FoundFace], depth: type[np.uint8] | type[np.uint16]
) -> None:
    found.append(face(40.0, 50.0))
    pixels = smooth(100, 80, depth)
    view = smooth(100, 80)
    restored = restore_photo(pixels, None, view, False, means(Bicubic()), WISHES)
    background = interpolated(pixels, 4).astype(int)
    assert restored.pixels.dtype == depth
    # Two levels of 8 bits: the input, both answers and the background are rounded.
    assert np.abs(restored.pixels - background).max() <= (2 if depth is np.uint8 else 2 * 257)


def test_strength_zero_is_the_background_and_one_restores(found: list[FoundFace]) -> None:
    found.append(face(40.0, 50.0))
    pixels = smooth(100, 80)
    background = interpolated(pixels, 4)
    none, half, whole = (
        restore_photo(pixels, None, pixels, False, means(Striped()), Wishes(4, "all", 10.0, 60.0, strength)).pixels
        for strength in (0.0, 0.5, 1.0)
    )
    assert np.array_equal(none, background)
    middle = np.s_[190:214, 150:174]
    # The mean of the stripes and of the mirrored ones: a stripe meets a gap, and all is 10 levels up, which the colour
    # match takes away again. So a face that is only lighter stays as it was.
    assert np.abs(whole[middle].astype(int) - background[middle]).max() <= 1
    assert np.abs(half.astype(int) - background).max() <= 2


def test_the_mirror_image_warns(found: list[FoundFace], monkeypatch: pytest.MonkeyPatch) -> None:
    class Lopsided(nn.Module):
        def forward(self, low: Tensor) -> Tensor:
            restored: Tensor = Bicubic()(low)
            shade = torch.linspace(0.0, 1.5, restored.shape[-1])
            return (restored * shade).clamp(0, 1)

    found.append(face(40.0, 50.0))
    pixels = smooth(100, 80)
    told = restore_photo(pixels, None, pixels, False, means(Lopsided()), WISHES).faces[0]
    assert told.mirror_agreement is not None and told.mirror_agreement < module.LOW_AGREEMENT
    assert told.less_certain[0].startswith("its mirror image is restored otherwise")
    told = restore_photo(pixels, None, pixels, False, means(Bicubic()), WISHES).faces[0]
    assert told.mirror_agreement == pytest.approx(1.0, abs=1e-4) and told.less_certain == ()


def test_grey_stays_grey_and_alpha_is_enlarged(found: list[FoundFace]) -> None:
    class Tinted(nn.Module):
        def forward(self, low: Tensor) -> Tensor:
            restored: Tensor = Bicubic()(low)
            noise = torch.rand(restored.shape, generator=torch.Generator().manual_seed(0))
            return restored + 0.2 * noise * torch.tensor([1.0, 0.2, 0.6]).view(1, 3, 1, 1)

    found.append(face(40.0, 50.0))
    pixels = np.repeat(smooth(100, 80)[:, :, :1], 3, 2)
    alpha = smooth(100, 80)[:, :, 1]
    restored = restore_photo(pixels, alpha, pixels, True, means(Tinted()), WISHES)
    assert np.ptp(restored.pixels, axis=2).max() == 0
    assert (restored.pixels != interpolated(pixels, 4)).any()
    assert restored.alpha is not None and restored.alpha.shape == (400, 320)
    assert np.array_equal(restored.alpha, interpolated(alpha[:, :, None], 4)[:, :, 0])


def test_what_is_sharp_already_is_left_alone(found: list[FoundFace]) -> None:
    found.append(face(100.0, 110.0, 66.0))
    fine = np.random.default_rng(0).integers(60, 200, (220, 200, 3), dtype=np.uint8)
    asked = Wishes(1, "all", 10.0, 60.0, 1.0)
    restored = restore_photo(fine, None, fine, False, means(Striped()), asked)
    assert np.array_equal(restored.pixels, fine)
    assert restored.faces[0].reason.startswith("the photograph holds detail here")
    blurred = smooth(220, 200)
    assert restore_photo(blurred, None, blurred, False, means(Striped()), asked).faces[0].reason == ""


@pytest.mark.parametrize(
    ("made", "wanted", "reason"),
    [
        (face(200, 200), {}, ""),
        (face(200, 200), {"is_chosen": False}, "not asked for by faces="),
        (face(200, 200, 9.0), {}, "9 px wide, and min_face_px=10"),
        (face(200, 200, 24.0), {}, ""),
        (face(200, 200, 25.0), {}, "100 px wide in the output, and the network restores up to 97"),
        (face(200, 200, 25.0), {"scale": 2}, ""),
        (face(2, 2), {}, "too much of its surroundings lies outside the picture"),
    ],
)
def test_what_becomes_of_a_face(made: FoundFace, wanted: dict[str, int], reason: str) -> None:
    asked = {"scale": 4, "is_chosen": True, "min_face_px": 10.0, "max_turn": 60.0} | wanted
    decision = decided(made, (400, 400), **asked)  # type: ignore[arg-type]
    assert decision.reason.startswith(reason) and bool(decision.reason) == bool(reason)


def test_a_profile_is_left_alone() -> None:
    made = face(200, 200)
    made.landmarks[2] = made.landmarks[:2].mean(0) + np.array([0.5 * 16.5 * 1.2, 2.0])
    # The nose 1.2 distances between the eyes aside: tan(yaw) is 2.
    assert decided(made, (400, 400), 4, True, 10.0, 60.0).reason.startswith("turned aside by about 63 degrees")
    assert decided(made, (400, 400), 4, True, 10.0, 70.0).reason == ""


@pytest.mark.parametrize("roll", [0.0, 10.0, 45.0, -120.0])
def test_the_box_comes_to_the_competitions_framing(roll: float) -> None:
    made = face(100.0, 120.0, 20.0, roll)
    framing = restored_framing(grid_for(66.0))
    placement = placed(made, framing)
    corners = np.array([[-10.0, -10.0 * 82 / 66], [10.0, 10.0 * 82 / 66]])
    turn = rotation(roll) if abs(roll) > 20.0 else np.eye(2)
    found = to_crop(corners @ turn.T + made.centre, placement)
    assert found == pytest.approx(np.array([[15.0, 15.0], [81.0, 97.0]]))
    # What the network is shown covers the same: its pixel is four of the restored crop.
    low = low_placement(placement)
    assert low @ np.array([5.0, 7.0, 1.0]) == pytest.approx(placement @ np.array([21.5, 29.5, 1.0]))


@pytest.mark.parametrize(("shown", "size"), [(30.0, (24, 28)), (66.0, (24, 28)), (67.0, (25, 30)), (400.0, (32, 38))])
def test_larger_faces_get_a_larger_grid(shown: float, size: tuple[int, int]) -> None:
    grid = grid_for(shown)
    assert (grid.width, grid.height) == size
    assert (restored_framing(grid).width, restored_framing(grid).height) == (4 * size[0], 4 * size[1])


def test_a_network_is_shown_faces_as_it_was_trained_on_them() -> None:
    trained = Framing(width=192, height=224)
    # Twice as large: a face of 132 pixels is what it knows, up to 1.1 times a third more.
    assert (grid_for(132.0, trained).width, grid_for(133.0, trained).height) == (48, 58)
    most = [decided(face(500, 500, width), (999, 999), 4, True, 10.0, 60.0, trained).reason for width in (48.0, 49.0)]
    assert most[0] == "" and most[1].startswith("196 px wide in the output, and the network restores up to 194")


@pytest.mark.parametrize(
    ("faces", "chosen"),
    [("all", {0, 1, 2}), ("largest", {0}), ([0, 2], {0, 2}), ([2, 7], {2}), ("[1]", {1})],
)
def test_faces_are_chosen(faces: str | list[int], chosen: set[int]) -> None:
    assert chosen_of(faces, 3) == chosen


@pytest.mark.parametrize("faces", ["none", [], [-1], "[0,x]", ["a"]])
def test_an_unknown_choice_is_refused(faces: str | list[int]) -> None:
    with pytest.raises(ConfigError, match="give all, largest, or numbers"):
        chosen_of(faces, 3)


def test_small_photographs_become_four_times_as_large() -> None:
    assert [scale_for(1000, 1000), scale_for(1001, 1000), scale_for(2000, 2000), scale_for(4000, 3000)] == [4, 2, 2, 1]


def test_a_network_may_restore_the_rest(found: list[FoundFace]) -> None:
    pixels = smooth(40, 30)
    striped = Method("striped", Striped())
    whole = restore_photo(pixels, None, pixels, False, means(Bicubic(), striped), WISHES).pixels.astype(int)
    cubic = interpolated(pixels, 4).astype(int)
    assert np.abs(whole[:, 2:4] - cubic[:, 2:4] - 20).max() <= 1 and np.abs(whole[:, :2] - cubic[:, :2]).max() <= 1
    twice = restore_photo(pixels, None, pixels, False, means(Bicubic(), striped), Wishes(2, "all", 10, 60, 1)).pixels
    assert twice.shape == (80, 60, 3)
    # What is not enlarged is not restored.
    same = restore_photo(pixels, None, pixels, False, means(Bicubic(), striped), Wishes(1, "all", 10, 60, 1)).pixels
    assert np.array_equal(same, pixels)


def test_a_face_changes_the_background_that_there_is(found: list[FoundFace]) -> None:
    pixels = smooth(100, 80)
    striped = Method("striped", Striped())
    made = means(Bicubic(), striped)
    plain = restore_photo(pixels, None, pixels, False, made, WISHES).pixels
    assert np.array_equal(plain, made.background.enlarged(pixels, 4, False))  # type: ignore[union-attr]
    found.append(face(40.0, 50.0))
    none = restore_photo(pixels, None, pixels, False, made, Wishes(4, "all", 10.0, 60.0, 0.0)).pixels
    assert np.array_equal(none, plain)
    # Where the face is, the cubic answer takes the stripes away.
    whole = restore_photo(pixels, None, pixels, False, made, WISHES).pixels.astype(int)
    cubic = interpolated(pixels, 4).astype(int)
    middle = np.s_[190:214, 150:174]
    assert np.abs(whole[middle] - cubic[middle] - 10).max() <= 3
    assert np.abs(plain[middle] - cubic[middle] - 10).max() >= 9


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cubic_interpolation_in_strips_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (41, 30, 3)).astype(np.uint16)
    whole = interpolated(pixels, scale)
    monkeypatch.setattr("facesr.photos.colour.STRIP_PIXELS", 30 * scale**2 * 7)
    assert np.array_equal(interpolated(pixels, scale), whole)
