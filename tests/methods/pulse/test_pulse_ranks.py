"""method=pulse on two ranks: the faces are shared, and files and scores are those of one."""

from pathlib import Path

import numpy as np
import pytest

from facesr.png import read_png
from tests.methods.pulse.conftest import write_folders
from tests.ranks import run_worlds

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
def test_two_ranks_give_the_faces_of_one(tmp_path: Path, eigenfaces_file: Path) -> None:
    write_folders(tmp_path, num_faces=4)

    def keys(num_ranks: int) -> list[str]:
        return [
            *("method=pulse", "generator=eigenfaces", f"generator.weights={eigenfaces_file}", "protocol=open"),
            *("pulse.steps=10", f"low={tmp_path / 'low'}", f"high={tmp_path / 'high'}", "batch_size=1"),
            *(f"out={tmp_path / str(num_ranks)}", f"restored_dir={tmp_path / f'kept{num_ranks}'}"),
            *(f"embedder.weights={tmp_path / 'judge.pt'}", "num_resamples=20", "device=cpu"),
        ]

    worlds = [(number, keys(number), {"FACESR_CACHE": str(tmp_path / f"cache{number}")}) for number in (1, 2)]
    left = run_worlds("evaluate.py", worlds, timeout_s=300)
    assert [rank.returncode for ranks in left for rank in ranks] == [0, 0, 0], [rank.stderr for rank in left[1]]
    one, two = ([rank.stdout for rank in ranks] for ranks in left)
    assert "of 4 faces were found" in one[0] and "of 4 faces were found" in two[0] and two[1] == ""
    first, second = (
        [line.split(",") for line in (tmp_path / name / "pulse_status.csv").read_text().splitlines()]
        for name in ("1", "2")
    )
    assert [(row[0], row[3:]) for row in first] == [(row[0], row[3:]) for row in second] and len(second) == 5
    for number in range(4):
        for folder in ("kept{}/*/pictures", "{}/generated", "{}/downscaled"):
            paths = [next(tmp_path.glob(f"{folder.format(name)}/{number}.png")) for name in ("1", "2")]
            pictures = [read_png(path).astype(int) for path in paths]
            assert np.abs(pictures[0] - pictures[1]).max() <= 1
