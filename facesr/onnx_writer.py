"""Writes a convolutional network as an ONNX graph, layer by layer, by itself: weights inside, sizes free.

The network is traced by torch.fx, and each of its steps becomes the nodes that stand for it here. Sizes of pictures are
computed inside the graph, so height and width stay free where the network leaves them so. PyTorch's own exporters split
weights off into a second file, or cannot take `facesr.resample.upscale`, which is a matrix product of NumPy's.

ONNX's own cubic Resize has another kernel by default and another border, so `upscale` is written as what it is: a
picture continued by its mirror image, one convolution of 5x5 for each of the 16 phases, and their interleaving.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import fx, nn

from facesr.onnx_nodes import TO_THE_END, Nodes
from facesr.resample import resize_matrix, upscale
from facesr.task import SCALE

# Of the file format: any onnxruntime since 1.14 reads it.
OPSET, IR_VERSION = 17, 8
# A sample of an upscaled picture depends on so many of the input's to each side.
_REACH = 2


class UnknownStep(NotImplementedError):
    """A network has a layer or a step that has no ONNX form here."""


def onnx_model(
    network: nn.Module, inputs: tuple[str, Sequence[int | str]], outputs: tuple[str, Sequence[int | str | None]]
) -> onnx.ModelProto:
    """Returns a network of one input and one output as an ONNX model, float32, with its weights inside.

    Args:
        network: in evaluation mode.
        inputs: name and shape of the input; a side with a name is free.
        outputs: name and shape of the output.

    Raises:
        UnknownStep: the network has a layer or a step that has no ONNX form here.
    """
    return _Writer(network, inputs[0], outputs[0]).model(inputs[1], outputs[1])


class _Writer(Nodes):
    """Writes the steps of a traced network as nodes of an ONNX graph."""

    def __init__(self, network: nn.Module, given: str, answer: str) -> None:
        super().__init__()
        self._network = network
        self._input, self._output = given, answer
        self._graph = fx.Tracer(autowrap_functions=(upscale,)).trace(network)

    def model(self, given: Sequence[int | str], answer: Sequence[int | str | None]) -> onnx.ModelProto:
        """Returns the model with an input and an output of these shapes."""
        for step in self._graph.nodes:
            self._write(step)
        nodes = self.needed_for(self._output)
        names = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(self._input, TensorProto.FLOAT, given)],
            [helper.make_tensor_value_info(self._output, TensorProto.FLOAT, answer)],
            [weight for name, weight in self.weights.items() if name in names],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _write(self, step: fx.Node) -> None:
        if step.op == "placeholder":
            self.names[step] = self._input
        elif step.op == "output":
            self.node("Identity", [self.given(step.args[0])], self._output)
        elif step.op == "call_module":
            self._layer(step, self._network.get_submodule(str(step.target)))
        elif step.target in _STEPS:
            try:
                _STEPS[step.target](self, step)
            except (KeyError, TypeError, ValueError) as error:
                raise UnknownStep(f"{step.name} ({step.target}) has no ONNX form here") from error
        else:
            raise UnknownStep(f"{step.name} ({step.target}) has no ONNX form here")

    # Layers

    def _layer(self, step: fx.Node, layer: nn.Module) -> None:
        given = self.given(step.args[0])
        if isinstance(layer, nn.Conv2d):
            assert layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            self.node(
                "Conv",
                [given, *self._parameters(step, layer, self._factor_after(step))],
                step,
                kernel_shape=layer.kernel_size,
                strides=layer.stride,
                pads=(*layer.padding, *layer.padding),
                dilations=layer.dilation,
                group=layer.groups,
            )
        elif isinstance(layer, nn.Linear):
            self.node("Gemm", [given, *self._parameters(step, layer)], step, transB=1)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None and layer.running_var is not None
            moments = zip(("mean", "var"), (layer.running_mean, layer.running_var), strict=True)
            names = [self.weight(f"{step.target}.{name}", value) for name, value in moments]
            self.node("BatchNormalization", [given, *self._parameters(step, layer), *names], step, epsilon=layer.eps)
        elif isinstance(layer, nn.MaxPool2d):
            assert isinstance(layer.kernel_size, int) and isinstance(layer.stride, int) and layer.padding == 0
            kernel, stride = [layer.kernel_size] * 2, [layer.stride] * 2
            self.node("MaxPool", [given], step, kernel_shape=kernel, strides=stride, ceil_mode=int(layer.ceil_mode))
        elif isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
            self.node("GlobalAveragePool", [given], step)
        elif isinstance(layer, nn.ReLU):
            self.node("Relu", [given], step)
        elif isinstance(layer, nn.PReLU):
            # One slope for each channel, or one for all.
            self.node("PRelu", [given, self.weight(f"{step.target}.slope", layer.weight[:, None, None])], step)
        elif isinstance(layer, nn.SiLU):
            self._silu(step)
        elif isinstance(layer, nn.PixelShuffle):
            self._shuffle(given, step, layer.upscale_factor)
        elif isinstance(layer, nn.Identity | nn.Dropout):
            self.names[step] = given
        else:
            raise UnknownStep(f"{step.target} ({type(layer).__name__}) has no ONNX form here")

    def _parameters(self, step: fx.Node, layer: nn.Module, factor: float | None = None) -> list[str]:
        """Returns the names of a layer's weight and, where it has one, its bias, both times the factor.

        They are named by the layer, not by the step: a layer that is used twice stands in the file once.
        """
        names = layer.named_parameters()
        if factor is None:
            return [self.weight(f"{step.target}.{name}", value) for name, value in names]
        return [self.weight(f"{step.target}.{name}.{factor!r}", value * factor) for name, value in names]

    def _factor_after(self, step: Any) -> float | None:
        """Returns the number that a convolution's result is multiplied with, None where it is used otherwise, too.

        The convolution's weights take it in: onnxruntime joins a convolution with a sum that follows at once.
        """
        if not isinstance(step, fx.Node):
            return None
        users = list(step.users)
        if step.op != "call_module" or not isinstance(self._network.get_submodule(str(step.target)), nn.Conv2d):
            return None
        if len(users) != 1 or users[0].target != operator.mul or not isinstance(users[0].args[1], float | int):
            return None
        return float(users[0].args[1])

    # Steps between layers

    def _binary(self, step: fx.Node, kind: str) -> None:
        first, second = step.args
        is_size = any(argument in self.sizes for argument in step.args if isinstance(argument, fx.Node))
        if step.target == operator.mul and not is_size and self._factor_after(first) is not None:
            self.names[step] = self.given(first)
            return
        self.node(kind, [self.operand(argument, is_size=is_size) for argument in (first, second)], step)
        if is_size:
            self.sizes.add(step)

    def _negative(self, step: fx.Node) -> None:
        self.node("Neg", [self.given(step.args[0])], step)
        if step.args[0] in self.sizes:
            self.sizes.add(step)

    def _attribute(self, step: fx.Node) -> None:
        if step.args[1] == "shape":
            self.node("Shape", [self.given(step.args[0])], step)
            self.sizes.add(step)
        elif step.args[1] != "dtype":  # everything is float32
            raise ValueError("an attribute that is no size")

    def _item(self, step: fx.Node) -> None:
        source, key = step.args
        if source not in self.sizes:
            self._crop(step, key)
            return
        given = self.given(source)
        if isinstance(key, slice) and isinstance(key.start, int) and (key.stop, key.step) == (None, None):
            self.slice(given, step, key.start, TO_THE_END, 0)
        elif isinstance(key, int):
            self.slice(given, step, key, TO_THE_END if key == -1 else key + 1, 0)
        else:
            raise ValueError("neither one size nor the last ones")
        self.sizes.add(step)

    def _crop(self, step: fx.Node, key: Any) -> None:
        """Writes features[..., :height, :width]."""
        ends = [part.stop for part in key[1:]]
        if key != (Ellipsis, *(slice(None, end, None) for end in ends)):
            raise ValueError("more than the first ones along the last axes")
        axes = self.whole_numbers(*range(4 - len(ends), 4))
        stop = self.node("Concat", [self.operand(end, is_size=True) for end in ends], f"{step.name}.end", axis=0)
        starts = self.whole_numbers(*[0] * len(ends))
        self.node("Slice", [self.given(step.args[0]), starts, stop, axes], step)

    def _pad(self, step: fx.Node) -> None:
        if step.kwargs.get("mode") != "replicate":
            raise ValueError("another border")
        sides: Any = step.args[1]
        left, right, top, bottom = (self.operand(part, is_size=True) for part in sides)
        none = self.whole_numbers(0)
        pads = self.node("Concat", [none, none, top, left, none, none, bottom, right], f"{step.name}.pads", axis=0)
        self.node("Pad", [self.given(step.args[0]), pads], step, mode="edge")

    def _silu(self, step: fx.Node) -> None:
        given = self.given(step.args[0])
        self.node("Mul", [given, self.node("Sigmoid", [given], f"{step.name}.sigmoid")], step)

    def _leaky(self, step: fx.Node) -> None:
        given: Any = (*step.args[1:2], step.kwargs.get("negative_slope"))
        self.node("LeakyRelu", [self.given(step.args[0])], step, alpha=float(given[0]))

    def _shuffle(self, given: str, result: fx.Node | str, factor: int) -> None:
        # CRD is PyTorch's order: a channel's phases are neighbours.
        self.node("DepthToSpace", [given], result, blocksize=factor, mode="CRD")

    def _pixel_shuffle(self, step: fx.Node) -> None:
        factor = step.args[1]
        assert isinstance(factor, int)
        self._shuffle(self.given(step.args[0]), step, factor)

    def _square(self, step: fx.Node) -> None:
        self.node("Mul", [self.given(step.args[0])] * 2, step)

    def _nearest(self, step: fx.Node) -> None:
        factor, mode = (step.kwargs[name] for name in ("scale_factor", "mode"))
        if mode != "nearest" or not isinstance(factor, int | float) or factor not in (2, 4):
            raise ValueError("another interpolation")
        scales = self.weight(f"scales.{factor}", np.array([1, 1, factor, factor], np.float32))
        form = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        self.node("Resize", [self.given(step.args[0]), "", scales], step, **form)

    def _clamp(self, step: fx.Node) -> None:
        numbers: Any = step.args[1:]
        limits = [self.number(float(limit)) for limit in numbers]
        self.node("Clip", [self.given(step.args[0]), *limits], step)

    def _mean(self, step: fx.Node) -> None:
        if step.args[1] != 1 or not step.kwargs["keepdim"]:
            raise ValueError("another mean than over the channels")
        self.node("ReduceMean", [self.given(step.args[0])], step, axes=[1], keepdims=1)

    def _concat(self, step: fx.Node) -> None:
        given: Any = (*step.args, step.kwargs.get("dim", 0))
        parts, axis = given[:2]
        self.node("Concat", [self.given(part) for part in parts], step, axis=axis)

    def _normalize(self, step: fx.Node) -> None:
        if (step.kwargs["p"], step.kwargs["dim"]) != (2, 1):
            raise ValueError("another norm")
        self.node("LpNormalization", [self.given(step.args[0])], step, p=2, axis=1)

    def _view(self, step: fx.Node) -> None:
        if step.args[2:] != (-1,):
            raise ValueError("another form than one vector for each picture")
        self.node("Flatten", [self.given(step.args[0])], step, axis=1)

    def _same(self, step: fx.Node) -> None:
        self.names[step] = self.given(step.args[0])

    def _flip(self, step: fx.Node) -> None:
        if step.args[1:] != (-1,):
            raise ValueError("another mirror image than from left to right")
        numbers = [self.whole_numbers(number) for number in (-1, -TO_THE_END, 3, -1)]
        self.node("Slice", [self.given(step.args[0]), *numbers], step)

    def _upscale(self, step: fx.Node) -> None:
        """Writes `facesr.resample.upscale` of a picture of any size from 1x1 up."""
        given = self.given(step.args[0])
        # The border's two pixels are the picture's last two, mirrored: the outer one follows when the inner stands.
        inner = self.node("Pad", [given, self.whole_numbers(0, 0, 1, 1, 0, 0, 1, 1)], f"{step.name}.edge", mode="edge")
        for axis in (2, 3):
            before = self.slice(inner, f"{step.name}.before{axis}", 2, 3, axis)
            after = self.slice(inner, f"{step.name}.after{axis}", -3, -2, axis)
            inner = self.node("Concat", [before, inner, after], f"{step.name}.bordered{axis}", axis=axis)
        phases = self.weight(f"{step.name}.phases", cubic_phases())
        side = 2 * _REACH + 1
        convolved = self.node("Conv", [inner, phases], f"{step.name}.conv", kernel_shape=[side, side], group=3)
        self._shuffle(convolved, step, SCALE)


def cubic_phases() -> NDArray[np.float32]:
    """Returns the kernels of `facesr.resample.upscale`, float32 (48, 1, 5, 5): for each colour the 16 phases, by rows.

    A phase is where inside a low-resolution pixel an output pixel lies.
    """
    side = 2 * _REACH + 1
    # The middle sample's rows: its neighbours are all there, so no border is in them.
    rows = resize_matrix(side, SCALE * side)[_REACH * SCALE : (_REACH + 1) * SCALE]
    phases = np.einsum("ip,jq->ijpq", rows, rows).reshape(SCALE * SCALE, 1, side, side)
    return np.tile(phases, (3, 1, 1, 1)).astype(np.float32)


def _as_binary(kind: str) -> Callable[[_Writer, fx.Node], None]:
    return lambda writer, step: writer._binary(step, kind)


def _as_unary(kind: str) -> Callable[[_Writer, fx.Node], None]:
    def write(writer: _Writer, step: fx.Node) -> None:
        writer.node(kind, [writer.given(step.args[0])], step)

    return write


_STEPS: dict[Any, Callable[[_Writer, fx.Node], None]] = {
    operator.add: _as_binary("Add"),
    operator.sub: _as_binary("Sub"),
    operator.mul: _as_binary("Mul"),
    operator.truediv: _as_binary("Div"),
    operator.mod: _as_binary("Mod"),
    operator.neg: _Writer._negative,
    operator.getitem: _Writer._item,
    getattr: _Writer._attribute,
    torch.cat: _Writer._concat,
    upscale: _Writer._upscale,
    F.pad: _Writer._pad,
    F.silu: _Writer._silu,
    F.leaky_relu: _Writer._leaky,
    F.interpolate: _Writer._nearest,
    F.normalize: _Writer._normalize,
    F.pixel_shuffle: _Writer._pixel_shuffle,
    "flip": _Writer._flip,
    "clamp": _Writer._clamp,
    "clamp_min": _Writer._clamp,
    "mean": _Writer._mean,
    "square": _Writer._square,
    "sqrt": _as_unary("Sqrt"),
    "reciprocal": _as_unary("Reciprocal"),
    "float": _Writer._same,
    "to": _Writer._same,
    "view": _Writer._view,
}
