"""Golden values: a change that moves one raises that metric's version and states the new value with its source."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import build, load_group
from facesr.image import to_float
from facesr.methods.open import open_method
from facesr.methods.restore import restore_pictures
from facesr.metrics import default_metrics
from facesr.places import Place
from facesr.png import stack_pictures
from facesr.protocols import MetricInputs
from facesr.resample import downscale_to_grey_levels

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "metrics.json").read_text())
VERSIONS = {"is/judge": 1, "psnr_rgb": 1, "psnr_y": 1, "ssim": 1, "rmse": 1, "consistency": 1}


def drawn_pair() -> tuple[np.ndarray, np.ndarray]:
    """Ramps that wrap around, and the same with a coloured pattern; uint8 (1, 112, 96, 3) each."""
    y, x = np.mgrid[0:112, 0:96]
    high = np.stack([(x * 2 + y) % 256, (x + y * 2 + 30) % 256, (3 * x + y + 90) % 256], -1).astype(np.uint8)
    pattern = ((x * 7 + y * 13) % 23 - 11)[..., None] * np.array([1, 2, -1])
    return np.clip(high.astype(int) + pattern, 0, 255).astype(np.uint8)[None], high[None]


def test_every_version_is_that_of_the_golden_values(judge):
    judge.name = "judge"
    assert {metric.name: metric.version for metric in default_metrics([judge], with_low=True)} == VERSIONS


def test_the_drawn_pair():
    restored, high = (to_float(picture) for picture in drawn_pair())
    inputs = MetricInputs(restored, high, downscale_to_grey_levels(high))
    values = {metric.name: metric(inputs)[0] for metric in default_metrics([], with_low=True)}
    assert values == pytest.approx(GOLDEN["drawn_pair"]["values"], rel=1e-9)


@pytest.mark.shared
@pytest.mark.slow
def test_bicubic_on_the_official_pairs(shared, monkeypatch):
    monkeypatch.setenv("FACESR_WEIGHTS", str(shared / "weights"))
    names = sorted(path.name for path in (shared / "asc19" / "val_HR").glob("*.png"))
    low, high = (stack_pictures(shared / "asc19" / folder / name for name in names) for folder in ("val_LR", "val_HR"))
    cpu = torch.device("cpu")
    restored = restore_pictures(open_method("bicubic", cpu), low, device=cpu)
    judges = [
        build(load_group("embedder", name), Place.EMBEDDER)
        for name in ("edgeface", "mobilefacenet_casia", "mobilefacenet_ms1m")
    ]
    metrics = default_metrics(judges, with_low=True)
    parts = [
        [metric(MetricInputs(*(to_float(p[start : start + 50]) for p in (restored, high, low)))) for metric in metrics]
        for start in range(0, len(names), 50)
    ]
    means = {metric.name: np.concatenate([part[i] for part in parts]).mean() for i, metric in enumerate(metrics)}
    expected = {name: value for name, value in GOLDEN["bicubic_asc19_val"]["values"].items() if name in means}
    assert len(expected) == 8
    assert means == pytest.approx(expected, abs=2e-6)
