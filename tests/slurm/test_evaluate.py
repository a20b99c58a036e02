"""slurm/evaluate.sbatch on a real Slurm: an array of evaluations."""

import json
from pathlib import Path

import pytest

from facesr.data import export
from facesr.errors import EXIT_USER_ERROR
from tests.slurm.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_an_array_scores_what_a_list_names(cluster: Cluster, tmp_path: Path) -> None:
    faces, results = tmp_path / "faces", tmp_path / "results"
    assert export.main(["synthetic", str(faces), "--num", "3"]) == 0
    wanted = tmp_path / "list.txt"
    wanted.write_text(
        f"method=bicubic 'out={results}/bi cubic'\nmethod=nearest out={results}/nearest\nmethod={tmp_path}/no_run\n"
    )
    common = (f"low={faces}/low", f"high={faces}/high", f"restored_dir={tmp_path}/restored", "num_resamples=50")

    job = cluster.submit("evaluate.sbatch", str(wanted), *common, options=("--array=1-4",))
    states = job.wait_for_array(4)
    assert states == {
        1: ("COMPLETED", 0),
        2: ("COMPLETED", 0),
        3: ("FAILED", EXIT_USER_ERROR),
        4: ("FAILED", EXIT_USER_ERROR),
    }, cluster.told()
    assert "no_run" in job.said() and "has no line 4" in job.said()
    scores = {
        name: json.loads((results / name / "summary.json").read_text())["score"] for name in ("bi cubic", "nearest")
    }
    assert scores["bi cubic"] > scores["nearest"]

    # Run again, a task takes the restored pictures as they are and ends with the same scores.
    pictures = sorted((tmp_path / "restored").rglob("*.png"))
    before = [path.stat().st_mtime_ns for path in pictures]
    again = cluster.submit("evaluate.sbatch", str(wanted), *common, options=("--array=2",))
    assert again.wait_for_array(1) == {2: ("COMPLETED", 0)}, cluster.told()
    assert pictures and [path.stat().st_mtime_ns for path in pictures] == before
    assert json.loads((results / "nearest" / "summary.json").read_text())["score"] == scores["nearest"]
