"""Where a restoration comes from: git where it tracks the code, a digest of the code everywhere."""

import subprocess

import pytest
import torch

from facesr.methods.provenance import code_sha256, commit_of, device_name, package_versions


@pytest.fixture
def tree(tmp_path):
    """A git tree with one committed file."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "code.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", "code.py")
    git("commit", "-q", "-m", "first")
    return tmp_path


def test_commit_and_dirt(tree):
    commit, dirty = commit_of(tree)
    assert commit is not None and len(commit) == 40 and dirty is False
    (tree / "notes.txt").touch()
    assert commit_of(tree) == (commit, False)
    (tree / "code.py").write_text("a = 2\n")
    assert commit_of(tree) == (commit, True)


def test_a_folder_that_git_does_not_track(tree, tmp_path_factory):
    inside = tree / "site-packages"
    inside.mkdir()
    (inside / "code.py").touch()
    assert commit_of(inside) == (None, None)
    assert commit_of(tmp_path_factory.mktemp("outside")) == (None, None)


def test_without_git(tree, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit_of(tree) == (None, None)


def test_code_digest_follows_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("1")
    first = code_sha256(tmp_path)
    (tmp_path / "a.pyc").write_text("2")
    assert code_sha256(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert code_sha256(tmp_path) != first


def test_versions_and_device():
    assert package_versions()["torch"] == torch.__version__
    assert device_name(torch.device("cpu")).startswith("cpu: ")
