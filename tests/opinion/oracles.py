"""What other people's programs say of ratings that a formula makes.

sureal, choix and krippendorff are for development alone, and heavy (105 MB with pandas and matplotlib), so their values
are kept in tests/golden/opinion.json, and compared anew where the packages are installed. They were made by

    uv run --group oracles python tests/opinion/oracles.py tests/golden/opinion.json
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ratings() -> NDArray[np.float64]:
    """Returns (12, 30): ratings 1 to 5 of 30 pictures by 12 raters, one of them erratic, without any random numbers."""
    rater, picture = np.arange(12)[:, None], np.arange(30)
    quality = 1.2 + 3.4 * ((7 * picture) % 30) / 29.0
    bias = 0.6 * np.sin(2.1 * rater)
    noise = (0.4 + 0.1 * (rater % 4)) * np.sin(5.0 + 3.7 * rater + 2.9 * picture * (rater + 1))
    found = np.clip(np.rint(quality + bias + noise), 1, 5)
    # One whom BT.500 rejects: 1 for the best half and 5 for the others.
    found[11] = np.where(quality > np.median(quality), 1, 5)
    return np.asarray(found, np.float64)


def ratings_with_gaps() -> NDArray[np.float64]:
    """Returns the same with a seventh of the ratings missing."""
    rater, picture = np.arange(12)[:, None], np.arange(30)
    return np.where((3 * rater + 5 * picture) % 7 == 0, np.nan, ratings())


def comparisons() -> NDArray[np.intp]:
    """Returns (200, 3): left, right and whether left was chosen, of 4 methods."""
    number = np.arange(200)
    left = number % 4
    right = (left + 1 + (number // 4) % 3) % 4
    won = np.sin(1.7 * number * number) + 0.9 * (left - right) / 2.0 + 0.2 > 0
    return np.stack([left, right, won.astype(int)], axis=1)


def oracle_values() -> dict[str, Any]:
    """Returns what sureal, krippendorff and choix say; needs all three."""
    import choix
    import krippendorff

    found: dict[str, Any] = {}
    for name, table in (("whole", ratings()), ("gaps", ratings_with_gaps())):
        found[name] = {
            **_sureal(table),
            "alpha_ordinal": krippendorff.alpha(table, level_of_measurement="ordinal"),
            "alpha_interval": krippendorff.alpha(table, level_of_measurement="interval"),
        }
    chosen = [(left, right) if won else (right, left) for left, right, won in comparisons().tolist()]
    strengths = choix.opt_pairwise(4, chosen, alpha=1e-12, tol=1e-12)
    found["strengths"] = (strengths - strengths.mean()).tolist()
    return found


def _sureal(table: NDArray[np.float64]) -> dict[str, Any]:
    import sureal
    from sureal.dataset_reader import RawDatasetReader

    dataset = SimpleNamespace(
        dataset_name="made",
        yuv_fmt="yuv420p",
        width=96,
        height=112,
        ref_videos=[{"content_id": 0, "content_name": "a", "path": ""}],
        dis_videos=[
            {"content_id": 0, "asset_id": j, "os": table[:, j].tolist(), "path": ""} for j in range(table.shape[1])
        ],
    )

    def run(model: Any) -> dict[str, Any]:
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            result: dict[str, Any] = model(RawDatasetReader(dataset)).run_modeling()
        return result

    mos, annex_e, bt500 = run(sureal.MosModel), run(sureal.P910AnnexEModel), run(sureal.BT500Model)
    low, high = annex_e["observer_inconsistency_ci95"]
    spread = np.array(annex_e["observer_inconsistency"])
    return {
        "mos": [float(value) for value in mos["quality_scores"]],
        "quality": [float(value) for value in annex_e["quality_scores"]],
        "bias": [float(value) for value in annex_e["observer_bias"]],
        "inconsistency": spread.tolist(),
        "inconsistency_low": (spread - low).tolist(),
        "inconsistency_high": (spread + high).tolist(),
        "rejected": [bool(value) for value in bt500["observer_rejected"]],
        "outliers": [float(value) for value in bt500["observer_rejected_1st_stats"]],
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(oracle_values(), indent=1) + "\n")
