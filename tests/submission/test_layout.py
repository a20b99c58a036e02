"""Archives with folders, as the preliminary's notice asks: honest ones arrive, and everything else is one sentence."""

import hashlib
import io
import struct
import subprocess
import tracemalloc
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from facesr.config import EvaluationProtocol
from facesr.errors import ConfigError, SubmissionError
from facesr.snapshots.interpolation_parts import InterpolationParts
from facesr.submission import attachment_rules
from facesr.submission.layout import Layout

ENTRIES = ["HR_images/", "model/", "script/", "script/tools/"]


def refused(bench, archive: bytes, *words: str, low: bool = True) -> None:
    """Looks at the one sentence with which an archive is refused, and for what is left behind."""
    with pytest.raises(SubmissionError) as caught:
        bench.verify(archive, low)
    assert bench.left_behind() == []
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and sentence.isascii()
    assert sentence.count(". ") == 0
    for word in words:
        assert word in sentence


def renamed(members: list[tuple[str, bytes]], old: str, new: str) -> list[tuple[str, bytes]]:
    return [(new + name.removeprefix(old) if name.startswith(old) else name, data) for name, data in members]


def of_a_blend(bench) -> dict[str, object]:
    """Returns what a manifest says of an interpolation of the two snapshots that are attached."""
    names = ("model/best.safetensors", "model/blend_with-best.safetensors")
    first, second = (hashlib.sha256(bench.attachments[name]).hexdigest() for name in names)
    parts = InterpolationParts((first, second), ("b" * 64, "c" * 64), 0.25)
    return {
        "format": "facesr-submission-2",
        "weights_sha256": parts.interpolated_weights_sha256,
        "config_sha256": parts.interpolated_config_sha256,
        "blend": asdict(parts),
    }


class TestHonest:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("low", [True, False])
    def test_pictures_arrive_by_their_ids_and_attachments_do_not(self, foldered, zipped, method, low):
        submission = foldered.verify(zipped(foldered.members(), method), low)
        assert foldered.delivered == foldered.pictures
        assert sorted(submission.manifest.attachments) == sorted(foldered.attachments)
        assert sorted(submission.sizes) == ["301", "302", "303"]
        assert foldered.left_behind() == []

    def test_entries_of_the_folders_themselves_pass(self, foldered, zipped):
        foldered.verify(zipped([*((name, b"") for name in ENTRIES), *foldered.members()]))
        assert foldered.delivered == foldered.pictures
        foldered.verify(zipped([*((name, b"") for name in ENTRIES), *foldered.members()], zipfile.ZIP_DEFLATED))

    @pytest.mark.skipif(not Path("/usr/bin/zip").exists(), reason="no zip program")
    def test_archive_of_the_zip_program_passes(self, foldered):
        folder = foldered.root / "mine"
        for name, data in foldered.members():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        names = sorted(path.name for path in folder.iterdir())
        subprocess.run(["/usr/bin/zip", "-q", "-r", "../mine.zip", *names], cwd=folder, check=True)
        data = (foldered.root / "mine.zip").read_bytes()
        assert set(ENTRIES) < set(zipfile.ZipFile(io.BytesIO(data)).namelist())
        foldered.verify(data)
        assert foldered.delivered == foldered.pictures

    def test_an_id_as_long_as_at_the_top(self, foldered):
        name = "x" * (200 - len(".png")) + ".png"
        names = [f"HR_images/{name}", "manifest.json", "model/a.txt", "script/a.py"]
        assert list(Layout.of(foldered.protocol).contents(names, "a.zip").pictures) == [name]

    def test_a_blend_needs_both_of_its_parts(self, foldered, zipped):
        foldered.attachments["model/blend_with-best.safetensors"] = b"the other weights"
        foldered.verify(zipped(foldered.members(**of_a_blend(foldered))))
        lacking = "no file in model/ with the sha256 that its manifest gives as a part of its interpolation"
        for name in ("model/blend_with-best.safetensors", "model/best.safetensors"):
            stated = of_a_blend(foldered)
            replaced, foldered.attachments[name] = foldered.attachments[name], b"other weights"
            refused(foldered, zipped(foldered.members(**stated)), lacking)
            foldered.attachments[name] = replaced

    def test_two_snapshots_do_not_stand_for_any_digest(self, foldered, zipped):
        foldered.attachments["model/blend_with-best.safetensors"] = b"the other weights"
        for model in ("demo", "demo+0.25*other", "demo+1e999*other", "demo+0.2.5*other"):
            members = foldered.members(weights_sha256="e" * 64, model=model)
            refused(foldered, zipped(members), "no file in model/ with the sha256", "as weights_sha256; pack")

    def test_a_blend_of_format_1_passes_where_its_name_says_enough(self, foldered, zipped):
        foldered.attachments["model/blend_with-best.safetensors"] = b"the other weights"
        digest = of_a_blend(foldered)["weights_sha256"]
        foldered.verify(zipped(foldered.members(weights_sha256=digest, model="a+0.5*b+0.25*c")))
        refused(foldered, zipped(foldered.members(weights_sha256=digest, model="a+0.26*b")), "no file in model/")
        foldered.attachments["model/blend_with-third.safetensors"] = b"more weights"
        refused(foldered, zipped(foldered.members(weights_sha256=digest, model="a+0.25*c")), "no file in model/")

    def test_without_weights_no_snapshot_is_asked_for(self, foldered, zipped):
        del foldered.attachments["model/best.safetensors"]
        refused(foldered, zipped(foldered.members()), "no file in model/ with the sha256")
        foldered.verify(zipped(foldered.members(weights_sha256="")))


