"""ONNX files as a stranger could write them: refused in one sentence before anything of them is run."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from facesr.config import EvaluateSettings
from facesr.errors import CheckpointError
from facesr.evaluation import run as evaluate
from facesr.methods import onnx_file
from facesr.methods.open import open_method
from facesr.script import run_script

CPU = torch.device("cpu")
Model = onnx.ModelProto
Change = Callable[[Model], None]


def node(model: Model, kind: str, place: int = 0) -> onnx.NodeProto:
    return [found for found in model.graph.node if found.op_type == kind][place]


def constant(model: Model, name: str, values: Any) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def instead(model: Model, kind: str, given: list[str], **attributes: Any) -> None:
    """Puts an operation between the first result of the graph and what reads it."""
    first = model.graph.node[-1]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node(kind, [first.input[0], *given], ["x"], **attributes)
    )
    first.input[0] = "x"


def say(model: Model, name: str, text: str | None) -> None:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries["facesr." + name] = text or ""
    if text is None:
        del entries["facesr." + name]
    del model.metadata_props[:]
    helper.set_model_props(model, entries)


def attribute(found: onnx.NodeProto, name: str, value: Any) -> None:
    others = [one for one in found.attribute if one.name != name]
    del found.attribute[:]
    found.attribute.extend([*others, helper.make_attribute(name, value)])


def external(model: Model) -> None:
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "../../etc/passwd")
    tensor.ClearField("raw_data")


def external_on_the_sly(model: Model) -> None:
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def doubled(model: Model) -> None:
    """2 to the 40th times the channels of the picture."""
    name = "low"
    for number in range(40):
        model.graph.node.insert(number, helper.make_node("Concat", [name, name], [f"d{number}"], axis=1))
        name = f"d{number}"


def enlarged(model: Model) -> None:
    scales = constant(model, "by", np.array([1, 1, 2, 2], np.float32))
    for _ in range(20):
        first = model.graph.node[-1]
        name = f"r{len(model.graph.node)}"
        made = helper.make_node("Resize", [first.input[0], "", scales], [name], mode="nearest")
        model.graph.node.insert(len(model.graph.node) - 1, made)
        first.input[0] = name


def wide(axis: int) -> Change:
    """Enlarges columns fourfold, over and over, and says in between by a cut along an axis that they are few."""

    def change(model: Model) -> None:
        scales = constant(model, "by", np.array([1, 1, 1, 4], np.float32))
        ends = [constant(model, name, np.array([number])) for name, number in (("z", 0), ("e", 1), ("a", axis))]
        for number in range(4):  # more would take all memory where this is let through
            instead(model, "Slice", ends)
            instead(model, "Resize", ["", scales], mode="nearest")
            for made in model.graph.node[-3:-1]:
                made.output[0] += str(number) + made.op_type
            model.graph.node[-2].input[0] = model.graph.node[-3].output[0]
            model.graph.node[-1].input[0] = model.graph.node[-2].output[0]

    return change


def slow(model: Model) -> None:
    """One kernel of 16 million values, used over and over."""
    kernel = constant(model, "kernel", np.zeros((3, 3, 1001, 1001), np.float32))
    name = "low"
    for number in range(300):
        made = helper.make_node("Conv", [name, kernel], [f"s{number}"], kernel_shape=[1001] * 2, pads=[500] * 4)
        model.graph.node.insert(number, made)
        name = f"s{number}"


def many(model: Model) -> None:
    """Twenty results of 60 MB each, none too large alone."""
    kernel = constant(model, "kernel", np.zeros((60_000, 3, 1, 1), np.float32))
    for number in range(20):
        made = helper.make_node("Conv", ["low", kernel], [f"m{number}"], kernel_shape=[1, 1])
        model.graph.node.insert(number, made)


def branch(model: Model) -> None:
    body = helper.make_graph([], "body", [], [])
    instead(model, "If", [], then_branch=body, else_branch=body)


def function(model: Model) -> None:
    made = helper.make_node("Identity", ["a"], ["b"])
    model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [made], [helper.make_opsetid("", 17)]))


def halved(model: Model) -> None:
    kernel = constant(model, "kernel", np.ones((3, 3, 1, 1), np.float32))
    instead(model, "Conv", [kernel], kernel_shape=[1, 1], strides=[2, 2])


def value(index: int, number: float) -> Change:
    def change(model: Model) -> None:
        tensor = next(one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[index] = number
        tensor.raw_data = values.tobytes()

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "not ours": (lambda model: say(model, "format", None), "was not written by facesr export"),
    "another format": (lambda model: say(model, "format", "facesr-onnx-2"), "was not written by facesr export"),
    "no run": (lambda model: say(model, "run", None), "its run is missing"),
    "a command for the terminal": (lambda model: say(model, "run", "\x1b[2J"), "its run is missing, too"),
    "two lines": (lambda model: say(model, "use", "free\nfor all"), "its use is missing, too"),
    "markup": (lambda model: say(model, "run", "<script>"), "its run has no name"),
    "endless": (lambda model: say(model, "use", "a" * 3000), "its use is missing, too"),
    "no digest": (lambda model: say(model, "snapshot_sha256", "abc"), "its snapshot_sha256 is no sha256"),
    "nan dB": (lambda model: say(model, "consistency_bound_db", "nan"), "its consistency_bound_db is no number"),
    "negative dB": (lambda model: say(model, "consistency_bound_db", "-1"), "its consistency_bound_db is no number"),
    "kimg": (lambda model: say(model, "kimg", "inf"), "its kimg is no number"),
    "deep judges": (lambda model: say(model, "loss_judges", "[" * 1900), "its loss_judges are no list"),
    "judges of markup": (lambda model: say(model, "loss_judges", '["<b>"]'), "its loss_judges are no list"),
    "scale": (lambda model: say(model, "scale", "2"), "its scale is not 4"),
    "weights elsewhere": (external, "its weights lie in another file"),
    "weights elsewhere, hidden": (external_on_the_sly, "its weights lie in another file"),
    "half": (lambda model: model.graph.initializer[0].__setattr__("data_type", 10), "its weights are neither"),
    "promised sizes": (lambda model: model.graph.initializer[0].dims.append(1 << 40), "its weights "),
    "infinite": (value(0, np.inf), "values that are not finite"),
    "opset": (lambda model: model.opset_import[0].__setattr__("version", 21), "not written for opset 17"),
    "domain": (lambda model: model.opset_import.append(helper.make_opsetid("com.x", 1)), "not written for opset 17"),
    "function": (function, "it holds functions"),
    "branch": (branch, "never writes ('If')"),
    "another op": (lambda model: instead(model, "Erf", []), "never writes ('Erf')"),
    "op of a domain": (lambda model: instead(model, "Relu", [], domain="com.microsoft"), "never writes ('Relu')"),
    "loop": (lambda model: node(model, "Conv").input.__setitem__(0, "restored"), "it is no sound ONNX graph"),
    "input's name": (lambda model: model.graph.input[0].__setattr__("name", "high"), "its input is not one tensor"),
    "second input": (lambda model: model.graph.input.append(model.graph.input[0]), "its input is not one tensor"),
    "no output": (lambda model: model.graph.output.pop(), "its output is not one tensor"),
    "fixed size": (
        lambda model: model.graph.input[0].type.tensor_type.shape.dim[2].__setattr__("dim_value", 28),
        "its input is not float32 (n, 3, h, w) with free",
    ),
    "doubling": (doubled, "more memory than a generator needs"),
    "many large ones": (many, "more memory than a generator needs"),
    "enlarging": (enlarged, "more memory than a generator needs"),
    "wide by a cut of the batch": (wide(0), "its Slice is not as"),
    "wide by a cut from the end": (wide(-1), "its Slice is not as"),
    "slow": (slow, "more time than a generator needs"),
    "wide border": (
        lambda model: instead(model, "Pad", [constant(model, "pads", [0, 0, 9999, 0, 0, 0, 0, 0])], mode="edge"),
        "its Pad is not as",
    ),
    "another border": (lambda model: attribute(node(model, "Pad"), "mode", "constant"), "its Pad is not as"),
    "cubic": (lambda model: attribute(node(model, "Resize"), "mode", "cubic"), "its Resize is not as"),
    "wide padding": (lambda model: attribute(node(model, "Conv"), "pads", [999] * 4), "its Conv is not as"),
    "sums of pictures": (lambda model: instead(model, "Concat", ["low"], axis=0), "its Concat is not as"),
    "half as large": (halved, "does not enlarge pictures of 16x16 4x"),
    "channels that do not fit": (
        lambda model: instead(model, "Concat", ["low"], axis=1), "cannot restore pictures of 16x16",
    ),
}  # fmt: skip


@pytest.fixture
def model(pair: tuple[Path, Path]) -> Model:
    return onnx.load(pair[1])


@pytest.mark.parametrize("name", CHANGES)
def test_a_strangers_file_is_refused_in_one_sentence(
    name: str, model: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, words = CHANGES[name]
    change(model)
    path = tmp_path / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    start = time.monotonic()
    with pytest.raises(CheckpointError) as told:
        open_method(str(path), CPU)
    sentence = str(told.value)
    assert capfd.readouterr().err == ""
    assert words in sentence and sentence.startswith(str(path)) and sentence.endswith(".") and "\n" not in sentence
    assert time.monotonic() - start < 30
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "was not written by facesr export"),
        (b"\x00\xff" * 50, "is no readable ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"PK\x03\x04" + b"0" * 90, "is no readable ONNX file"),
    ],
)
def test_what_is_no_onnx_file(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        open_method(str(path), CPU)


def test_a_file_cut_anywhere_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    data, path = pair[1].read_bytes(), tmp_path / "cut.onnx"
    for length in np.linspace(1, len(data) - 1, 25).astype(int):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            open_method(str(path), CPU)


@pytest.mark.slow
def test_any_changed_byte_ends_in_a_generator_or_one_sentence(pair: tuple[Path, Path], tmp_path: Path) -> None:
    data, path = pair[1].read_bytes(), tmp_path / "changed.onnx"
    generator = np.random.default_rng(0)
    starts = data.find(b"facesr.")
    # Weights are nearly all of the file; what stands around them is what a change can break.
    places = [*generator.integers(0, 4000, 8), *generator.integers(starts - 4000, len(data), 16)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        try:
            method = open_method(str(path), CPU)
            with torch.no_grad():
                assert method.generator(torch.full((1, 3, 5, 6), 0.5)).shape == (1, 3, 20, 24)
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_a_large_file_is_not_read(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1 << 16)
    with pytest.raises(CheckpointError, match="is larger than 0 MiB, which no generator is"):
        open_method(str(pair[1]), CPU)


def test_sizes_at_which_the_graph_fails_are_told(pair: tuple[Path, Path], model: Model, tmp_path: Path) -> None:
    # Cuts the answer to what it is at the size that opening tries, and no more.
    ends = [constant(model, name, np.array(values)) for name, values in (("z", [0]), ("e", [64]), ("a", [2]))]
    instead(model, "Slice", ends)
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    method = open_method(str(path), CPU)
    with torch.no_grad(), pytest.raises(CheckpointError, match="does not enlarge pictures of 24x28 4x"):
        method.generator(torch.full((1, 3, 28, 24), 0.5))


def test_evaluate_ends_with_code_2(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(model, "run", "\x1b[31m")
    path = tmp_path / "theirs.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SystemExit) as left:
        run_script(evaluate.run, "evaluate", EvaluateSettings, [f"method={path}", f"out={tmp_path / 'out'}"])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "theirs.onnx is no sound ONNX file of facesr" in told and "\x1b" not in told
    assert not (tmp_path / "out").exists()


def test_an_honest_file_passes(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "again.onnx"
    helper.set_model_props(model, {**{one.key: one.value for one in model.metadata_props}, "other": "program"})
    path.write_bytes(model.SerializeToString())
    assert open_method(str(path), CPU).name == "tester"
