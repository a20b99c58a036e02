"""What numbers a run computes in, where its configuration leaves that to the machine."""

from typing import Any

import torch

from facesr.errors import ConfigError


def choose_precision(name: str, device: torch.device) -> str:
    """Returns fp32, bf16 or fp16; auto takes bf16 where the device has matrix units for it.

    Raises:
        ConfigError: the name is unknown.
    """
    if name not in ("auto", "fp32", "bf16", "fp16"):
        raise ConfigError(f"precision={name} is unknown; choose auto, fp32, bf16 or fp16.")
    if name != "auto":
        return name
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Returns whether a device computes in bf16 itself; one that emulates it is slower with it than with fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def with_chosen_precision(node: Any, device: torch.device) -> Any:
    """Returns a configuration with every ``precision: auto`` in it decided for the device: the judges in the losses."""
    if isinstance(node, list):
        return [with_chosen_precision(item, device) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: choose_precision("auto", device)
        if key == "precision" and value == "auto"
        else with_chosen_precision(value, device)
        for key, value in node.items()
    }