class TestOtherLayouts:
    def test_flat_where_folders_are_asked_for(self, foldered, zipped):
        members = [*foldered.pictures.items(), foldered.members()[-1]]
        refused(foldered, zipped(members), "every file at its top", "pack it again with protocol=tiny")

    def test_folders_where_flat_is_asked_for(self, foldered, zipped):
        archive = zipped(foldered.members())
        foldered.protocol = replace(foldered.protocol, pictures_dir="")
        refused(foldered, archive, "laid out in folders ('HR_images/', 'model/' and 'script/')", "protocol=tiny")

    @pytest.mark.parametrize("name", ["hr_images", "HR_Images", "HR_image", "HR-images", "HRimages", "hr images"])
    def test_pictures_folder_spelt_otherwise(self, foldered, zipped, name):
        members = renamed(foldered.members(), "HR_images/", f"{name}/")
        refused(foldered, zipped(members), f"spells a folder '{name}/'", "asks for 'HR_images/'; rename it")

    @pytest.mark.parametrize(("old", "new"), [("script", "scripts"), ("script", "Script"), ("model", "models")])
    def test_other_folders_spelt_otherwise(self, foldered, zipped, old, new):
        members = renamed(foldered.members(), f"{old}/", f"{new}/")
        refused(foldered, zipped(members), f"spells a folder '{new}/'", f"'{old}/'; rename it")

    def test_one_more_folder_around_everything(self, foldered, zipped):
        inside = [(f"team/{name}", data) for name, data in foldered.members()]
        words = ("extra top folder 'team/'", "zip HR_images/, model/ and script/ and manifest.json themselves")
        refused(foldered, zipped(inside), *words)
        refused(foldered, zipped([("team/", b""), *inside]), *words)

    @pytest.mark.parametrize("folder", ["HR_images", "model", "script"])
    def test_a_folder_without_files(self, foldered, zipped, folder):
        members = [member for member in foldered.members() if not member[0].startswith(folder)]
        refused(foldered, zipped(members), f"no file in '{folder}/'", "pack with submit.py")
        refused(foldered, zipped([*members, (f"{folder}/", b"")]), f"no file in '{folder}/'")

    def test_only_the_folders_without_a_manifest(self, foldered, zipped):
        refused(foldered, zipped(foldered.members()[:-1]), "no manifest.json at its top")

    def test_manifest_without_attachments(self, foldered, zipped):
        record = foldered.members()
        foldered.protocol = replace(foldered.protocol, pictures_dir="")
        flat = foldered.members()[-1]
        foldered.protocol = replace(foldered.protocol, pictures_dir="HR_images")
        refused(foldered, zipped([*record[:-1], flat]), "lacks the key 'attachments'")


