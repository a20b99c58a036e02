"""method=pulse on two ranks: the faces are shared, and files and scores are those of one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.embedders.builtin import SmallRecogniser
from facesr.image import read_png, write_png
from facesr.resample import downscale_uint8
from tests.latent.conftest import random_faces

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_ranks_give_the_faces_of_one(tmp_path: Path, eigenfaces_file: Path) -> None:
    high = random_faces(4, seed=4)
    for name, pictures in (("high", high), ("low", downscale_uint8(high))):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            write_png(tmp_path / name / f"{number}.png", picture)
    torch.manual_seed(0)
    torch.save(SmallRecogniser().state_dict(), tmp_path / "judge.pt")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def run(num_ranks: int) -> list[str]:
        keys = f"method=pulse generator=eigenfaces generator.weights={eigenfaces_file} protocol=open pulse.steps=10"
        keys += f" low={tmp_path / 'low'} high={tmp_path / 'high'} out={tmp_path / str(num_ranks)} batch_size=1"
        keys += f" embedder.weights={tmp_path / 'judge.pt'} num_resamples=20 device=cpu"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "FACESR_CACHE": str(tmp_path / f"cache{num_ranks}")}
        if num_ranks > 1:
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(num_ranks)}
        command = [sys.executable, "evaluate.py", *keys.split()]
        ranks = [
            subprocess.Popen(
                command, cwd=ROOT, env={**environment, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True
            )
            for rank in range(num_ranks)
        ]
        printed = [process.communicate(timeout=200)[0] for process in ranks]
        assert [process.returncode for process in ranks] == [0] * num_ranks
        return printed

    one, two = run(1), run(2)
    assert "of 4 faces were found" in one[0] and "of 4 faces were found" in two[0] and two[1] == ""
    first, second = (
        [line.split(",") for line in (tmp_path / name / "pulse_status.csv").read_text().splitlines()]
        for name in ("1", "2")
    )
    assert [(row[0], row[3:]) for row in first] == [(row[0], row[3:]) for row in second] and len(second) == 5
    for number in range(4):
        for folder in ("restored", "generated", "downscaled"):
            pictures = [read_png(tmp_path / name / folder / f"{number}.png").astype(int) for name in ("1", "2")]
            assert np.abs(pictures[0] - pictures[1]).max() <= 1
