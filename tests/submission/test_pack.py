"""Restoring into a kept folder, and packing it: the same bytes each time, whole or absent."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.errors import ConfigError, DataError
from facesr.methods.folder import RestoredFolder, RestoreOptions, read_restored, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.method import Guard, Method
from facesr.methods.open import open_method
from facesr.methods.record import Restoration
from facesr.methods.restore import restore_pictures
from facesr.png import read_png
from facesr.resample import upscale
from facesr.submission.manifest import Manifest, manifest_bytes
from facesr.submission.pack import check_out, check_places, check_team, named_out, pack, write_archive

pytestmark = pytest.mark.usefixtures("steady_code")

OPTIONS = RestoreOptions(torch.device("cpu"), batch_size=2, self_ensemble=False)


def restored(bench, options: RestoreOptions = OPTIONS, **more) -> RestoredFolder:
    low = LowPictures.open(bench.low, bench.protocol)
    return restore_folder(open_method("bicubic", options.device), low, options, bench.root / "kept", **more)


def packed(bench, folder: RestoredFolder, name: str = "a.zip", **more):
    arguments = {"team": "Team 1", "protocol": bench.protocol, "low": bench.low, **more}
    return pack(folder.path, bench.root / name, **arguments)


class TestRestoring:
    def test_pictures_are_those_of_the_method(self, bench):
        folder = restored(bench)
        for key in ("301", "302", "303"):
            low = torch.from_numpy(read_png(bench.low / f"{key}.png")).permute(2, 0, 1)[None] / 255.0
            want = (upscale(low).clamp(0, 1) * 255.0 + 0.5).floor()[0].permute(1, 2, 0).numpy()
            assert np.array_equal(read_png(folder.path / "pictures" / f"{key}.png"), want)

    def test_record(self, bench):
        record = restored(bench).restoration
        assert (record.model, record.weights_sha256, record.flip_ensemble) == ("bicubic", "", False)
        assert record.seconds > 0.0 and record.energy_joules is None
        assert list(record.files) == ["301.png", "302.png", "303.png"]
        assert record.packages["torch"] == torch.__version__

    def test_the_same_restoration_is_found_again(self, bench):
        first, second = restored(bench), restored(bench)
        assert (first.reused, second.reused) == (False, True)
        assert first.path == second.path and first.restoration == second.restoration

    def test_another_restoration_gets_another_folder(self, bench):
        first = restored(bench)
        assert restored(bench, replace(OPTIONS, self_ensemble=True)).path != first.path
        assert restored(bench, replace(OPTIONS, batch_size=1)).path != first.path
        (bench.low / "301.png").rename(bench.low / "300.png")
        assert restored(bench).path != first.path

    def test_another_guard_gets_another_folder(self, bench):
        plain = open_method("bicubic", OPTIONS.device)
        guards = [None, Guard(on=False), Guard(bound_db=20.0, fallback=plain), Guard(bound_db=30.0, fallback=plain)]
        low = LowPictures.open(bench.low, bench.protocol)
        folders = [restore_folder(replace(plain, guard=guard), low, OPTIONS, bench.root / "kept") for guard in guards]
        assert len({folder.path for folder in folders}) == len(guards) and not any(one.reused for one in folders)

    @pytest.mark.parametrize("harm", ["changed", "missing", "extra", "record"])
    def test_a_damaged_folder_is_restored_again(self, bench, harm):
        first = restored(bench)
        picture = first.path / "pictures" / "302.png"
        whole = picture.read_bytes()
        if harm == "changed":
            picture.write_bytes(whole[:-1])
        elif harm == "missing":
            picture.unlink()
        elif harm == "extra":
            (picture.parent / "304.png").write_bytes(whole)
        else:
            (first.path / "restoration.json").write_text("{}")
        assert read_restored(first.path) is None
        again = restored(bench)
        assert not again.reused and picture.read_bytes() == whole
        assert read_restored(first.path) == again.restoration

    def test_reuse_can_be_refused(self, bench):
        restored(bench)
        assert not restored(bench, reuse=False).reused
        assert [path.name[0] for path in (bench.root / "kept").iterdir()] == ["b"]

    def test_nothing_half_done_stays(self, bench, monkeypatch):
        def fail(*arguments, **named):
            raise KeyboardInterrupt

        monkeypatch.setattr("facesr.methods.folder.restore_pictures", fail)
        with pytest.raises(KeyboardInterrupt):
            restored(bench)
        assert list((bench.root / "kept").iterdir()) == []

    def test_full_disk(self, bench, monkeypatch):
        def full(path, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match="No space left on device"):
            restored(bench)
        assert list((bench.root / "kept").iterdir()) == []

    def test_progress_counts_the_pictures_of_each_batch(self, bench, monkeypatch):
        monkeypatch.setattr("facesr.methods.folder._CHUNK", 2)
        counts: list[int] = []
        folder = restored(bench, on_batch=counts.append)
        assert counts == [2, 1]
        assert len(folder.restoration.files) == 3

    def test_flip_ensemble_is_the_mean_of_both_answers(self, bench):
        class Lopsided(torch.nn.Module):
            def forward(self, low):
                ramp = torch.linspace(0, 0.5, low.shape[-1] * 4)
                return upscale(low) * 0.5 + ramp

        method = Method("lopsided", Lopsided())
        low = np.zeros((1, 2, 2, 3), np.uint8)
        once = restore_pictures(method, low, device=torch.device("cpu"))
        both = restore_pictures(method, low, device=torch.device("cpu"), self_ensemble=True)
        assert once[0, 0, 0, 0] == 0 and once[0, 0, -1, 0] == 128
        assert np.array_equal(both, both[:, :, ::-1]) and both[0, 0, 0, 0] == 64


class TestPacking:
    def test_twice_gives_identical_bytes(self, bench):
        folder = restored(bench)
        first, second = packed(bench, folder, "a.zip"), packed(bench, folder, "b.zip")
        assert first.path.read_bytes() == second.path.read_bytes()
        assert first.submission.sha256 == second.submission.sha256

    def test_bytes_do_not_depend_on_time_or_file_dates(self, bench):
        folder = restored(bench)
        first = packed(bench, folder).path.read_bytes()
        for path in folder.path.rglob("*"):
            os.utime(path, (0, 1_000_000_000))
            path.chmod(0o700)
        assert packed(bench, folder, "b.zip").path.read_bytes() == first

    def test_members_are_sorted_stored_and_dated_1980(self, bench):
        with zipfile.ZipFile(packed(bench, restored(bench)).path) as archive:
            infos = archive.infolist()
        assert [info.filename for info in infos] == ["301.png", "302.png", "303.png", "manifest.json"]
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
        assert {info.external_attr >> 16 for info in infos} == {0o100644}

    def test_an_identical_file_is_left_alone_and_another_is_not_replaced(self, bench):
        folder = restored(bench)
        first = packed(bench, folder)
        inode = first.path.stat().st_ino
        assert packed(bench, folder).unchanged and first.path.stat().st_ino == inode
        first.path.write_bytes(b"mine")
        with pytest.raises(ConfigError, match="overwrite=true"):
            packed(bench, folder)
        assert first.path.read_bytes() == b"mine"
        assert not packed(bench, folder, overwrite=True).unchanged
        assert first.path.read_bytes().startswith(b"PK")
        assert {path.name for path in bench.root.glob(".*")} == set()

    def test_an_interrupted_archive_is_absent(self, bench, monkeypatch):
        folder = restored(bench)

        def full(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"a\.zip cannot be written: No space left"):
            packed(bench, folder)
        assert list(bench.root.glob("*.zip")) == list(bench.root.glob(".*")) == []

    def test_a_folder_that_was_touched_is_not_packed(self, bench):
        folder = restored(bench)
        (folder.path / "pictures" / "301.png").write_bytes(b"better")
        with pytest.raises(DataError, match="no whole restored folder"):
            packed(bench, folder)

    def test_pictures_that_break_the_protocol_are_not_published(self, bench):
        folder = restored(bench)
        with pytest.raises(Exception, match=r"8x8|other|16x24 where"):
            packed(bench, folder, protocol=type(bench.protocol)("tiny", True, 8, 8, None), low=None)
        assert list(bench.root.glob("*.zip")) == []

    def test_bytes_of_a_flat_archive_never_change(self, bench):
        """Source: sha256 of what this project wrote before archives could have folders (commit 9275c61)."""
        record = Restoration(
            *("demo", "a" * 64, "b" * 64, 12.5, ("builtin",), False, "d" * 64, "cpu: test", 0.5, None, None, None),
            *("c" * 64, {"torch": "2"}, {"301.png": "1" * 64, "302.png": "2" * 64}),
        )
        manifest = manifest_bytes(Manifest("Team 1", "tiny", record))
        assert hashlib.sha256(manifest).hexdigest().startswith("5cb7322a9979b15348babc42805eb65f")
        (bench.root / "302.png").write_bytes(b"two")
        file = io.BytesIO()
        write_archive(file, {"manifest.json": manifest, "302.png": bench.root / "302.png", "301.png": b"one"}, "a.zip")
        assert hashlib.sha256(file.getvalue()).hexdigest().startswith("dff7e65804609133044308ba57c017f5")


@pytest.mark.parametrize("team", [None, "", "a/b", "-a", "a\nb", "x" * 65])
def test_odd_teams(team):
    with pytest.raises(ConfigError, match="team=NAME"):
        check_team(team)


@pytest.mark.parametrize("out", [None, "", "a.tar", "a", ".zip", "a.zip/"])
def test_odd_outs(out):
    with pytest.raises(ConfigError, match=r"out=FILE\.zip"):
        named_out(out)


def test_out_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        check_out(tmp_path / "file" / "a.zip")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        named_out(str(tmp_path / "folder.zip"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_out_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        check_out(tmp_path / "a.zip")
    tmp_path.chmod(0o700)


def test_out_makes_its_folder(tmp_path):
    check_out(tmp_path / "new" / "a.zip")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("out", "kept_in", "words"),
    [
        ("low/a.zip", "kept", "out={}/low/a.zip lies in low="),
        ("low/new/a.zip", "kept", "lies in low="),
        ("link/a.zip", "kept", "lies in low="),
        ("a.zip", "low", "restored_dir={}/low lies in low="),
        ("a.zip", "low/kept", "restored_dir={}/low/kept lies in low="),
        ("script/a.zip", "kept", "out={}/script/a.zip lies in script="),
        ("a.zip", "script/kept", "lies in script="),
        ("kept/model-1/a.zip", "kept", "lies inside a folder of restored_dir="),
    ],
)
def test_nothing_is_written_into_a_folder_that_is_read(tmp_path, out, kept_in, words):
    (tmp_path / "low").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "low")
    with pytest.raises(ConfigError) as caught:
        check_places(tmp_path / "low", tmp_path / out, tmp_path / kept_in, str(tmp_path / "script"))
    assert words.format(tmp_path) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "low"]


@pytest.mark.parametrize(("out", "kept_in"), [("a.zip", "kept"), ("kept/a.zip", "kept"), ("a.zip", ".")])
def test_places_that_do_no_harm(tmp_path, out, kept_in):
    check_places(tmp_path / "low", tmp_path / out, tmp_path / kept_in, str(tmp_path / "script"))
