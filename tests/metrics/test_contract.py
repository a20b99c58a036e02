"""What every metric has to keep: direction, equal pictures, batch independence, order, refused input."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facesr.metrics import default_metrics
from facesr.protocols import Metric, MetricInputs
from facesr.resample import downscale_to_grey_levels

NAMES = ["is/grid", "psnr_rgb", "psnr_y", "ssim", "rmse", "consistency"]
BEST = {"is/grid": 1.0, "psnr_rgb": 100.0, "psnr_y": 100.0, "ssim": 1.0, "rmse": 0.0, "consistency": 100.0}


@pytest.fixture(params=NAMES)
def metric(request, judge) -> Metric:
    return next(metric for metric in default_metrics([judge], with_low=True) if metric.name == request.param)


def test_default_metrics_put_the_judges_first_and_consistency_only_with_low(judge):
    assert [metric.name for metric in default_metrics([judge], with_low=True)] == NAMES
    assert [metric.name for metric in default_metrics([judge], with_low=False)] == NAMES[:-1]


def test_it_satisfies_the_protocol(metric):
    assert isinstance(metric, Metric)
    assert metric.unit and metric.version >= 1


def test_equal_pictures_have_the_best_value(metric, inputs):
    same = MetricInputs(inputs.high, inputs.high, inputs.low)
    assert metric(same) == pytest.approx(BEST[metric.name], abs=1e-6)


def test_the_direction_is_what_it_says(metric, inputs):
    worse_picture = (inputs.restored * 255 + 40 * torch.randn(inputs.restored.shape)).clamp(0, 255).round() / 255
    worse = metric(MetricInputs(worse_picture, inputs.high, inputs.low))
    better = metric(inputs)
    assert (better > worse).all() if metric.higher_is_better else (better < worse).all()


def test_values_do_not_depend_on_the_batch(metric, inputs):
    whole = metric(inputs)
    single = [
        metric(MetricInputs(inputs.restored[i : i + 1], inputs.high[i : i + 1], inputs.low[i : i + 1]))[0]
        for i in range(len(inputs.high))
    ]
    # Pixel metrics are equal to the last bit; a judge is a float32 network.
    tolerance = 1e-6 if metric.name.startswith("is/") else 0.0
    np.testing.assert_allclose(whole, single, rtol=0, atol=tolerance)


def test_values_follow_the_order_of_pictures(metric, inputs):
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = metric(MetricInputs(inputs.restored[order], inputs.high[order], inputs.low[order]))
    np.testing.assert_allclose(shuffled, metric(inputs)[order.numpy()], rtol=0, atol=1e-6)


@pytest.mark.parametrize("fault", [2.0, -0.1, float("nan"), float("inf"), 0.5001])
def test_values_no_png_can_hold_are_refused(metric, inputs, fault):
    # Consistency rounds what it downscales, so its own input to refuse is `low`.
    pictures = inputs.low.clone() if metric.name == "consistency" else inputs.restored.clone()
    pictures[2, 1, 5, 4] = fault
    broken = replace(inputs, **{"low" if metric.name == "consistency" else "restored": pictures})
    with pytest.raises(ValueError, match="8-bit pictures"):
        metric(broken)


def test_shapes_that_differ_are_refused(metric, inputs):
    if metric.name == "consistency":
        wrong = MetricInputs(inputs.restored, inputs.high, inputs.low[..., :-1])
    else:
        wrong = MetricInputs(inputs.restored[..., :-4], inputs.high, inputs.low)
    with pytest.raises(ValueError, match="one shape"):
        metric(wrong)


def test_consistency_is_that_of_the_exact_downscaling(inputs, judge):
    metric = default_metrics([judge], with_low=True)[-1]
    low = downscale_to_grey_levels(inputs.restored)
    assert (metric(MetricInputs(inputs.restored, inputs.high, low)) == 100.0).all()
    with pytest.raises(ValueError, match="low-resolution"):
        metric(MetricInputs(inputs.restored, inputs.high))
