"""The ONNX graph of a generator beside the same generator in PyTorch."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from facesr.embedders.onnx import open_session
from facesr.export.radius import receptive_radius
from facesr.methods.onnx_rules import INPUT, OPERATIONS, OUTPUT, check_model
from facesr.models import facesr as facesr_model
from facesr.models.facesr import FaceSR
from facesr.models.interpolation import Bicubic
from facesr.models.rrdbnet import RRDBNet
from facesr.models.srresnet import SRResNet
from facesr.onnx_writer import UnknownStep, cubic_phases, onnx_model
from facesr.resample import upscale
from facesr.snapshots.network import network_of
from facesr.snapshots.shipped import snapshot_file
from facesr.snapshots.snapshot import read_snapshot

SIZES = ((1, 28, 24), (3, 40, 32), (1, 64, 96), (1, 2, 2), (2, 7, 5), (1, 1, 1))


def model_of(network: nn.Module) -> onnx.ModelProto:
    return onnx_model(network, (INPUT, ["n", 3, "h", "w"]), (OUTPUT, ["n", 3, "4h", "4w"]))


def run(model: onnx.ModelProto, low: Tensor) -> Tensor:
    session = open_session(model.SerializeToString(), 1)
    return torch.from_numpy(session.run([OUTPUT], {INPUT: low.numpy()})[0])


def noise(num: int, height: int, width: int) -> Tensor:
    return torch.rand(num, 3, height, width, generator=torch.Generator().manual_seed(num + height))


def random(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Gives every layer weights, those that start at zero too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = parameter.data * gain + 0.02 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


def small(**changes: Any) -> FaceSR:
    torch.manual_seed(0)
    return FaceSR(**{"channels": 32, "num_groups": 2, "num_blocks": 1, "channels_up": 32, **changes})


NETWORKS = {
    "no limit": lambda: small(),
    "limits": lambda: small(rms_limit=2.0, hidden_rms_limit=1.5),
    "hourglasses": lambda: small(num_hourglass_blocks=1),
    "hourglasses and limits": lambda: small(num_hourglass_blocks=1, rms_limit=2.0, hidden_rms_limit=1.5),
    "features at the output": lambda: small(channels_out=32, rms_limit=2.0),
    "no middle block": lambda: small(rms_limit=2.0, hidden_rms_limit=1.5, middle_block=False),
    "a cleaner": lambda: small(rms_limit=2.0, hidden_rms_limit=1.5, cleaner_channels=16),
    "srresnet": lambda: SRResNet(num_channels=16, num_blocks=2),
    "rrdbnet": lambda: RRDBNet(num_channels=16, num_blocks=1, growth=8),
    "bicubic": Bicubic,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gives_what_pytorch_gives_at_any_size(name: str) -> None:
    network = random(NETWORKS[name]())
    model = model_of(network)
    onnx.checker.check_model(model, full_check=True)
    check_model(model)
    for size in SIZES:
        low = noise(*size)
        wanted = network(low)
        torch.testing.assert_close(run(model, low), wanted, rtol=0, atol=2e-6 * max(1.0, float(wanted.abs().max())))


def test_limits_that_are_reached_are_in_the_graph() -> None:
    network = random(small(num_hourglass_blocks=1, rms_limit=0.2, hidden_rms_limit=0.3), gain=3.0)
    low = noise(2, 12, 8)
    scales: list[Tensor] = []
    plain = facesr_model.bounded

    def noted(features: Tensor, limit: float | None) -> Tensor:
        answer = plain(features, limit)
        scales.append((answer / features).nan_to_num(1.0).amin())
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facesr_model, "bounded", noted)
        wanted = network(low)
    assert sum(bool(scale < 0.9) for scale in scales) > len(scales) / 2, "most limits have to be reached"
    torch.testing.assert_close(run(model_of(network), low), wanted, rtol=2e-6, atol=2e-6)
    loose = random(small(num_hourglass_blocks=1), gain=3.0)
    assert not torch.allclose(run(model_of(loose), low), wanted, atol=0.1)


def test_the_clamp_of_networks_without_a_limit_is_in_the_graph() -> None:
    network = random(small(), gain=6.0)
    low = noise(1, 8, 8)
    wanted = network(low)
    answer = run(model_of(network), low)
    torch.testing.assert_close(answer, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facesr_model, "CLAMP", 1e9)
        assert not torch.allclose(network(low), wanted, rtol=0.01)


@pytest.mark.parametrize("size", [(2, 2), (7, 5), (28, 24), (1, 1), (3, 1)])
def test_the_border_is_symmetric(size: tuple[int, int]) -> None:
    low = noise(2, *size)
    torch.testing.assert_close(run(model_of(Bicubic().eval()), low), upscale(low), rtol=0, atol=1e-6)


def test_phases_sum_to_one_and_mirror_each_other() -> None:
    phases = cubic_phases().reshape(3, 4, 4, 5, 5)
    np.testing.assert_allclose(phases.sum((3, 4)), 1.0, atol=1e-6)
    np.testing.assert_array_equal(phases[0], phases[2])
    np.testing.assert_array_equal(phases, phases[:, ::-1, :, ::-1])
    np.testing.assert_array_equal(phases, phases.transpose(0, 2, 1, 4, 3))


def test_faces_of_a_batch_do_not_know_of_each_other() -> None:
    model = model_of(random(small(num_hourglass_blocks=1)))
    low = noise(3, 9, 6)
    alone = torch.cat([run(model, one[None]) for one in low])
    torch.testing.assert_close(run(model, low), alone, rtol=0, atol=1e-6)


def test_the_operations_are_pinned() -> None:
    used = set()
    for make in NETWORKS.values():
        used |= {node.op_type for node in model_of(random(make())).graph.node}
    # What a file may hold is no more than what some network needs; Relu stands for a network of the user's own.
    assert used | {"Relu"} == set(OPERATIONS)
    model = model_of(random(small(num_hourglass_blocks=1, rms_limit=1.0)))
    assert sorted({node.op_type for node in model.graph.node}) == [
        "Add", "Clip", "Concat", "Conv", "DepthToSpace", "Div", "Identity", "Mod", "Mul", "Neg", "Pad", "Reciprocal",
        "ReduceMean", "Resize", "Shape", "Sigmoid", "Slice", "Sqrt", "Sub",
    ]  # fmt: skip
    cubic = [node for node in model.graph.node if node.op_type == "Resize" and b"cubic" in node.SerializeToString()]
    assert cubic == [] and model.opset_import[0].version == 17 and model.ir_version == 8
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_what_has_no_form_is_named() -> None:
    with pytest.raises(UnknownStep, match=r"0 \(Softplus\) has no ONNX form"):
        model_of(nn.Sequential(nn.Softplus()))

    class Cubic(nn.Module):
        def forward(self, low: Tensor) -> Tensor:
            return nn.functional.interpolate(low, scale_factor=4.0, mode="bicubic")

    with pytest.raises(UnknownStep, match="interpolate"):
        model_of(Cubic())


@pytest.mark.parametrize(
    ("network", "radius"),
    [(Bicubic, 2), (FaceSR, 29), (SRResNet, 40), (lambda: RRDBNet(num_blocks=6), 94)],
)
def test_the_receptive_radius_is_that_of_the_documents(network: Any, radius: int) -> None:
    assert receptive_radius(model_of(network().eval())) == radius


def test_the_receptive_radius_is_how_far_a_pixel_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random(small(num_hourglass_blocks=1))
    # The upscaling is a product with a whole matrix, which would carry NaN everywhere.
    monkeypatch.setattr(facesr_model, "upscale", lambda low: low.repeat_interleave(4, 2).repeat_interleave(4, 3))
    reached = 0
    for place in range(80, 84):
        low = torch.full((1, 3, 4, 164), 0.5)
        low[..., place] = torch.nan
        touched = torch.isnan(network(low)).any(1).any(1)[0].nonzero().flatten() // 4
        reached = max(reached, place - int(touched.min()), int(touched.max()) - place)
    monkeypatch.undo()
    assert receptive_radius(model_of(network)) == reached


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asc19_psnr", "asc19_final"])
def test_shipped_networks_on_noise(name: str) -> None:
    path = snapshot_file(f"pretrained:{name}")
    network = network_of(read_snapshot(path), path)
    model = model_of(network)
    assert receptive_radius(model) == {"asc19_psnr": 29, "asc19_final": 91}[name]
    for size in SIZES:
        low = noise(*size)
        # Noise is no face: features grow, and their roundings with them.
        torch.testing.assert_close(run(model, low), network(low), rtol=0, atol=1e-4)
