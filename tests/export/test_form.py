"""facesr export --flip and --fixed, and the graph beside the one that PyTorch's own exporter writes."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from facesr.embedders.onnx import open_session
from facesr.errors import CheckpointError
from facesr.export.command import main
from facesr.export.form import MeanWithMirrorImage, with_fixed_size
from facesr.methods.onnx_rules import INPUT, OUTPUT
from facesr.methods.open import open_method
from facesr.models import facesr as facesr_model
from facesr.resample import resize_matrix
from tests.export.test_graph import model_of, noise, random, run, small

Code = Callable[[Callable[[list[str]], int], list[str]], int]


def test_the_mean_with_the_mirror_image_is_in_the_graph_and_its_weights_stand_there_once() -> None:
    network = random(small(num_hourglass_blocks=1, rms_limit=2.0))
    model = model_of(MeanWithMirrorImage(network).eval())
    assert len(model.SerializeToString()) < 1.1 * len(model_of(network).SerializeToString())
    for size in ((1, 28, 24), (2, 7, 5), (1, 1, 1)):
        low = noise(*size)
        wanted = 0.5 * (network(low) + network(low.flip(-1)).flip(-1))
        torch.testing.assert_close(run(model, low), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize(("height", "width"), [(28, 24), (7, 5)])
def test_of_one_size_no_size_is_computed(height: int, width: int, is_mirrored: bool) -> None:
    network = random(small(num_hourglass_blocks=1, rms_limit=2.0))
    whole = MeanWithMirrorImage(network).eval() if is_mirrored else network
    model = with_fixed_size(model_of(whole), width, height)
    onnx.checker.check_model(model, full_check=True)
    assert not {"Shape", "Mod", "Neg"} & {node.op_type for node in model.graph.node}
    # What is left of cutting and continuing: the cubic border, and where a side is no multiple of 4 the hourglasses'.
    num_pads = sum(node.op_type == "Pad" for node in model.graph.node)
    assert num_pads == (1 + is_mirrored) * (1 if height % 4 == 0 else 2)
    low = noise(1, height, width)
    torch.testing.assert_close(run(model, low), whole(low), rtol=0, atol=2e-6)
    sides = [
        [dim.dim_value for dim in end.type.tensor_type.shape.dim] for end in (*model.graph.input, *model.graph.output)
    ]
    assert sides == [[1, 3, height, width], [1, 3, 4 * height, 4 * width]]
    with pytest.raises(Exception, match="dimensions"):
        run(model, noise(1, height, width + 1))


def test_the_command_writes_it_and_method_refuses_it(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.onnx"
    assert main([str(write(num_hourglass_blocks=1)), str(out), "--flip", "--fixed", "24x28"]) == 0
    told = capsys.readouterr().out
    assert "for other programs (--flip --fixed 24x28)" in told and "on faces of this size: largest difference" in told
    entries = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert entries["facesr.made_with"] == "--flip --fixed 24x28" and entries["facesr.scale"] == "4"
    answer = open_session(out.read_bytes(), 1).run([OUTPUT], {INPUT: noise(1, 28, 24).numpy()})[0]
    assert answer.shape == (1, 3, 112, 96)
    with pytest.raises(CheckpointError, match=r"a\.onnx was exported with --flip or --fixed, for other programs"):
        open_method(str(out), torch.device("cpu"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["a.onnx", "--fixed", "24"],
            r"--fixed 24 is no width and height of 1 to 1024 pixels; give them as in 24x28\.",
        ),
        (["a.onnx", "--fixed", "0x28"], "--fixed 0x28 is no width and height"),
        (["a.onnx", "--fixed", "2000x28"], "--fixed 2000x28 is no width and height"),
        (["--web", "site", "--flip"], "--flip and --fixed are for a file"),
        (["--web", "site", "--fixed", "24x28"], "--flip and --fixed are for a file"),
    ],
)
def test_what_it_refuses(arguments: list[str], words: str, code_of: Code, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(main, ["pretrained:asc19_psnr", *arguments]) == 2
    told = capsys.readouterr().err
    assert re.search(words, told) and told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_graph_is_that_of_pytorchs_own_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random(small(num_hourglass_blocks=1, rms_limit=2.0, hidden_rms_limit=1.5))
    low = noise(1, 28, 24)
    answer = run(model_of(network), low)
    rows, columns = (torch.from_numpy(resize_matrix(side, 4 * side).copy()).float() for side in (28, 24))

    # The exporter traces numbers as tensors, of which no matrix can be made.
    def upscale(given: Tensor) -> Tensor:
        return torch.matmul(torch.matmul(rows, given), columns.t())

    monkeypatch.setattr(facesr_model, "upscale", upscale)
    file = io.BytesIO()
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    torch.onnx.export(network, (low,), file, dynamo=False, opset_version=17, **names)
    torch.testing.assert_close(run(onnx.load_from_string(file.getvalue()), low), answer, rtol=0, atol=2e-6)
