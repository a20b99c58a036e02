"""What TensorBoard is given, read back from the file."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from facesr import dist
from facesr.training import board as module
from facesr.training.board import Board, picture_grid


def test_points_stand_at_their_images(tmp_path: Path) -> None:
    board = Board(tmp_path, num_images=7000)
    board.scalars(8000, {"loss/total": 0.25, "is/builtin": 0.5})
    board.scalars(9000, {"loss/total": 0.125})
    board.histogram(9000, "faces", np.array([0.0, 0.5, 0.5, 1.0]))
    board.pictures(9000, [np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 8, 8, 3), 255, np.uint8)])
    board.close()
    (file,) = tmp_path.iterdir()
    events = list(EventFileLoader(str(file)).Load())
    values = {(value.tag, event.step): value for event in events for value in event.summary.value}
    points = {key: float(tensor_util.make_ndarray(value.tensor)) for key, value in values.items() if "/" in key[0]}
    assert points == {("loss/total", 8000): 0.25, ("is/builtin", 8000): 0.5, ("loss/total", 9000): 0.125}
    buckets = tensor_util.make_ndarray(values["faces", 9000].tensor)
    assert buckets[:, 2].sum() == 4
    width, height, *_ = tensor_util.make_ndarray(values["low | bicubic | restored | high", 9000].tensor)
    assert (int(width), int(height)) == (2 * 16, 8)
    # What a killed process wrote beyond image 7000 is hidden.
    assert [event.step for event in events if event.session_log.status == event.session_log.START] == [7001]


@pytest.mark.parametrize(("target", "name"), [({"_target_": "facesr.models.facesr.FaceSR"}, "FaceSR"), ({}, "")])
def test_final_scores_stand_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: dict[str, str], name: str
) -> None:
    given: list[object] = []
    plain = module.hparams
    monkeypatch.setattr(module, "hparams", lambda *both: given.extend(both) or plain(*both))
    board = Board(tmp_path, 0)
    settings = {"seed": 1, "precision": "fp32", "duration_kimg": 2.0, "batch_size": 3, "ema_halflife_kimg": 4.0}
    config = {
        **settings, "gradient_clip_norm": 5.0, "generator": target, "losses": {"pixel": {}, "identity": {}},
        "generator_optimizer": {"lr": 0.5}, "name": "left out",
    }  # fmt: skip
    board.final(config, {"is/builtin": 0.75})
    board.close()
    more = {"gradient_clip_norm": 5.0, "generator": name, "losses": "identity pixel", "learning_rate": 0.5}
    # The metric is the curve that the run has drawn already, so that no card with one point is added.
    assert given == [{**settings, **more}, {"validation/is/builtin": 0.75}]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == [] and "_hparams_/experiment" in events.summary_metadata


def test_what_is_told_anew_counts_although_the_clock_went_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The node that goes on from image 100 is an hour behind, and so is a third one.
    for now, start, value in ((5000, 0, 1.0), (1400, 100, 0.5), (1300, 100, 0.25)):
        monkeypatch.setattr(module.time, "time", lambda now=now: float(now))
        board = Board(tmp_path, start)
        for num_images in (100, 200, 300) if start == 0 else (200,):
            board.scalars(num_images, {"loss/total": value})
        board.close()
    stamps = [int(path.name.split(".")[3]) for path in sorted(tmp_path.iterdir())]
    assert stamps == [1298, 1299, 1300]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss/total")] == [(100, 1.0), (200, 0.25)]


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_main", lambda: False)
    board = Board(tmp_path / "board", 0)
    board.scalars(1, {"loss/total": 1.0})
    board.close()
    assert not (tmp_path / "board").exists()


def test_a_grid_has_a_strip_for_each_face_and_black_where_there_is_none() -> None:
    low = np.arange(1, 4, dtype=np.uint8).repeat(3).reshape(3, 1, 1, 3)
    high = np.broadcast_to(10 * low, (3, 2, 2, 3))
    rows = [[1, 1, 10, 10, 2, 2, 20, 20], [3, 3, 30, 30, 0, 0, 0, 0]]
    expected = np.array(rows, np.uint8).repeat(2, axis=0)[..., None].repeat(3, axis=2)
    assert np.array_equal(picture_grid([low, high]), expected)
