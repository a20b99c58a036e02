"""`auto`: what a run computes in by the instructions that the machine has."""

import pytest
import torch

from facesr.errors import ConfigError
from facesr.training.precision import choose_precision, with_chosen_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "chosen"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_auto_precision_is_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert choose_precision("auto", CPU) == chosen
    assert choose_precision("fp16", CPU) == "fp16"
    with pytest.raises(ConfigError, match="precision=half is unknown; choose auto, fp32"):
        choose_precision("half", CPU)


@pytest.mark.parametrize(("has_bf16", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_in_a_loss_is_decided_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    node = {
        "weight": 2.0,
        "embedder": {"name": "auto", "precision": "auto"},
        "others": [{"precision": "auto"}, {"precision": "bf16"}, "auto"],
    }
    assert with_chosen_precision(node, CPU) == {
        "weight": 2.0,
        "embedder": {"name": "auto", "precision": chosen},
        "others": [{"precision": chosen}, {"precision": "bf16"}, "auto"],
    }
