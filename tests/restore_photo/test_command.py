"""The command facesr restore: from files to files, and what it refuses. Faces are found by a stand-in."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from facesr import files
from facesr.build import build, load_settings
from facesr.config import RestoreSettings
from facesr.errors import ConfigError, FaceSRError
from facesr.photos.search import FoundFace
from facesr.photos.trained import framing_of_set
from facesr.places import Place
from facesr.restore_photo import command, jobs, work
from facesr.restore_photo import photo as module
from facesr.restore_photo.command import with_inputs
from facesr.restore_photo.jobs import jobs_of
from facesr.restore_photo.sidecar import REMARK, sidecar_of
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.weights import sha256_of

POINTS = np.array([[-0.25, -0.2], [0.25, -0.2], [0.0, 0.1], [-0.2, 0.35], [0.2, 0.35]])


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder with two photographs, each with one made face in its middle."""

    def find(picture: np.ndarray, detector: object, min_face: float) -> list[FoundFace]:
        middle = np.array([picture.shape[1], picture.shape[0]]) / 2
        return [FoundFace(middle, 16.5, 20.5, 0.0, POINTS * 16.5 + middle, 0.99)]

    monkeypatch.setattr(module, "find_faces", find)
    monkeypatch.setattr(work, "detector", lambda device: None)
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    down, across = np.mgrid[:60, :50] / 9.0
    picture = (np.stack([np.sin(across), np.cos(down), np.sin(across + down)], 2) * 60 + 128).astype(np.uint8)
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(picture).save(folder / "inner" / "b, c.jpg", quality=90)
    return folder


def run(*arguments: str) -> None:
    command.run(load_settings("restore", RestoreSettings, with_inputs(arguments)))


