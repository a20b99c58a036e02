"""No metric's value depends on the processor's level of SIMD: the same in a process that may use less of it.

What once did, NIQE in flat places, has a quick test of its own in test_niqe.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from facesr.embedders.builtin import BuiltinEmbedder
from facesr.image import to_float
from facesr.metrics import default_metrics
from facesr.metrics.perceptual.ma_features import frequency_features, singular_values, wavelet_features
from facesr.metrics.perceptual.niqe import NiqeModel, niqe
from facesr.metrics.perceptual.perceptual_index import Niqe, RmseY
from facesr.metrics.perceptual.scene_statistics import block_features
from facesr.protocols import MetricInputs
from facesr.resample import downscale_to_grey_levels

ROOT = Path(__file__).resolve().parents[2]
# torch without AVX; then also MKL, oneDNN, NumPy, OpenBLAS and OpenCV, each in its own words.
TORCH = {"ATEN_CPU_CAPABILITY": "default"}
EVERYTHING = {
    **TORCH,
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": "AVX2,FMA3,AVX512F,AVX512CD,AVX512_SKX",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENCV_CPU_DISABLE": "AVX,AVX2,FP16,AVX512_SKX",
}


def drawn(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth noise with edges, a flat part and an even slope: grey levels (H, W), where rounding shows most."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma) * sigma for sigma in (0.7, 2, 6)]
    picture = np.clip(np.floor(128.5 + 30.0 * sum(layers) + 40.0 * (layers[2] > 0)), 0, 255)
    picture[: height // 3, : width // 2] = 57.0
    picture[height // 2 :, : width // 3] = 20.0 + np.arange(width // 3)
    return picture


def every_value() -> dict[str, list[float]]:
    """Every metric's value on synthetic pictures, and Ma's features, whose forests would only hide differences."""
    pictures = np.stack([drawn(192, 192, seed) for seed in range(3)])
    features = torch.cat(list(block_features(torch.from_numpy(pictures))[0])).numpy()
    sound = features[~np.isnan(features).any(axis=1)]
    model = NiqeModel("drawn", sound.mean(0), np.cov(sound, rowvar=False) + 0.01 * np.eye(sound.shape[1]))
    found = {"niqe features": sound.ravel(), "niqe": niqe(torch.from_numpy(pictures), model)}
    for kind in (frequency_features, wavelet_features, singular_values):
        found[f"ma {kind.__name__}"] = kind(torch.from_numpy(drawn(96, 108, 3))).numpy()
    high = np.stack([drawn(112, 96, seed) for seed in range(6)]).reshape(2, 3, 112, 96)
    high = high.transpose(0, 2, 3, 1).astype(np.uint8)
    restored = np.stack([ndimage.gaussian_filter(picture, (1, 1, 0)) for picture in high])
    inputs = MetricInputs(to_float(restored), to_float(high), downscale_to_grey_levels(to_float(high)))
    for metric in default_metrics([BuiltinEmbedder()], with_low=True):
        found[metric.name] = metric(inputs)
    large = np.repeat(drawn(200, 200, 0)[None, ..., None], 3, axis=3).astype(np.uint8)
    general = MetricInputs(to_float(ndimage.gaussian_filter(large, (0, 1, 1, 0))), to_float(large))
    found["rmse_y"] = RmseY(4)(general)
    found["niqe/drawn"] = Niqe(model, 4)(general)
    return {name: np.asarray(value, np.float64).tolist() for name, value in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("less", [TORCH, EVERYTHING], ids=["torch", "everything"])
def test_less_simd_moves_no_value(less: dict[str, str]) -> None:
    code = f"import runpy, json; print(json.dumps(runpy.run_path({__file__!r})['every_value']()))"
    environment = {**os.environ, **less, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    theirs, ours = json.loads(done.stdout.splitlines()[-1]), every_value()
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        # A judge works in float32.
        bound = {"rtol": 0.0, "atol": 1e-5} if name.startswith("is/") else {"rtol": 1e-9, "atol": 1e-12}
        np.testing.assert_allclose(theirs[name], value, err_msg=name, **bound)
