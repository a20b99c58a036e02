"""The search's progress: faces that end early count whole, and the bar ends full."""

from types import SimpleNamespace

import pytest
import torch

from facesr.methods.pulse import progress as module
from facesr.methods.pulse.progress import SearchProgress
from facesr.methods.pulse.status import STATUS, write_status


class Bar:
    """What a bar was told."""

    def __init__(self, total, start, unit):
        self.total, self.told, self.figures = total, [], {}

    def advance(self, count, **figures):
        self.told.append(count)
        self.figures = figures

    def close(self):
        pass


@pytest.fixture
def progress(monkeypatch):
    monkeypatch.setattr(module, "Progress", Bar)
    return SearchProgress(num_faces=3, num_steps=10, num_seeds=1)


def rows(num):
    return SimpleNamespace(latents=torch.zeros(num, 1, 1))


def test_a_face_that_is_found_has_done_all_its_steps(progress):
    bar = progress._bar
    assert bar.total == 30
    progress.watch(0, rows(2), 0.5)
    progress.watch(1, rows(2), 0.4)
    assert bar.told == [2, 2]
    # One left: it counts for its ten steps, of which two are told already.
    progress.watch(2, rows(1), 0.3)
    assert bar.told[-1] == 9 and bar.figures == {"faces": "0/3", "found": "0", "step": "3/10", "best_l2": "3.00e-01"}
    progress.count([SimpleNamespace(converged=True), SimpleNamespace(converged=False)])
    assert sum(bar.told) == 20 and bar.figures == {"faces": "2/3", "found": "1", "step": "-"}
    progress.watch(0, rows(1), 0.1)
    assert bar.told[-1] == 1
    progress.count([SimpleNamespace(converged=True)])
    assert sum(bar.told) == bar.total and bar.figures["faces"] == "3/3" and bar.figures["found"] == "2"


def test_starts_searched_in_turn_are_one_bar(progress):
    # Two starts of one face, searched one after the other.
    progress.watch(0, rows(1), 0.5)
    progress.watch(0, rows(1), 0.5)
    assert progress._bar.told == [1, 10]


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        (["yes", "yes"], "2 of 2 faces were found within eps: "),
        (["yes", "no"], "1 of 2 faces were found within eps, the others are the closest: "),
    ],
)
def test_the_sentence_speaks_of_others_only_where_there_are_any(tmp_path, ends, sentence):
    rows = [(str(number), "1e-4", "40.00", end, "9", "8", "0", "", "") for number, end in enumerate(ends)]
    assert write_status(tmp_path, rows) == f"pulse: {sentence}{tmp_path / STATUS}"