def test_a_folder_of_photographs_is_restored(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run(str(photos), f"out={out}")
    said = capsys.readouterr().out
    assert said.count("1 face, 1 restored") == 2 and "200x240" in said
    with Image.open(out / "a.png") as png, Image.open(out / "inner" / "b, c.jpg") as jpeg:
        assert (png.size, png.format, png.info["Comment"]) == ((200, 240), "PNG", REMARK)
        assert (jpeg.size, jpeg.format, jpeg.getexif()[0x0131]) == ((200, 240), "JPEG", REMARK)
    told = json.loads(sidecar_of(out / "a.png").read_text())
    assert told["scale"] == 4 and "Not for identifying anyone" in told["note"]
    (face,) = told["faces"]
    assert face["restored"] and face["reason"] is None and face["width"] == 16.5
    assert 0.0 < face["mirror_agreement"] <= 1.0 and face["consistency_db"] > 30.0

    # The same command finds what it made; another one does not write over it unless it is told to.
    before = (out / "a.png").stat().st_mtime_ns
    run(str(photos), f"out={out}")
    assert capsys.readouterr().out.count("was restored before") == 2
    assert (out / "a.png").stat().st_mtime_ns == before
    with pytest.raises(FaceSRError, match="is there already; give another out, or overwrite=true"):
        run(str(photos / "a.png"), f"out={out}", "strength=0.5")
    run(str(photos / "a.png"), f"out={out}", "strength=0.5", "overwrite=true")
    assert json.loads(sidecar_of(out / "a.png").read_text())["origin"]["settings"]["strength"] == 0.5
    assert not list(out.rglob("*.tmp"))


def test_what_was_restored_before_is_not_read_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (str(photos / "a.png"), f"out={tmp_path / 'out'}", "method=bicubic")
    run(*asked)
    told = sidecar_of(tmp_path / "out" / "a.png")

    def unread(path: Path) -> None:
        raise AssertionError(path)

    with monkeypatch.context() as patch:
        patch.setattr(work, "read_photo", unread)
        run(*asked)
        assert "was restored before" in capsys.readouterr().out
        with pytest.raises(FaceSRError, match=r"a\.png is there already; give another out"):
            run(*asked, "scale=3")
        # Without the JSON file nothing says how it was made.
        told.unlink()
        with pytest.raises(FaceSRError, match="there already without a JSON file that says how it was made; give anot"):
            run(*asked)
    # Where there is one of another picture, it goes.
    told.write_text("{}")
    run(*asked, "sidecar=false", "overwrite=true")
    assert not told.exists()


def test_after_a_kill_the_same_command_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (str(photos / "a.png"), f"out={tmp_path / 'out'}", "method=bicubic")
    out = tmp_path / "out"

    class Killed(BaseException):
        pass

    def killed(temporary: Path, path: Path, *, durably: bool) -> None:
        if path.name == "a.png":
            raise Killed

    with monkeypatch.context() as patch:
        put = files.put_in_place
        patch.setattr(files, "put_in_place", lambda *place, **how: (killed(*place, **how), put(*place, **how)))
        with pytest.raises(Killed):
            run(*asked)
    assert [path.name for path in out.iterdir()] == ["a.png.restored.json"]
    leftover, running = out / ".a.png.4194305.tmp", out / ".a.png.1.tmp"  # no process has the first number
    leftover.write_bytes(b"half")
    running.write_bytes(b"half")
    (out / ".b.png.4194305.tmp").write_bytes(b"another's")
    run(*asked)
    assert sorted(path.name for path in out.iterdir()) == [
        ".a.png.1.tmp",
        ".b.png.4194305.tmp",
        "a.png",
        "a.png.restored.json",
    ]


def test_one_bad_photograph_does_not_keep_the_others(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.jpg").write_text("no picture")
    with pytest.raises(FaceSRError, match=r"^1 of 3 photographs were not restored: 'aa.jpg'; see above\.$"):
        run(str(photos), f"out={tmp_path / 'out'}", "sidecar=false", "method=bicubic")
    assert "aa.jpg is text" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "b, c.jpg"]
    with pytest.raises(FaceSRError, match=r"aa\.jpg is text"):
        run(str(photos / "aa.jpg"), f"out={tmp_path / 'out'}")


def unopened(*asked: object, **how: object) -> None:
    raise AssertionError(asked)


def large(suffix: str) -> bytes:
    """Returns a whole picture of one black pixel whose head says 20000x20000."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, {".jpg": "JPEG", ".bmp": "BMP", ".png": "PNG"}[suffix])
    data, side = bytearray(file.getvalue()), 20000
    if suffix == ".jpg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = side.to_bytes(2, "big") * 2
    elif suffix == ".bmp":
        data[18:26] = side.to_bytes(4, "little") * 2
    else:
        data[16:24] = side.to_bytes(4, "big") * 2
    return bytes(data)


ANIMATED_WEBP = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\x09\0\0" * 2
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
REFUSED_BY_HEAD = [
    ("a.heic", HEIC, "is a HEIC picture, which needs the package pillow-heif; install it with: uv sync --extra heic"),
    ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "is an AVIF picture, which this Pillow does not read"),
    ("a.gif", b"GIF89a", "is a GIF, which is not read"),
    ("a.jpg", b"some text", "is text, not a picture"),
    ("a.jpg", b"", "is empty; copy it again"),
    *((f"a{suffix}", large(suffix), "has 20000x20000 pixels, above") for suffix in (".jpg", ".bmp", ".png")),
    ("a.webp", ANIMATED_WEBP, "is animated; save one of its pictures"),
]


@pytest.fixture
def without_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package for HEIC, a Pillow without AVIF, and networks that may not be opened."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.setattr(work, "open_method", unopened)


@pytest.mark.usefixtures("without_readers")
@pytest.mark.parametrize(("name", "data", "sentence"), REFUSED_BY_HEAD)
def test_a_kind_is_refused_before_a_network_is_opened(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FaceSRError, match=re.escape(f"{name} {sentence}")):
        run(str(tmp_path / name), f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_readers")
def test_all_bad_photographs_are_told_before_a_network_is_opened(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for number, (name, data, _) in enumerate(REFUSED_BY_HEAD):
        (bad / f"{number}{name}").write_bytes(data)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"another's")
    asked = [str(bad), str(photos / "a.png"), f"out={tmp_path / 'out'}"]
    count = len(REFUSED_BY_HEAD) + 1
    with pytest.raises(FaceSRError, match=rf"^{count} of {count} photographs were not restored"):
        run(*asked, "report=true")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == count and all(
        f"{number}{name} {sentence}" in said[number] for number, (name, _, sentence) in enumerate(REFUSED_BY_HEAD)
    )
    assert "a.png is there already without a JSON file" in said[-1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    # With a good one among them the others are told first, and then networks are opened.
    with pytest.raises(AssertionError, match="pretrained:wild"):
        run(*asked, str(photos / "inner"))
    assert len(capsys.readouterr().err.splitlines()) == count


def test_what_was_restored_before_is_no_longer_asked_what_it_is(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (str(photos / "a.png"), f"out={tmp_path / 'out'}", "method=bicubic")
    run(*asked)
    monkeypatch.setattr(jobs, "check_photo", unopened)
    run(*asked)
    assert "was restored before" in capsys.readouterr().out


@pytest.mark.slow
def test_the_sidecar_names_the_background(photos: Path, tmp_path: Path) -> None:
    shipped = "pretrained:asc19_psnr"
    for scale, expected in ((2, (shipped, sha256_of(snapshot_file(shipped)))), (1, ("the photograph", ""))):
        out = tmp_path / f"out{scale}"
        run(str(photos / "a.png"), f"out={out}", f"background={shipped}", f"scale={scale}", "faces=[5]")
        origin = json.loads(sidecar_of(out / "a.png").read_text())["origin"]
        assert (origin["background"], origin["background_sha256"]) == expected
        with Image.open(out / "a.png") as written:
            assert written.size == (50 * scale, 60 * scale)


def test_a_framing_that_faces_cannot_be_placed_by_is_refused(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.safetensors"
    node = {"_target_": "facesr.models.facesr.FaceSR", "channels": 32, "num_groups": 1, "num_blocks": 1}
    state = build(node, Place.GENERATOR).state_dict()
    framing = framing_of_set("template", 96, 112)
    write_snapshot(path, Snapshot(state, node, "turned", 1.0, "c" * 64, (), {}, "", framing=framing))
    with pytest.raises(ConfigError, match=r"method=.*turned\.safetensors was trained on faces that were turned"):
        run(str(photos), f"out={tmp_path / 'out'}", f"method={path}")
    assert not (tmp_path / "out").exists()


def test_a_name_says_what_the_file_is(photos: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "really_png.jpg"
    wrong.write_bytes((photos / "a.png").read_bytes())
    run(str(wrong), f"out={tmp_path / 'out'}", "scale=1", "strength=0", "method=bicubic")
    with Image.open(tmp_path / "out" / "really_png.png") as written, Image.open(wrong) as given:
        assert np.array_equal(np.asarray(written), np.asarray(given))
    # Two that would get one name by what they hold are refused before anything is done.
    (tmp_path / "really_png.png").write_bytes(wrong.read_bytes())
    asked = (str(wrong), str(tmp_path / "really_png.png"), "overwrite=true")
    with pytest.raises(FaceSRError, match=r"would both become .*two/really_png\.png; rename one of them"):
        run(*asked, f"out={tmp_path / 'two'}")
    assert not (tmp_path / "two").exists()
    dated = tmp_path / "IMG.2020"
    dated.write_bytes(wrong.read_bytes())
    assert jobs_of(load_settings("restore", RestoreSettings, with_inputs([str(dated), "out=o"])))[0].target == Path(
        "o/IMG.2020.png"
    )


def test_no_photograph_of_the_call_is_written_over(photos: Path, tmp_path: Path) -> None:
    """A target may be another job's source: a folder of the same name inside, or a name that the content changes."""
    data = (photos / "a.png").read_bytes()
    (tmp_path / "year" / "year").mkdir(parents=True)
    new = tmp_path / "new"
    new.mkdir()
    for path in (tmp_path / "year" / "a.png", tmp_path / "year" / "year" / "a.png", new / "a.jpg"):
        path.write_bytes(data)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png", format="JPEG")
    cases = [
        ([str(tmp_path / "year")], r"year/a\.png would be written over"),
        ([str(new / "a.jpg"), str(tmp_path / "a.png")], r"a\.png would be written over"),
    ]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for inputs, sentence in cases:
        with pytest.raises(FaceSRError, match=sentence):
            run(*inputs, f"out={tmp_path}", "overwrite=true", "method=bicubic")
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out=OUT"], "no photograph is given"),
        (["PHOTOS"], "out has no value"),
        (["PHOTOS/none.jpg", "out=OUT"], "none.jpg does not exist"),
        (["PHOTOS", "out=PHOTOS/inner"], "lies inside"),
        (["PHOTOS/a.png", "out=PHOTOS"], "would be written over"),
        (["PHOTOS/a.png", "out=PHOTOS/a.png"], "is a file; give a folder"),
        (["PHOTOS/a.png", "PHOTOS/inner/../a.png", "out=OUT"], "would both become"),
        (["PHOTOS/inner/empty", "out=OUT"], "holds no picture"),
        (["PHOTOS", "out=OUT", "scale=5"], "scale=5 is unknown"),
        (["PHOTOS", "out=OUT", "faces=some"], "give all, largest"),
        (["PHOTOS", "out=OUT", "method=pulse"], "pulse restores no photographs"),
        (["PHOTOS", "out=OUT", "method=nothing"], "nothing is neither"),
        (["PHOTOS", "out=OUT", "background=nothing"], "nothing is neither"),
        (["PHOTOS", "out=OUT", "background=pulse"], "pulse restores no photographs"),
        (["PHOTOS", "out=OUT", "strength=2"], "strength"),
        (["PHOTOS", "out=OUT", "strenght=1"], "did you mean strength"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (photos / "inner" / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    named = [word.replace("PHOTOS", str(photos)).replace("OUT", str(tmp_path / "out")) for word in arguments]
    with pytest.raises(FaceSRError, match=sentence):
        run(*named)
    assert sorted(tmp_path.rglob("*")) == before


def test_any_file_name_reaches_the_settings_as_it_is(tmp_path: Path) -> None:
    names = ["a=b.png", "it's.png", "back\\slash.png", "a,b [1].png", "${env}.png", "\u00dcn\u00ef.png", "{x: 1}.png"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(b"")
    settings = load_settings("restore", RestoreSettings, with_inputs([*map(str, paths), f"out={tmp_path / 'o'}"]))
    assert settings.inputs == [str(path) for path in paths]
    assert [job.source for job in jobs_of(settings)] == paths


def test_keys_without_a_name_are_left_as_they_are() -> None:
    assert with_inputs(["--help"]) == ["--help"]
    assert with_inputs(["out=x", "a.jpg", "scale=2"]) == ["inputs=['a.jpg']", "out=x", "scale=2"]
    with pytest.raises(ConfigError):
        jobs_of(load_settings("restore", RestoreSettings, []))