NAMES = [
    ("HR_images/../301.png", "unsafe"),
    ("HR_images//etc/passwd.png", "unsafe"),
    ("HR_images/C:301.png", "unsafe"),
    ("/script/a.py", "unsafe"),
    ("script/../a.py", "unsafe"),
    ("script/a\\b.py", "unsafe"),
    ("script/con.py", "unsafe"),
    ("script/a\x1b[2J.py", "unsafe"),
    ("script/" + "x" * 250, "unsafe"),
    ("__MACOSX/HR_images/._301.png", "file manager"),
    ("HR_images/.DS_Store", "file manager"),
    ("script/Thumbs.db", "file manager"),
    ("notes.txt", "at its top, where only manifest.json lies"),
    ("301.png", "at its top, where only manifest.json lies"),
    ("Manifest.json", "at its top"),
    ("data/a.txt", "holds the folder 'data/'"),
    ("empty/", "holds the folder 'empty/'"),
    ("HR_images/sub/304.png", "folders inside HR_images/"),
    ("HR_images/sub/", "folders inside HR_images/"),
    ("model/sub/a.json", "folders inside model/"),
    ("model/sub/", "folders inside model/"),
    ("script/a/b/c/d/e/f/g/h/deep.py", "below more than 8 folders"),
    ("script/.git/config", "hidden files or __pycache__"),
    ("script/.env", "hidden files or __pycache__"),
    ("script/tools/__pycache__/a.txt", "hidden files or __pycache__"),
    ("model/.hidden.json", "hidden files or __pycache__"),
    ("script/more.zip", "archives inside"),
    ("script/more.tar.gz", "archives inside"),
    ("model/more.7z", "archives inside"),
    ("HR_images/more.rar", "archives inside"),
    ("model/weights.pth", "model/ takes only"),
    ("model/weights.pkl", "model/ takes only"),
    ("model/README", "model/ takes only"),
    ("script/weights.PT", "takes programs as text"),
    ("script/best.safetensors", "takes programs as text"),
    ("script/tool.so", "takes programs as text"),
    ("script/RUN.sh", "more than once"),
    ("script/Tools/more.py", "more than once"),
    ("script/run.sh/inner.py", "more than once"),
    ("HR_images/301.PNG", "more than once"),
    ("HR_images/304.png", "does not name"),
    ("HR_images/notes.txt", "does not name"),
    ("script/extra.py", "its manifest does not name"),
]


@pytest.mark.parametrize(("name", "word"), NAMES, ids=[ascii(name[:30]) for name, _ in NAMES])
def test_names_are_refused_and_named(foldered, zipped, name, word):
    # Of what is no file of its own, the folder is named.
    shown = () if len(name) > 60 or word in ("holds the folder 'data/'", "more than once") else (ascii(name),)
    refused(foldered, zipped([*foldered.members(), (name, b"x" * (not name.endswith("/")))]), word, *shown)


