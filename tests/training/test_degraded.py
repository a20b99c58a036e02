"""Training on degraded inputs: official by default, exact resume, and the same draws however faces are shared out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facesr.build import build, load_group
from facesr.config import TrainSettings
from facesr.data.packed.reader import Pairs
from facesr.degradation import Degradation, Official
from facesr.errors import EXIT_REQUEUE, ConfigError
from facesr.image import to_float
from facesr.losses.pixel import L1
from facesr.models.interpolation import Bicubic
from facesr.places import Place
from facesr.resample import downscale_to_grey_levels
from facesr.training import loop, step
from facesr.training.loop import train
from facesr.training.rundir import identity_of, plain_config
from facesr.training.step import GanState, train_step
from facesr.training.validation import Validator
from tests.training.conftest import asked_to_stop_at, final_state

Make = Callable[..., TrainSettings]


class Remembering(nn.Module):
    """Bicubic with one weight, which keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.bicubic, self.seen = nn.Parameter(torch.ones(1)), Bicubic(), list[Tensor]()

    def forward(self, low: Tensor) -> Tensor:
        """Returns `low` enlarged, (N, 3, 4h, 4w)."""
        self.seen.append(low.clone())
        restored: Tensor = self.bicubic(low) * self.gain
        return restored


def given(parts: list[Tensor], kimg: float, **gan: Any) -> Tensor:
    """Returns what one step gives the generator for the parts of this rank's share."""
    generator = Remembering()
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.0)
    train_step(GanState(generator, optimizer, {"pixel": L1(1.0, 0.0)}, "fp32", 1.0, **gan), parts, kimg)
    return torch.cat(generator.seen)


def faces(num: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, 28, 24), generator=generator).float() / 255


def random() -> Degradation:
    found: Degradation = build(load_group("degradation", "random"), Place.DEGRADATION)
    return found


def test_by_default_the_generator_is_given_the_official_pictures(bare: Make) -> None:
    high = faces()
    assert torch.equal(given([high], 0.5), downscale_to_grey_levels(high))
    assert isinstance(build(bare("name=x").degradation, Place.DEGRADATION), Official)


def test_the_draws_belong_to_a_faces_place_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    high, way = faces(), random()
    expected = way(high, 5, 1237)
    assert torch.equal(given([high], 1.237, degradation=way, seed=5), expected)
    assert torch.equal(given(list(high.chunk(2)), 1.237, degradation=way, seed=5), expected)
    assert not torch.equal(given([high], 1.241, degradation=way, seed=5), expected)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(step.dist, "rank", lambda rank=rank: rank)
        shares.append(given([high[2 * rank : 2 * rank + 2]], 1.237, degradation=way, seed=5))
    assert torch.equal(torch.cat(shares), expected)


@pytest.mark.slow
def test_a_run_on_degraded_faces_resumes_to_the_same_bits(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("degradation=random", "duration_kimg=0.012", "validation_every_kimg=0.012")
    assert train(bare("name=whole", *overrides)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", asked_to_stop_at(2))
        assert train(bare("name=stopped", *overrides)) == EXIT_REQUEUE
    torch.manual_seed(999)
    assert train(bare("name=stopped", *overrides)) == 0
    first, second = final_state(bare("name=whole")), final_state(bare("name=stopped"))
    for part in ("generator", "average", "discriminator"):
        assert all(torch.equal(tensor, second[part][name]) for name, tensor in first[part].items()), part


@pytest.mark.slow
def test_validation_stays_on_the_official_pairs(bare: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Pairs] = []
    plain = Validator.__init__

    def remembering(self: Validator, pairs: Pairs, *args: Any) -> None:
        seen.append(pairs)
        plain(self, pairs, *args)

    monkeypatch.setattr(Validator, "__init__", remembering)
    train(bare("name=validated", "degradation=random", "duration_kimg=0.004"))
    assert torch.equal(downscale_to_grey_levels(to_float(seen[0].high)), to_float(seen[0].low))


def test_a_run_from_before_there_were_degradations_is_an_official_one(bare: Make) -> None:
    now = plain_config(bare("name=x"))
    before = {key: value for key, value in now.items() if key != "degradation"}
    assert identity_of(now) == identity_of(before)
    assert identity_of(plain_config(bare("name=x", "degradation=random"))) != identity_of(before)


def test_a_run_from_before_there_were_pose_shares_took_the_faces_as_they_come(bare: Make) -> None:
    now = plain_config(bare("name=x"))
    before = {**now, "data": {key: value for key, value in now["data"].items() if key != "pose_shares"}}
    assert identity_of(now) == identity_of(before) and "pose_shares" in now["data"]
    balanced = {**now, "data": {**now["data"], "pose_shares": [0.4, 0.2, 0.2, 0.2]}}
    assert identity_of(balanced) != identity_of(before)
    kept = identity_of(balanced)["data"]["augmentation"]
    assert kept == identity_of(now)["data"]["augmentation"] and "flip" in kept


def test_another_degradation_under_the_name_is_refused(bare: Make) -> None:
    train(bare("name=taken", "duration_kimg=0.004"))
    with pytest.raises(ConfigError, match=r"differs in degradation"):
        train(bare("name=taken", "duration_kimg=0.004", "degradation=random"))
    with pytest.raises(ConfigError, match="degradation=rain is unknown"):
        bare("name=other", "degradation=rain")
