"""What an ONNX file may hold that is to restore: it may come from a stranger, so it is checked before it is run.

A graph is a program. Here it may be made only of what `facesr.onnx_writer` writes for a generator, with its weights
inside, and every tensor of it must stay within a size that is worked out from the graph before a byte is taken for it:
for a picture of 16x16, the largest number of channels, rows and columns that each node can give.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facesr.onnx_writer import IR_VERSION, OPSET

INPUT, OUTPUT = "low", "restored"
PROBE_PX = 16
# 8 times the probe's side and some border: nothing of a network that enlarges 4x is larger.
_MAX_SIDE = 8 * PROBE_PX
# For the probe: values of a tensor and of all, and multiply-accumulates (RRDBNet, the largest here, has 6e9).
_MAX_VALUES, _MAX_VALUES_IN_ALL, _MAX_PRODUCTS = 1 << 24, 1 << 28, 1 << 37
_MAX_NODES = 1 << 14
_MAX_SIZES, _MAX_PAD = 16, 4
_PLAIN = (onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING)
_TYPES: dict[int, np.dtype[Any]] = {TensorProto.FLOAT: np.dtype("<f4"), TensorProto.INT64: np.dtype("<i8")}


class Refused(ValueError):
    """A file breaks a rule; the text says which, in a few words."""


class _Pictures(NamedTuple):
    """The most that a tensor (N, channels, rows, columns) may hold where the input is one picture of the probe."""

    channels: int
    rows: int
    columns: int


class _Sizes(NamedTuple):
    """A vector of whole numbers; small ones are at most `_MAX_PAD`."""

    length: int
    is_small: bool = False


def check_model(model: onnx.ModelProto) -> None:
    """Checks everything but the metadata of a file.

    Raises:
        Refused: it breaks a rule.
    """
    graph = model.graph
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if opsets != [("", OPSET)] or model.ir_version != IR_VERSION:
        raise Refused(f"it is not written for opset {OPSET} of ONNX and IR version {IR_VERSION}")
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise Refused("it holds functions, training or sparse weights")
    if len(graph.node) > _MAX_NODES:
        raise Refused(f"it has more than {_MAX_NODES} nodes")
    _check_ends(graph)
    bounds = _Bounds({tensor.name: _weights(tensor) for tensor in graph.initializer})
    for node in graph.node:
        _check_node(node)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # its errors and those of protobuf share no base class
        raise Refused("it is no sound ONNX graph") from error
    bounds.add(INPUT, _Pictures(3, PROBE_PX, PROBE_PX))
    for node in graph.node:
        bounds.walk(node)


def _check_ends(graph: onnx.GraphProto) -> None:
    for ends, name, what in ((graph.input, INPUT, "input"), (graph.output, OUTPUT, "output")):
        if [end.name for end in ends] != [name]:
            raise Refused(f"its {what} is not one tensor called {name}")
        kind = ends[0].type.tensor_type
        sides = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if kind.elem_type != TensorProto.FLOAT or sides != [None, 3, None, None]:
            raise Refused(f"its {what} is not float32 (n, 3, h, w) with free n, h and w")


def _check_node(node: onnx.NodeProto) -> None:
    if node.domain or node.op_type not in _RULES:
        raise Refused(f"it holds an operation that facesr export never writes ({node.op_type[:40]!r})")
    if len(node.output) != 1 or any(attribute.type not in _PLAIN for attribute in node.attribute):
        raise Refused(f"its {node.op_type} has other attributes or outputs than facesr export writes")


def _weights(tensor: TensorProto) -> NDArray[Any]:
    """Returns the values of an initializer, which takes no more memory than it has bytes in the file."""
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise Refused("its weights lie in another file")
    if tensor.data_type not in _TYPES or any(side < 0 for side in tensor.dims) or len(tensor.dims) > 4:
        raise Refused("its weights are neither float32 nor int64, or have more than 4 axes")
    if len(tensor.raw_data) != math.prod(tensor.dims) * _TYPES[tensor.data_type].itemsize:
        raise Refused("its weights have other sizes than their bytes")
    values = numpy_helper.to_array(tensor)
    if tensor.data_type == TensorProto.FLOAT and not np.isfinite(values).all():
        raise Refused("its weights hold values that are not finite")
    return values


@dataclass
class _Bounds:
    """Works out node by node how large the tensors of a graph can get."""

    weights: dict[str, NDArray[Any]]
    known: dict[str, _Pictures | _Sizes] = field(default_factory=dict)
    values_in_all: int = 0
    products: int = 0

    def add(self, name: str, bound: _Pictures | _Sizes) -> None:
        """Takes a tensor's bound, and refuses one that is too large."""
        if isinstance(bound, _Pictures):
            self.values_in_all += math.prod(bound)
            if max(bound[1:]) > _MAX_SIDE or math.prod(bound) > _MAX_VALUES or self.values_in_all > _MAX_VALUES_IN_ALL:
                raise Refused("it takes more memory than a generator needs")
            if self.products > _MAX_PRODUCTS:
                raise Refused("it takes more time than a generator needs")
        elif bound.length > _MAX_SIZES:
            raise Refused("it counts more than a picture's sides")
        self.known[name] = bound

    def walk(self, node: onnx.NodeProto) -> None:
        """Takes the next node of the graph."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        try:
            bound = _RULES[node.op_type](self, list(node.input), attributes)
        # A rule reads what is there where facesr export has written it.
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refused(f"its {node.op_type} is not as facesr export writes it") from error
        self.add(node.output[0], bound)

    def pictures(self, name: str) -> _Pictures:
        """Returns the bound of pictures or features."""
        bound = self.known[name]
        if not isinstance(bound, _Pictures):
            raise TypeError(name)
        return bound

    def whole_numbers(self, name: str) -> list[int] | None:
        """Returns the numbers of a constant vector, None for sizes that the graph computes."""
        if name in self.weights:
            values = self.weights[name]
            if values.dtype.kind != "i" or values.ndim != 1:
                raise TypeError(name)
            return [int(value) for value in values]
        if not isinstance(self.known[name], _Sizes):
            raise TypeError(name)
        return None

    def sizes(self, name: str) -> _Sizes:
        """Returns the bound of a vector of sizes, a constant one, too."""
        numbers = self.whole_numbers(name)
        if numbers is None:
            bound = self.known[name]
            assert isinstance(bound, _Sizes)
            return bound
        return _Sizes(len(numbers), all(0 <= number <= _MAX_PAD for number in numbers))

    def are_sizes(self, name: str) -> bool:
        """Returns whether a tensor is a vector of whole numbers."""
        return isinstance(self.known.get(name), _Sizes) or (
            name in self.weights and self.weights[name].dtype.kind == "i"
        )

    def same(self, names: list[str], attributes: dict[str, Any]) -> _Pictures | _Sizes:
        """One value becomes one; further operands are numbers, or one for each channel."""
        bound = self.known[names[0]]
        for name in names[1:]:
            if not name:
                continue
            shape = self.weights[name].shape
            if self.weights[name].dtype.kind != "f" or math.prod(shape[1:]) != 1 or len(shape) not in (0, 3):
                raise ValueError(name)
            if shape and shape[0] not in (1, self.pictures(names[0]).channels):
                raise ValueError(name)
        return _Sizes(bound.length) if isinstance(bound, _Sizes) else bound

    def binary(self, names: list[str], attributes: dict[str, Any]) -> _Pictures | _Sizes:
        """Two pictures or features, one of them perhaps of one channel, or one of them a number."""
        first, second = names
        if any(map(self.are_sizes, names)):
            return _Sizes(max(self.sizes(first).length, self.sizes(second).length))
        for one, other in ((first, second), (second, first)):
            if other in self.weights:
                return self.same([one, other], attributes)
        pair = zip(self.pictures(first), self.pictures(second), strict=True)
        return _Pictures(*(max(sides) for sides in pair))

    def remainder(self, names: list[str], attributes: dict[str, Any]) -> _Sizes:
        """A size modulo a small number."""
        divisors = self.whole_numbers(names[1])
        if divisors is None or not all(0 < number <= _MAX_PAD for number in divisors) or attributes.get("fmod"):
            raise ValueError(names[1])
        return _Sizes(max(self.sizes(names[0]).length, len(divisors)), is_small=True)

    def convolution(self, names: list[str], attributes: dict[str, Any]) -> _Pictures:
        """The output has no more rows and columns than the input."""
        given, kernel = self.pictures(names[0]), self.weights[names[1]]
        channels, inner, *sides = kernel.shape
        group = attributes.get("group", 1)
        pads = attributes.get("pads", [0] * 4)
        strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        reach = [(side - 1) * dilation // 2 for side, dilation in zip(sides, dilations, strict=True)]
        # The input's channels are a bound, so fewer may be asked for; onnxruntime compares the true ones.
        is_sound = (
            kernel.dtype.kind == "f"
            and attributes["kernel_shape"] == sides
            and set(attributes) <= {"kernel_shape", "group", "pads", "strides", "dilations"}
            and 0 < inner * group <= given.channels
            and all(0 <= pad <= most for pad, most in zip(pads, [*reach, *reach], strict=True))
            and all(stride in (1, 2) for stride in strides)
            and (len(names) == 2 or self.weights[names[2]].shape == (channels,))
        )
        if not is_sound:
            raise ValueError(names[1])
        rows, columns = (-(-side // stride) for side, stride in zip(given[1:], strides, strict=True))
        # One kernel may serve many convolutions, so the file's size is no limit of its own.
        self.products += kernel.size * rows * columns
        return _Pictures(channels, rows, columns)

    def concatenation(self, names: list[str], attributes: dict[str, Any]) -> _Pictures | _Sizes:
        """Channels, rows or columns of pictures, or sizes, one after the other."""
        if self.are_sizes(names[0]):
            parts = [self.sizes(name) for name in names]
            return _Sizes(sum(part.length for part in parts), all(part.is_small for part in parts))
        sides = list(zip(*(self.pictures(name) for name in names), strict=True))
        axis = attributes["axis"] - 1
        if axis not in (0, 1, 2):
            raise ValueError("axis")
        return _Pictures(*(sum(side) if place == axis else max(side) for place, side in enumerate(sides)))

    def part(self, names: list[str], attributes: dict[str, Any]) -> _Pictures | _Sizes:
        """A part is no larger than the whole, and a constant one has its own length."""
        if len(names) != 4:
            raise ValueError("steps")
        starts, ends, axes = (self.whole_numbers(name) for name in names[1:])
        if self.are_sizes(names[0]):
            length = self.sizes(names[0]).length
            return _Sizes(_extent(starts, ends, length))
        given = self.pictures(names[0])
        if axes is None or len(axes) != 1:
            return given
        sides, axis = list(given), axes[0] - 1
        if axis not in (0, 1, 2):
            raise ValueError("axes")
        sides[axis] = _extent(starts, ends, sides[axis])
        return _Pictures(*sides)

    def border(self, names: list[str], attributes: dict[str, Any]) -> _Pictures:
        """A border of a few pixels, the picture's last ones again."""
        given, name = self.pictures(names[0]), names[1]
        if attributes.get("mode") != b"edge" or len(names) != 2 or self.sizes(name) != _Sizes(8, is_small=True):
            raise ValueError(name)
        pads = self.whole_numbers(name) or [_MAX_PAD - 1] * 8
        return _Pictures(*(side + pads[place + 1] + pads[place + 5] for place, side in enumerate(given)))

    def doubling(self, names: list[str], attributes: dict[str, Any]) -> _Pictures:
        """Pixels repeated."""
        data, roi, scales = names
        factors = self.weights[scales]
        if roi or factors.shape != (4,) or attributes.get("mode") != b"nearest":
            raise ValueError(scales)
        if tuple(factors[:2]) != (1, 1) or not all(factor in (1, 2, 4) for factor in factors[2:]):
            raise ValueError(scales)
        given = self.pictures(data)
        return _Pictures(given.channels, given.rows * int(factors[2]), given.columns * int(factors[3]))

    def shuffle(self, names: list[str], attributes: dict[str, Any]) -> _Pictures:
        """Channels become neighbouring pixels."""
        given, block = self.pictures(names[0]), attributes["blocksize"]
        if block not in (2, 3, 4):
            raise ValueError("blocksize")
        return _Pictures(given.channels // block**2, given.rows * block, given.columns * block)

    def mean(self, names: list[str], attributes: dict[str, Any]) -> _Pictures:
        """The mean of the channels."""
        if attributes.get("axes") != [1] or attributes.get("keepdims") != 1:
            raise ValueError("axes")
        return self.pictures(names[0])._replace(channels=1)

    def shape(self, names: list[str], attributes: dict[str, Any]) -> _Sizes:
        """The sides of a tensor."""
        self.pictures(names[0])
        return _Sizes(4)


def _extent(starts: Sequence[int] | None, ends: Sequence[int] | None, whole: int) -> int:
    if starts is None or ends is None or len(starts) != 1 or len(ends) != 1 or (starts[0] < 0) != (ends[0] < 0):
        return whole
    return max(0, min(whole, ends[0] - starts[0]))


_Rule = Callable[[_Bounds, list[str], dict[str, Any]], _Pictures | _Sizes]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("Identity", "Sigmoid", "Relu", "LeakyRelu", "PRelu", "Clip", "Sqrt"), _Bounds.same),
    **dict.fromkeys(("Neg", "Reciprocal"), _Bounds.same),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Bounds.binary),
    "Mod": _Bounds.remainder,
    "Conv": _Bounds.convolution,
    "Concat": _Bounds.concatenation,
    "Slice": _Bounds.part,
    "Pad": _Bounds.border,
    "Resize": _Bounds.doubling,
    "DepthToSpace": _Bounds.shuffle,
    "ReduceMean": _Bounds.mean,
    "Shape": _Bounds.shape,
}
OPERATIONS = tuple(sorted(_RULES))
