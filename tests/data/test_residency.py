"""Where a large set lies is decided by its size alone, and it reaches a device part by part."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import TrainSettings
from facesr.data.feed import residency
from facesr.data.feed.loader import Feed
from facesr.data.feed.residency import choose_residency
from facesr.data.packed.dataset_format import HEADER_BYTES, npy_header
from facesr.data.packed.reader import PackedDataset

SIDE = 4096  # of a picture, so that the index stays short


def sparse_set(folder: Path, num_bytes: float) -> Path:
    """Writes a prepared set of so many bytes, zeros that take no room on the disk."""
    count = int(num_bytes / (SIDE * SIDE * 3))
    shape = (count, SIDE, SIDE, 3)
    folder.mkdir()
    with (folder / "images.npy").open("wb") as file:
        file.write(npy_header(shape))
        file.truncate(HEADER_BYTES + int(np.prod(shape)))
    rows = "".join(f"{number},{number}.png,,,\n" for number in range(count))
    (folder / "index.csv").write_text("position,source,sha256,identity,landmarks\n" + rows)
    about = {"format": 1, "width": SIDE, "height": SIDE, "count": count, "margin": 0, "settings": {}, "version": 1}
    (folder / "set.json").write_text(json.dumps(about))
    return folder


def read_bytes() -> int:
    """Returns how many bytes this process has had read or mapped in: resident pages of files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages by /proc")
def test_auto_goes_by_the_size_and_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (79e9, 85e9))  # an H100
    data = load_settings("train", TrainSettings, []).data
    data.augmentation.turn = 0
    found = {}
    for gigabytes in (1, 10, 100):
        faces = PackedDataset.open(sparse_set(tmp_path / f"{gigabytes}", gigabytes * 1e9))
        blocks = (tmp_path / f"{gigabytes}" / "images.npy").stat().st_blocks
        assert blocks * 512 < 1e6  # else the disk is not sparse
        before = read_bytes()
        found[gigabytes] = choose_residency("auto", faces.images.nbytes, torch.device("cuda", 0))
        feed = Feed(faces, data, seed=1, batch_size=2, rank=0, world_size=1, device=torch.device("cpu"))
        assert feed.residency == "host" and read_bytes() - before < 50e6
    assert found == {1: "device", 10: "device", 100: "host"}


def test_faces_reach_a_device_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "PART_BYTES", 500)
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)  # two at a time, and one that is left
    assert np.array_equal(residency.on_device(images, torch.device("cpu")).numpy(), images)