class TestAttachments:
    def test_changed_missing_and_extra(self, foldered, zipped):
        members = foldered.members()
        changed = [(name, b"echo" if name == "script/run.sh" else data) for name, data in members]
        refused(foldered, zipped(changed), "'script/run.sh'", "another sha256")
        missing = [member for member in members if member[0] != "script/run.sh"]
        refused(foldered, zipped(missing), "lacks 'script/run.sh'", "asks for 5 files in model/ and script/")

    def test_too_many(self, foldered, zipped):
        foldered.attachments |= {f"script/{number}.py": b"" for number in range(1001)}
        refused(foldered, zipped(foldered.members()), "1006 files in model/ and script/ where at most 1000")

    @pytest.mark.parametrize(
        ("limit", "word"), [("MAX_SCRIPT_BYTES", "in script/"), ("MAX_ATTACHED_BYTES", "in model/ and script/")]
    )
    def test_too_large(self, foldered, zipped, monkeypatch, limit, word):
        monkeypatch.setattr(attachment_rules, limit, 100)
        refused(foldered, zipped(foldered.members()), word, "where at most 100 are read")

    def test_ratio(self, foldered, zipped):
        foldered.attachments["script/zeros.txt"] = bytes(1_000_000)
        refused(foldered, zipped(foldered.members(), zipfile.ZIP_DEFLATED), "'script/zeros.txt'", "100-fold")

    @pytest.mark.parametrize("claim", [0, 100, 200, 1_000_000])
    def test_lying_sizes(self, foldered, zipped, claim):
        archive = zipped(foldered.members(), zipfile.ZIP_DEFLATED)
        local = archive.index(b"script/run.sh") - 30
        directory = archive.rindex(b"script/run.sh") - 46
        size = struct.pack("<I", claim)
        archive = archive[: local + 22] + size + archive[local + 26 :]
        refused(foldered, archive[: directory + 24] + size + archive[directory + 28 :], "'script/run.sh'")

    def test_wrong_checksum(self, foldered, zipped):
        archive = zipped(foldered.members()).replace(b"print(1)", b"print(2)")
        refused(foldered, archive, "'script/tools/train.py' is damaged", "checksum")

    @pytest.mark.parametrize("kind", [0o120777, 0o060644, 0o010644])
    def test_links_and_special_files(self, foldered, kind):
        refused(foldered, with_attributes(foldered, "script/run.sh", kind << 16), "'script/run.sh'")

    def test_large_ones_need_little_memory(self, foldered, zipped):
        foldered.attachments["model/large.onnx"] = b"0123456789abcdef" * (1 << 21)
        archive = zipped(foldered.members())
        tracemalloc.start()
        foldered.verify(archive)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(archive) > 32 << 20 > 4 * peak

    @pytest.mark.parametrize("size", [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
    def test_pieces_join_whatever_the_size(self, foldered, zipped, size):
        noise = hashlib.shake_128(b"seed").digest(size // 2 + 1)
        foldered.attachments["model/a.txt"] = (noise + bytes(size // 2))[:size]
        foldered.verify(zipped(foldered.members(), zipfile.ZIP_DEFLATED))


def with_attributes(bench, name: str, attributes: int, data: bytes | None = None) -> bytes:
    """Returns the honest archive in which one member has these attributes."""
    file = io.BytesIO()
    members = dict(bench.members())
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in {**members, name: members.get(name, data or b"")}.items():
            info = zipfile.ZipInfo(member)
            info.create_system, info.external_attr = 3, attributes if member == name else 0o100644 << 16
            archive.writestr(info, content)
    return file.getvalue()


class TestFolderEntries:
    @pytest.mark.parametrize("attributes", [0, 0o040755 << 16 | 0x10, 0x10])
    def test_attributes_of_a_folder(self, foldered, attributes):
        foldered.verify(with_attributes(foldered, "script/", attributes or 1))

    @pytest.mark.parametrize("attributes", [0o100644 << 16, 0o120777 << 16])
    def test_other_attributes(self, foldered, attributes):
        refused(foldered, with_attributes(foldered, "script/", attributes), "'script/'")

    def test_a_folder_with_content(self, foldered):
        refused(foldered, with_attributes(foldered, "script/", 0o040755 << 16, b"hidden"), "'script/'", "regular file")

    def test_a_file_with_the_attributes_of_a_folder(self, foldered):
        refused(foldered, with_attributes(foldered, "script/run.sh", 0o040755 << 16), "'script/run.sh'")


@pytest.mark.parametrize("name", ["model", "Script", "a/b", "..", "con", "manifest.json"])
def test_a_protocol_with_an_impossible_folder(name):
    with pytest.raises(ConfigError, match=r"protocol\.pictures_dir"):
        Layout.of(EvaluationProtocol("tiny", True, 16, 24, None, pictures_dir=name))
