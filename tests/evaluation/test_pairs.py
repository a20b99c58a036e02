"""Strict pairing: what is found, in which order, and one sentence for each fault."""

import shutil
import unicodedata
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facesr.errors import DataError, ImageError
from facesr.evaluation.pairs import batches, list_pictures, read_batch, strict_pairs
from facesr.png import file_of, read_png, write_png


def picture(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def test_pairs_are_sorted_by_id(faces, protocol):
    pairs = strict_pairs(faces.restored, faces.high, faces.low, protocol)
    assert [pair.id for pair in pairs.items] == list("abcdefg")
    assert pairs.items[0].low == faces.low / "a.png"
    assert strict_pairs(faces.restored, faces.high, None, protocol).items[0].low is None


def test_accents_pair_in_either_unicode_form(faces, protocol):
    (faces.high / "a.png").rename(faces.high / unicodedata.normalize("NFC", "Zo\u00eb.png"))
    (faces.restored / "a.png").rename(faces.restored / unicodedata.normalize("NFD", "Zo\u00eb.png"))
    assert "Zo\u00eb" in [pair.id for pair in strict_pairs(faces.restored, faces.high, None, protocol).items]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_found_by_its_id_in_either_unicode_form(tmp_path, form):
    name = unicodedata.normalize(form, "J\u00fcrgen.png")
    write_png(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    ((key, path),) = list_pictures(tmp_path).items()
    assert file_of(tmp_path, key).samefile(path) and file_of(tmp_path, "J\u00fcrgen").samefile(path)
    # One that is not there has its plain name, and reading it says so.
    assert file_of(tmp_path, "Anna") == tmp_path / "Anna.png"
    with pytest.raises(ImageError, match=r"Anna\.png"):
        read_png(file_of(tmp_path, "Anna"))


def test_batches_hold_one_size_and_at_most_so_many(make_faces, tmp_path, any_size):
    faces = make_faces(tmp_path / "mixed", 24, 28)
    for folder, factor in ((faces.restored, 1), (faces.high, 1), (faces.low, 4)):
        write_png(folder / "d.png", picture(32 // factor, 40 // factor))
    pairs = strict_pairs(faces.restored, faces.high, faces.low, any_size)
    found = batches(pairs, 2)
    assert [[pair.id for pair in batch] for batch in found] == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]
    restored, high, low = read_batch(found[2], pairs)
    assert (restored.shape, high.shape, low.shape) == ((1, 40, 32, 3), (1, 40, 32, 3), (1, 10, 8, 3))


@pytest.mark.parametrize("folder", ["restored", "high", "low"])
def test_a_folder_that_is_missing_or_empty_or_holds_something_else(faces, protocol, folder):
    path = getattr(faces, folder)

    def pair():
        return strict_pairs(faces.restored, faces.high, faces.low, protocol)

    (path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt"):
        pair()
    for file in path.iterdir():
        file.unlink()
    with pytest.raises(DataError, match="holds no PNG files"):
        pair()
    path.rmdir()
    with pytest.raises(DataError, match=f"{folder} is not a folder"):
        pair()


@pytest.mark.parametrize(("folder", "holder"), [("restored", "high"), ("low", "high"), ("high", "restored")])
def test_a_name_in_one_folder_only_is_named(faces, protocol, folder, holder):
    (getattr(faces, folder) / "c.png").unlink()
    with pytest.raises(DataError, match=rf"^'c\.png': in \S*{holder} but not in \S*{folder};"):
        strict_pairs(faces.restored, faces.high, faces.low, protocol)


def test_only_the_first_of_many_names_are_listed(faces, protocol):
    for key in "bcdef":
        (faces.restored / f"{key}.png").unlink()
    with pytest.raises(DataError, match=r"^'b\.png', 'c\.png', 'd\.png' and 2 more: in"):
        strict_pairs(faces.restored, faces.high, None, protocol)


def test_the_number_of_pictures_may_be_part_of_the_protocol(faces, protocol):
    strict_pairs(faces.restored, faces.high, None, replace(protocol, num_pictures=7))
    with pytest.raises(DataError, match="holds 7 pictures where protocol tiny asks for 300"):
        strict_pairs(faces.restored, faces.high, None, replace(protocol, num_pictures=300))


def test_wrong_sizes_are_named_with_both_sizes(faces, protocol, any_size):
    write_png(faces.restored / "e.png", picture(32, 28))
    with pytest.raises(ImageError, match=r"e\.png is 32x28 where protocol tiny has 24x28"):
        strict_pairs(faces.restored, faces.high, None, protocol)
    with pytest.raises(ImageError, match=r"e\.png is 32x28 where its original has 24x28"):
        strict_pairs(faces.restored, faces.high, None, any_size)


def test_low_resolution_pictures_in_place_of_restored_ones_are_recognised(faces, protocol, any_size):
    for rules in (protocol, any_size):
        with pytest.raises(ImageError, match=r"6x7, the low-resolution size.*restore the pictures first"):
            strict_pairs(faces.low, faces.high, None, rules)


def test_low_pictures_have_to_be_a_quarter(faces, protocol):
    write_png(faces.low / "b.png", picture(8, 7))
    with pytest.raises(ImageError, match=r"low/b\.png is 8x7, not 24x28 divided by 4"):
        strict_pairs(faces.restored, faces.high, faces.low, protocol)


def test_another_format_under_a_png_name(faces, protocol):
    cv2.imwrite(str(faces.restored / "c.jpg"), picture(24, 28))
    (faces.restored / "c.jpg").rename(faces.restored / "c.png")
    with pytest.raises(ImageError, match=r"c\.png is no PNG file"):
        strict_pairs(faces.restored, faces.high, None, protocol)


def test_damage_and_wrong_modes_are_told_when_the_picture_is_read(faces, protocol):
    data = (faces.restored / "c.png").read_bytes()
    (faces.restored / "c.png").write_bytes(data[: len(data) // 2])
    cv2.imwrite(str(faces.restored / "d.png"), np.zeros((28, 24), np.uint8))
    cv2.imwrite(str(faces.restored / "e.png"), np.zeros((28, 24, 4), np.uint8))
    pairs = strict_pairs(faces.restored, faces.high, None, protocol)
    for position, reason in ((2, "damaged"), (3, "greyscale"), (4, "alpha")):
        with pytest.raises(ImageError, match=reason):
            read_batch([pairs.items[position]], pairs)


def test_a_stray_file_of_the_finder_is_no_fault(faces, protocol):
    (faces.restored / ".DS_Store").write_bytes(b"x")
    shutil.copy(faces.restored / ".DS_Store", faces.high)
    assert len(strict_pairs(faces.restored, faces.high, None, protocol).items) == 7
