"""How large a network is: its learned values, and the multiply-accumulates with them for one picture.

Counted are the products with learned weights, as the field's tables count them: convolutions and linear layers. Biases,
activations, normalisations and filters that are not learned (blur, bicubic enlargement) are left out. Every type of
layer with learned values of its own stands in a table here; one that does not is refused, so that no count is too
small in silence.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from facesr.models.spectral import SpectralConv2d
from facesr.models.style_generator import ConstantInput
from facesr.models.style_layers import BiasedActivation, EqualisedConv, EqualisedLinear, ModulatedConv, Noise, ToRgb

Inputs = tuple[Tensor, ...]


def count_parameters(module: nn.Module) -> int:
    """Returns the number of learned values of a network; one that several layers share counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _by_output(layer: nn.Module, _inputs: Inputs, output: Tensor) -> int:
    # Each place of the output, in each picture, meets the whole kernel; the weight's first axis is the channels out.
    weight = _weight(layer)
    return output.numel() // weight.shape[0] * weight.numel()


def _by_input(layer: nn.Module, inputs: Inputs, _output: Tensor) -> int:
    # A transposed convolution spreads the kernel from each place of its input; the first axis is the channels in.
    weight = _weight(layer)
    return inputs[0].numel() // weight.shape[0] * weight.numel()


def _modulated(layer: nn.Module, inputs: Inputs, output: Tensor) -> int:
    assert isinstance(layer, ModulatedConv)
    _, num_out, num_in, *_ = layer.weight.shape
    places = inputs[0].numel() // num_in if layer.blur is not None else output.numel() // num_out
    # Demodulation multiplies the squared style of each picture by the kernel's power, a matrix (out, in).
    demodulation = inputs[0].shape[0] * num_out * num_in if layer.demodulate else 0
    return places * layer.weight.numel() + demodulation


COUNTED: dict[type[nn.Module], Callable[[nn.Module, Inputs, Tensor], int]] = {
    nn.Conv1d: _by_output,
    nn.Conv2d: _by_output,
    nn.Conv3d: _by_output,
    nn.ConvTranspose1d: _by_input,
    nn.ConvTranspose2d: _by_input,
    nn.ConvTranspose3d: _by_input,
    nn.Linear: _by_output,
    SpectralConv2d: _by_output,
    EqualisedConv: _by_output,
    EqualisedLinear: _by_output,
    ModulatedConv: _modulated,
}
# Their learned values are added or multiplied one by one, or make the weight of another layer once a call.
FREE: tuple[type[nn.Module], ...] = (
    nn.PReLU,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    ParametrizationList,
    BiasedActivation,
    ConstantInput,
    Noise,
    ToRgb,
)


def _rules(module: nn.Module) -> dict[nn.Module, Callable[[nn.Module, Inputs, Tensor], int]]:
    """Returns the layers whose products count and how; refuses a layer that no table here knows."""
    rules = {}
    for name, layer in module.named_modules():
        rule = next((rule for kind, rule in COUNTED.items() if isinstance(layer, kind)), None)
        if rule is not None:
            rules[layer] = rule
        elif not isinstance(layer, FREE) and next(layer.parameters(recurse=False), None) is not None:
            kind = f"{type(layer).__module__}.{type(layer).__qualname__}"
            place = f"the layer {name}" if name else "the network"
            raise TypeError(f"{place} is a {kind}, whose learned values no table of {__name__} counts; add it there")
    return rules


def count_macs_of(module: nn.Module, *inputs: Tensor) -> int:
    """Returns the multiply-accumulates with learned weights of one call of `module` with these inputs.

    The network runs once, in the mode it is in, and with gradients: without them a network may take a layer's weights
    and multiply them in another order (models/srresnet.py), which no hook sees.

    Raises:
        TypeError: a layer has learned values and stands in no table of this module, or it was never called.
    """
    total, called = 0, set()
    rules = _rules(module)

    def add(layer: nn.Module, layer_inputs: Inputs, output: Tensor) -> None:
        nonlocal total
        total += rules[layer](layer, layer_inputs, output)
        called.add(layer)

    hooks = [layer.register_forward_hook(add) for layer in rules]
    try:
        with torch.enable_grad():
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in module.named_modules():
        if layer in rules and layer not in called:
            # Its weights may have been taken and multiplied elsewhere, where no hook sees it.
            raise TypeError(f"the layer {name} was never called, so what its weights cost is unknown")
    return total


def count_macs(module: nn.Module, height: int, width: int) -> int:
    """Returns the multiply-accumulates with learned weights for one picture (3, height, width); see `count_macs_of`."""
    return count_macs_of(module, torch.zeros(1, 3, height, width))
