"""The prior term against a reference of plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from facesr.losses.prior import Prior, heatmap_targets
from facesr.losses.term import LossInputs

SIGMA = 3.0


def reference(heatmaps: Tensor, landmarks: Tensor, sigma: float) -> float:
    """Sum of squared differences to the Gaussians of known landmarks, over all cells of all faces."""
    num_faces, num_maps, height, width = heatmaps.shape
    total = 0.0
    for face in range(num_faces):
        for number in range(num_maps):
            x, y = landmarks[face, number].double().tolist()
            if math.isnan(x):
                continue
            for row in range(height):
                for column in range(width):
                    # Cell k covers the pixels 2k and 2k + 1.
                    squared = (2 * column + 0.5 - x) ** 2 + (2 * row + 0.5 - y) ** 2
                    target = math.exp(-squared / (2 * sigma**2))
                    total += (heatmaps[face, number, row, column].item() - target) ** 2
    return total / heatmaps.numel()


@pytest.fixture
def inputs() -> LossInputs:
    generator = torch.Generator().manual_seed(0)
    landmarks = torch.rand(3, 5, 2, generator=generator) * 20 - 2  # some outside of the 16x12 picture
    landmarks[1] = math.nan
    landmarks[2, 3] = math.nan
    heatmaps = (0.3 * torch.randn(3, 5, 6, 8, generator=generator)).requires_grad_()
    high = torch.zeros(3, 3, 12, 16)
    return LossInputs(high[..., ::4, ::4], high, high, {"heatmaps": heatmaps}, landmarks)


def test_equals_the_reference(inputs: LossInputs) -> None:
    assert inputs.landmarks is not None
    expected = reference(inputs.extras["heatmaps"], inputs.landmarks, SIGMA)
    assert Prior(1, 0, SIGMA)(inputs).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_landmarks_pull_nothing(inputs: LossInputs) -> None:
    heatmaps = inputs.extras["heatmaps"]
    Prior(1, 0, SIGMA)(inputs).backward()
    assert heatmaps.grad is not None and heatmaps.grad.isfinite().all()
    moved = heatmaps.grad.abs().sum((2, 3)) > 0
    expected = torch.ones(3, 5, dtype=torch.bool)
    expected[1], expected[2, 3] = False, False
    assert torch.equal(moved, expected)


def test_two_halves_weigh_as_one_batch(inputs: LossInputs) -> None:
    # Accumulated parts and ranks average their losses, whatever their share of known faces.
    assert inputs.landmarks is not None
    term, heatmaps = Prior(1, 0, SIGMA), inputs.extras["heatmaps"]
    values = [
        term(LossInputs(inputs.low, inputs.high, inputs.restored, {"heatmaps": heatmaps[i : i + 1]}, landmarks))
        for i, landmarks in enumerate(inputs.landmarks.split(1))
    ]
    assert values[1] == 0
    assert torch.stack(values).mean().item() == pytest.approx(term(inputs).item(), rel=1e-5)


def test_targets_peak_at_the_landmark_and_the_truth_costs_nothing(inputs: LossInputs) -> None:
    landmarks = torch.tensor([[[4.5, 2.5], [0.5, 10.5], [4.5, 2.5], [14.5, 0.5], [8.5, 8.5]]])
    targets = heatmap_targets(landmarks, 6, 8, pixels_per_cell=2.0, sigma_px=SIGMA)
    assert targets.shape == (1, 5, 6, 8) and targets.dtype == torch.float32
    peaks = np.stack(np.unravel_index(targets.flatten(2).argmax(2).numpy(), (6, 8)), -1)[0]
    assert peaks.tolist() == [[1, 2], [5, 0], [1, 2], [0, 7], [4, 4]]
    torch.testing.assert_close(targets.amax((2, 3)), torch.ones(1, 5))
    high = torch.zeros(1, 3, 12, 16)
    exact = LossInputs(high[..., ::4, ::4], high, high, {"heatmaps": targets}, landmarks)
    assert Prior(1, 0, SIGMA)(exact).item() < 1e-12


def test_a_sigma_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="sigma_px=0"):
        Prior(1, 0, 0)
