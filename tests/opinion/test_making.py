"""Making a study: from checked pictures, whole or not at all, fixed by its plan."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from facesr.errors import ConfigError, DataError, FaceSRError
from facesr.opinion import making
from facesr.opinion.app import create_app
from facesr.opinion.making import make_study
from facesr.opinion.opening import open_database
from facesr.opinion.plan import plan_bytes
from facesr.opinion.study import PLAN, SETTINGS, Study
from facesr.png import encode_png, read_png
from facesr.resample import downscale_uint8
from tests.opinion.made import a_study, folders, noise, settings_of


def test_a_study_holds_copies_of_its_pictures_and_the_digest_of_its_plan(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    plan = study.plan
    assert plan.methods == ("ours", "theirs") and plan.anchors == ("bicubic", "nearest") and len(plan.faces) == 8
    assert hashlib.sha256((study.folder / PLAN).read_bytes()).hexdigest() == plan.sha256
    assert len(plan.sessions) == 5 and plan.num_trials == 8 * 5 + 2 + 1 + 1
    for face in plan.faces:
        for method in ("ours", "theirs", "original"):
            copy = read_png(study.picture(f"{method}/{face}"))
            name = "high" if method == "original" else method
            assert np.array_equal(copy, read_png(tmp_path / name / f"{face}.png"))
    face = plan.faces[0]
    low = downscale_uint8(read_png(tmp_path / "high" / f"{face}.png")[None])[0]
    nearest = read_png(study.picture(f"nearest/{face}"))
    assert np.array_equal(nearest[::4, ::4], low) and np.array_equal(nearest[3::4, 3::4], low)
    # Faces for practice are no faces of the study, and judges find exactly the rated ones in its folders.
    assert {path.stem for path in (study.folder / "pictures" / "ours").iterdir()} == set(plan.faces)
    assert {trial.face for trial in plan.sessions[0][:2]}.isdisjoint(plan.faces)
    open_database(study).close()


def test_the_same_seed_gives_the_same_plan(tmp_path: Path) -> None:
    one = a_study(tmp_path / "one")
    assert plan_bytes(one.plan) == (one.folder / PLAN).read_bytes()
    assert a_study(tmp_path / "two").plan.sha256 == one.plan.sha256
    assert a_study(tmp_path / "three", "seed=1").plan.sha256 != one.plan.sha256


def test_nothing_but_pixels_is_copied(tmp_path: Path) -> None:
    keys = folders(tmp_path)
    path = tmp_path / "ours" / "f00.png"
    path.write_bytes(encode_png(read_png(path), "who took it, and where"))
    study = make_study(settings_of(tmp_path / "study", *keys, "faces=all", "repeats=1", "traps=1"))
    copy = study.picture("ours/f00").read_bytes()
    assert b"who took it" not in copy and np.array_equal(read_png(study.picture("ours/f00")), read_png(path))


def test_given_low_resolution_pictures_make_the_anchors(tmp_path: Path) -> None:
    keys = folders(tmp_path)
    for number in range(12):
        noise(tmp_path / "low" / f"f{number:02d}.png", 5000 + number, 8, 6)
    study = make_study(
        settings_of(tmp_path / "study", *keys, f"low={tmp_path / 'low'}", "faces=8", "repeats=1", "traps=1")
    )
    face = study.plan.faces[3]
    assert np.array_equal(
        read_png(study.picture(f"nearest/{face}"))[::2, ::2], read_png(tmp_path / "low" / f"{face}.png")
    )


def test_other_pictures_of_persons(tmp_path: Path) -> None:
    keys = folders(tmp_path)
    rows = ["person,picture"]
    for number in range(12):
        noise(tmp_path / "more" / f"x{number}.png", 7000 + number, 20, 20)
        rows += [f"p{number},f{number:02d}", f"p{number},more/x{number}.png"]
    table = tmp_path / "persons.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    wanted = [*keys, "kinds=[same]", f"persons={table}", "faces=all", "repeats=1", "traps=1"]
    study = make_study(settings_of(tmp_path / "study", *wanted))
    trial = next(one for one in study.plan.sessions[0] if one.part == "main" and one.expected == 1)
    number = int(trial.face[1:])
    assert np.array_equal(read_png(study.picture(trial.shows[1])), read_png(tmp_path / "more" / f"x{number}.png"))
    table.write_text("\n".join(rows[:-1]), encoding="utf-8")
    with pytest.raises(DataError, match=r"persons.csv has no other picture of the person of 'f11'; add one"):
        make_study(settings_of(tmp_path / "again", *wanted))
    assert not (tmp_path / "again").exists()


def wrong_size(root: Path) -> None:
    noise(root / "ours" / "f03.png", 1, 16, 16)


def huge(root: Path) -> None:
    data = bytearray((root / "ours" / "f03.png").read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    (root / "ours" / "f03.png").write_bytes(data)


def grey(root: Path) -> None:
    cv2.imwrite(str(root / "ours" / "f03.png"), np.zeros((16, 12), np.uint8))


def cut_off(root: Path) -> None:
    data = (root / "ours" / "f03.png").read_bytes()
    (root / "ours" / "f03.png").write_bytes(data[:-20])


def linked(root: Path) -> None:
    (root / "ours" / "f03.png").unlink()
    (root / "ours" / "f03.png").symlink_to(root / "high" / "f03.png")


def missing(root: Path) -> None:
    (root / "theirs" / "f03.png").unlink()


def one_more(root: Path) -> None:
    noise(root / "theirs" / "g.png", 1)


def no_picture(root: Path) -> None:
    (root / "theirs" / "note.txt").write_text("x")


def device_name(root: Path) -> None:
    for folder in ("high", "ours", "theirs"):
        noise(root / folder / "con.png", 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (wrong_size, "f03.png is 16x16 where its original is 12x16; all pictures of a face need one size"),
        (huge, "f03.png is 60000x60000; a side has 4096 pixels at most"),
        (grey, "f03.png is 8-bit greyscale"),
        (cut_off, "f03.png is a damaged PNG"),
        (linked, "f03.png is a link; copy the picture there"),
        (missing, "theirs lacks 'f03', which high has"),
        (one_more, "theirs has 'g', which high has not"),
        (no_picture, "which is no PNG file"),
        (device_name, "holds 'con', no name that is safe everywhere"),
    ],
)
def test_hostile_pictures_are_refused_and_nothing_is_left(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    keys = folders(tmp_path)
    damage(tmp_path)
    with pytest.raises(FaceSRError, match=words):
        make_study(settings_of(tmp_path / "study", *keys, "faces=all", "repeats=1", "traps=1"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["high", "ours", "theirs"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["kinds=[acr,acr]"], "kinds names one thing twice"),
        (["kinds=[mos]"], "kinds=mos is unknown; choose among acr, pair, same"),
        (["kinds=[]"], "kinds is empty"),
        (["anchors=[lanczos]"], "anchors=lanczos is unknown"),
        (["faces=13"], "faces=13 is not possible with 12 pictures; give from 2 to 12"),
        (["faces=[f01,g]"], "faces: 'g' is no picture of high"),
        (["faces=[f01,f01]"], "faces names one face twice"),
        (["faces=some"], "faces has to be a number, all, or a list of ids"),
        (["faces=4"], "4 faces are too few for 5 versions"),
        (["persons=x.csv"], r"persons is for kinds=\[same\] alone"),
        (["enlarge=9"], "enlarge=9 is out of range"),
        (["title=''"], "title has to have 1 to 100 characters"),
    ],
)
def test_wrong_keys_are_one_sentence(tmp_path: Path, keys: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_study(settings_of(tmp_path / "study", *folders(tmp_path), *keys))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a b", "theirs"), "'a b' cannot be the name of a method; rename the folder"),
        (("original", "theirs"), "original is what the study itself calls something; rename the folder"),
        (("bicubic", "theirs"), "or leave bicubic out of anchors"),
    ],
)
def test_names_of_methods(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    keys = folders(tmp_path, methods=names)
    given = [f"folders=['{tmp_path / names[0]}',{tmp_path / names[1]}]", keys[1]]
    with pytest.raises(ConfigError, match=words):
        make_study(settings_of(tmp_path / "study", *given))


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    before = (study.folder / PLAN).read_bytes()
    with pytest.raises(DataError, match="exists and is not empty"):
        a_study(tmp_path, "seed=5")
    assert (study.folder / PLAN).read_bytes() == before


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(making, "write_secret", full)
    with pytest.raises(DataError, match="cannot be written"):
        a_study(tmp_path)
    assert not (tmp_path / "study").exists() and not list(tmp_path.glob(".unfinished*"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("min_seconds: 0.5", "min_seconds: 0.1", "min_seconds is not what the plan was made with"),
        ("raters: 4", "raters: 40", "raters is not what the plan was made with"),
        ("break_every: 40", "break_every: 1", "break_every should be greater|break_every has to be"),
        ("title:", "titel:", "titel is no key|title is missing"),
    ],
)
def test_what_the_plan_fixes_cannot_be_changed(tmp_path: Path, old: str, new: str, words: str) -> None:
    study = a_study(tmp_path)
    path = study.folder / SETTINGS
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        Study(study.folder)


def test_another_plan_is_refused_by_the_database(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    open_database(study).close()
    path = study.folder / PLAN
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match="another plan than the study"):
        open_database(Study(study.folder))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="is no plan of a study, or damaged"):
        Study(study.folder)


def test_what_raters_would_not_see_as_planned_is_refused_before_serving(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    with contextlib.closing(open_database(study)) as database:
        create_app(study, database)
        settings = study.folder / SETTINGS
        text = settings.read_text("utf-8")
        settings.write_text(text.replace("consent: {}", "consent: {eng: Fine}"), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"consent has a text in 'eng'; the languages are en, zh"):
            create_app(Study(study.folder), database)
        noise(study.picture(f"ours/{study.plan.faces[0]}"), 99)
        with pytest.raises(DataError, match="has other pixels than"):
            create_app(study, database)
