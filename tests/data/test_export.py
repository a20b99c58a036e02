"""Exporting faces as folders of PNG files."""

import numpy as np
import pytest

from facesr.build import load_group
from facesr.data import export
from facesr.data.synthetic.dead_leaves import render_pictures
from facesr.data.synthetic.face.render import render_faces, synthetic_cache
from facesr.errors import DataError
from facesr.png import read_png
from facesr.resample import downscale_uint8


def test_builtin_faces_are_written_with_their_low_resolution(tmp_path, capsys):
    assert export.main(["synthetic", str(tmp_path / "out"), "--num", "3", "--first", "8", "--seed", "2"]) == 0
    assert "3 faces" in capsys.readouterr().out
    faces, _ = render_faces(3, seed=2, first=8)
    names = ["000000.png", "000001.png", "000002.png"]
    for folder, pictures in (("high", faces), ("low", downscale_uint8(faces))):
        assert sorted(path.name for path in (tmp_path / "out" / folder).iterdir()) == names
        for name, picture in zip(names, pictures, strict=True):
            np.testing.assert_array_equal(read_png(tmp_path / "out" / folder / name), picture)


def test_a_prepared_set_is_written_from_the_first_face_asked_for(tmp_path, capsys):
    folder = synthetic_cache(4, 0, 4, 0, tmp_path / "cache", num_workers=0)
    assert export.main([str(folder), str(tmp_path / "out"), "--first", "1", "--num", "2"]) == 0
    images = np.load(folder / "images.npy")
    np.testing.assert_array_equal(read_png(tmp_path / "out" / "high" / "000001.png"), images[2])
    assert export.main([str(folder), str(tmp_path / "all")]) == 0
    assert len(list((tmp_path / "all" / "low").iterdir())) == 4


def test_the_margin_of_a_set_is_cut_off(tmp_path, monkeypatch):
    folder = synthetic_cache(1, 0, 4, 0, tmp_path / "cache", num_workers=0)
    whole = np.load(folder / "images.npy")
    np.save(folder / "images.npy", np.pad(whole, ((0, 0), (3, 3), (3, 3), (0, 0))))
    text = (folder / "set.json").read_text()
    (folder / "set.json").write_text(text.replace('"margin": 0', '"margin": 3'))
    assert export.export_set(folder, tmp_path / "out") == 1
    np.testing.assert_array_equal(read_png(tmp_path / "out" / "high" / "000000.png"), whole[0])


def test_general_pictures_are_written_in_the_size_asked_for(tmp_path, capsys):
    arguments = ["dead_leaves", str(tmp_path / "out"), "--num", "2", "--size", "24x16", "--first", "5", "--seed", "3"]
    assert export.main(arguments) == 0
    assert "2 pictures" in capsys.readouterr().out
    pictures = render_pictures(2, 24, 16, seed=3, first=5)
    for folder, expected in (("high", pictures), ("low", downscale_uint8(pictures))):
        np.testing.assert_array_equal(read_png(tmp_path / "out" / folder / "000001.png"), expected[1])


def test_the_default_general_pictures_have_two_blocks_of_niqe():
    width, height = export.SIZE_DEAD_LEAVES
    assert ((width - 8) // 96) * ((height - 8) // 96) >= 2
    node = load_group("data", "dead_leaves")
    assert node["validation"]["first"] == export.FIRST_DEAD_LEAVES >= node["train"]["num_pictures"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["dead_leaves", "out", "--num", "0"], "--num 0 is out of range; give a whole number from 1"),
        (["dead_leaves", "out", "--size", "24x18"], "multiples of 4"),
        (["dead_leaves", "out", "--size", "24"], "--size 24 is no size"),
        (["synthetic", "out", "--size", "24x16"], "--size has no meaning for synthetic"),
        (["synthetic", "out", "--num", "0"], "--num 0 is out of range; give a whole number from 1"),
        (["absent", "out"], "absent does not exist"),
        (["synthetic", "full", "--num", "1"], "holds 'mine.png' from elsewhere"),
        (["synthetic", "file", "--num", "1"], "file cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(tmp_path, monkeypatch, capsys, arguments, reason, code_of):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full" / "high").mkdir(parents=True)
    (tmp_path / "full" / "high" / "mine.png").touch()
    (tmp_path / "file").touch()
    assert code_of(export.main, arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and reason in printed and printed.count("\n") == 1


def test_faces_a_set_does_not_hold(tmp_path):
    folder = synthetic_cache(2, 0, 4, 0, tmp_path / "cache", num_workers=0)
    with pytest.raises(DataError, match="holds 2 faces"):
        export.export_set(folder, tmp_path / "out", num_faces=3)


def test_the_defaults_are_the_validation_faces_of_train():
    node = load_group("data", "synthetic")["validation"]
    expected = {"num_faces": export.NUM_SYNTHETIC, "first": export.FIRST_SYNTHETIC, "seed": export.SEED}
    assert {key: node[key] for key in expected} == expected
