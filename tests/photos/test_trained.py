"""The framing that a network was trained on: what is stated, what is read back, and what faces can be placed by."""

from dataclasses import replace

import pytest

from facesr.photos.crop import BOX_CENTRE, BOX_SIZE, Framing
from facesr.photos.trained import ASC19, PIECES, TrainedFraming, framing_of_set, read_framing, usable_framing


def test_the_competitions_framing_is_its_box() -> None:
    assert (ASC19.face_box_centre, ASC19.face_box_size) == (BOX_CENTRE, BOX_SIZE)
    assert usable_framing(ASC19) == usable_framing(None) == Framing()


@pytest.mark.parametrize("crop", ["as-is", "ffhq", "detect", "template", PIECES])
def test_what_is_stated_is_read_back(crop: str) -> None:
    framing = framing_of_set(crop, 128, 144)
    assert read_framing(framing.as_dict()) == framing
    assert (framing.face_box_size is not None) == (crop in ("ffhq", "detect"))


def test_a_larger_crop_has_a_larger_box() -> None:
    framing = framing_of_set("detect", 192, 224)
    assert framing.face_box_size == (132.0, 164.0)
    # Pixel centres: the middle of 96 is 47.5, that of 192 is 95.5.
    assert framing.face_box_centre == (95.5 + 2 * 0.5, 111.5 + 2 * 0.5)
    assert usable_framing(framing) == Framing(width=192, height=224)


@pytest.mark.parametrize(
    ("framing", "what"),
    [
        (framing_of_set("template", 96, 112), "five landmarks"),
        (framing_of_set("as-is", 128, 128), "ready crops of 128x128"),
        (replace(ASC19, face_box_size=(80.0, 99.0)), r"whose box is 80x99 at \(48, 56\) of 96x112"),
    ],
)
def test_what_faces_cannot_be_placed_by(framing: TrainedFraming, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        usable_framing(framing)


@pytest.mark.parametrize("framing", [framing_of_set("as-is", 96, 112), framing_of_set(PIECES, 64, 64)])
def test_what_is_shown_faces_as_the_competitions_are(framing: TrainedFraming) -> None:
    assert usable_framing(framing) == Framing()


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"width": 96},
        {**ASC19.as_dict(), "more": 1},
        {**ASC19.as_dict(), "crop": ["detect"]},
        {**ASC19.as_dict(), "crop": "somehow"},
        {**ASC19.as_dict(), "width": 96.0},
        {**ASC19.as_dict(), "height": True},
        {**ASC19.as_dict(), "width": 1 << 20},
        {**ASC19.as_dict(), "face_box_size": [66.0]},
        {**ASC19.as_dict(), "face_box_size": [66.0, float("nan")]},
        {**ASC19.as_dict(), "face_box_centre": None},
        {**ASC19.as_dict(), "face_box_centre": "48"},
    ],
)
def test_what_states_no_framing_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="its framing"):
        read_framing(given)
