"""Files that are whole or absent, whatever happens while they are written."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facesr import files
from facesr.errors import DataError
from facesr.files import (
    leftovers_in,
    lock_folder,
    make_empty,
    require_new,
    unfinished_folder,
    whole_file,
    whole_folder,
)


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_durable_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "a.txt", []
    plain_replace, plain_sync = Path.replace, os.fsync

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return plain_replace(self, target)

    def sync(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        plain_sync(handle)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", sync)
    with whole_file(path, durably=True) as temporary:
        temporary.write_text("new")
        assert done == []
    assert done == ["file", "rename", "folder"] and path.read_text() == "new"
    done.clear()
    with whole_file(path) as temporary:
        temporary.write_text("newer")
    assert done == ["rename"]


def test_what_a_killed_process_leaves_is_found(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from facesr.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / "b.txt").touch()
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.txt"], check=False)
    (left,) = leftovers_in(tmp_path)
    assert left.read_text() == "half" and not (tmp_path / "a.txt").exists()


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "a.txt") as temporary:
        temporary.write_text("new")


def test_a_folder_is_made_and_emptied_of_pictures_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    make_empty(folder)
    for name in ("1.png", ".2.png.77.tmp", "notes.txt"):
        (folder / name).write_text("")
    make_empty(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    with pytest.raises(DataError, match=r"notes\.txt cannot be written"):
        make_empty(folder / "notes.txt")


def age(folder: Path, seconds: float) -> None:
    """Makes a folder and all in it look as if it had been written so long ago."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, times=(time.time() - seconds,) * 2)


def test_an_unfinished_folder_takes_its_place_or_is_gone(tmp_path: Path) -> None:
    with unfinished_folder(tmp_path, "set") as folder:
        (folder / "a").write_text("1")
        folder.rename(tmp_path / "set")
    assert (tmp_path / "set" / "a").read_text() == "1" and list(tmp_path.iterdir()) == [tmp_path / "set"]
    with pytest.raises(KeyError), unfinished_folder(tmp_path, "other") as folder:
        (folder / "a").write_text("1")
        raise KeyError
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]


FILLING = """
import sys, time
from pathlib import Path
from facesr.data.packed.cache import cached_set

def write(folder):
    (folder / "images.npy").write_bytes(bytes(1000))
    print("writing", flush=True)
    time.sleep(600)

cached_set(Path(sys.argv[1]), "faces", write)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_of_a_set_is_removed_by_the_next(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", FILLING, str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        (left,) = tmp_path.iterdir()
        age(left, 3600.0)
        with unfinished_folder(tmp_path, "next"):
            assert left.is_dir()  # its writer lives, however long it takes
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.is_dir()
    with unfinished_folder(tmp_path, "next") as folder:
        assert list(tmp_path.iterdir()) == [folder.parent]


def test_without_locks_only_what_is_a_day_old_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    assert lock_folder(tmp_path) is None
    old, recent, foreign = (tmp_path / name for name in (".unfinished-a-1", ".unfinished-b-1", ".other"))
    for folder, seconds in ((old, 25 * 3600.0), (recent, 23 * 3600.0), (foreign, 90 * 3600.0)):
        (folder / "content").mkdir(parents=True)
        (folder / "content" / "images.npy").write_bytes(bytes(10))
        age(folder, seconds)
    with unfinished_folder(tmp_path, "next"):
        assert not old.exists() and recent.is_dir() and foreign.is_dir()


def test_a_folder_that_has_just_been_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-a-1").mkdir()
    with unfinished_folder(tmp_path, "next"):
        assert (tmp_path / ".unfinished-a-1").is_dir()


def test_a_whole_folder_takes_the_place_of_a_new_one_alone(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), whole_folder(target) as made:
        (made / "half").touch()
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    target.mkdir()
    with whole_folder(target) as made:
        (made / "whole").touch()
        assert list(target.iterdir()) == []
    assert [path.name for path in target.iterdir()] == ["whole"]
    assert list((tmp_path / "a").iterdir()) == [target]
    for taken in (target, target / "whole"):
        with pytest.raises(DataError, match="exists and is not empty"):
            require_new(taken)
    require_new(tmp_path / "none")
