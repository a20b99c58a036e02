"""The ranking of archives without a server: its figures of a set."""

import csv
import io

import numpy as np

from facesr.leaderboard.offline import Scored, ranked, ranking_csv


def test_table_has_means_and_the_rmse_of_the_set() -> None:
    columns = {"perceptual_index": np.array([3.0, 4.0, 5.0]), "rmse_y": np.array([3.0, 4.0, 12.0])}
    columns["psnr_y"] = columns["rmse_y"]
    rows = ranked([Scored("a.zip", {"team": "A"}, "0" * 64, columns)], "perceptual_index", higher_is_better=False)
    (row,) = csv.DictReader(io.StringIO(ranking_csv(rows, [], "perceptual_index")))
    # The root of (9 + 16 + 144) / 3, and 19 / 3.
    assert (row["rmse_y"], row["psnr_y"], row["perceptual_index"]) == ("7.505553", "6.333333", "4.000000")
