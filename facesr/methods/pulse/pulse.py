"""method=pulse: the search as a network that restores, which remembers and resumes, and the settings it takes.

    uv run evaluate.py method=pulse low=DIR high=DIR
    uv run submit.py method=pulse low=DIR team=NAME out=FILE.zip

docs/pulse.md explains keys, files and limits. What it makes are invented faces, and every picture says so.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facesr.build import build
from facesr.config import EvaluateSettings, PulseSettings, SubmitSettings
from facesr.errors import ConfigError
from facesr.image import to_float, to_uint8
from facesr.log import Console
from facesr.methods.method import PULSE, Method
from facesr.methods.pulse.covariance import check_mapping
from facesr.methods.pulse.encoder import STARTS, check_start
from facesr.methods.pulse.kept import Kept, key_of
from facesr.methods.pulse.operator import OPERATORS, Operator, operator_for
from facesr.methods.pulse.originals import KEY, REMARK, Originals, check_originals, open_originals
from facesr.methods.pulse.progress import SearchProgress
from facesr.methods.pulse.schedule import SCHEDULES
from facesr.methods.pulse.search import OPTIMIZERS, PRECISIONS, Found, search
from facesr.methods.pulse.status import tell, unknown
from facesr.methods.pulse.style_space import StyleLatentSpace
from facesr.methods.record import SYNTHETIC
from facesr.places import Place
from facesr.protocols import LatentGenerator
from facesr.weights import cache_dir

# Neither moves a result beyond float32 rounding.
_NOT_DECIDING = ("batch_size", "reuse")


class Pulse(nn.Module):
    """Restores faces by searching a generator's latent space, each face on its own.

    Attributes:
        generator: what is searched.
        settings: how.
        whole_batches: see `facesr.methods.restore.restore_batch`.
    """

    whole_batches = True

    def __init__(
        self,
        generator: LatentGenerator,
        settings: PulseSettings,
        kept: Kept,
        node: dict[str, Any],
        originals: Originals | None = None,
    ) -> None:
        """Takes a generator that is a network on its device, in evaluation mode.

        Args:
            generator: what is searched.
            settings: how.
            kept: where results are looked for and kept.
            node: the generator's configuration, part of a result's identity.
            originals: for the term of `pulse.identity_weight`; None without it.
        """
        super().__init__()
        self.generator, self.settings = generator, settings
        self._kept, self._originals = kept, originals
        self._node = {key: None if value is None else str(value) for key, value in node.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything beside the input that decides a result, plain containers."""
        mapped = [self.generator.mapped_mean, self.generator.mapped_std]
        digest = hashlib.sha256(b"".join(part.detach().cpu().float().numpy().tobytes() for part in mapped))
        return {
            "pulse": {key: value for key, value in asdict(self.settings).items() if key not in _NOT_DECIDING},
            "generator": self._node,
            "weights_sha256": self.generator.weights_sha256,
            "mapped_sha256": digest.hexdigest(),
        }

    def forward(self, low: Tensor) -> Tensor:
        """Returns restored faces (N, 3, 4h, 4w) in [0, 1], whole grey levels, for `low` (N, 3, h, w) in [0, 1].

        A face whose result is kept is not searched again, unless `reuse` is false.

        Raises:
            ImageError: the input has a size that the generator cannot be searched for.
        """
        height, width = low.shape[-2:]
        operator = operator_for(self.settings.operator, self.generator.size, (width, height))
        pictures = to_uint8(low)
        keys = self._keys(pictures, low.device)
        results = {key: self._kept.get(key) if self.settings.reuse else None for key in keys}
        # One picture given twice is one search.
        missing = {key: number for number, key in enumerate(keys) if results[key] is None}
        at_once = max(1, self.settings.batch_size // self.settings.num_seeds)
        numbers = list(missing.values())
        with contextlib.closing(SearchProgress(len(numbers), self.settings.steps, self.settings.num_seeds)) as progress:
            for start in range(0, len(numbers), at_once):
                part = numbers[start : start + at_once]
                for number, new in zip(part, self._search(operator, low[part], progress), strict=True):
                    self._kept.put(keys[number], new)
                    results[keys[number]] = new
        restored = [found.restored for key in keys if (found := results[key]) is not None]
        return to_float(np.stack(restored)).to(low.device)

    def result_of(self, low: NDArray[np.uint8], device: torch.device) -> Found | None:
        """Returns what was found for an input, uint8 (h, w, 3), None where nothing is kept."""
        (key,) = self._keys([low], device)
        return self._kept.get(key)

    def _keys(self, pictures: Iterable[NDArray[np.uint8]], device: torch.device) -> list[str]:
        deciding = {**self.identity, "device": device.type}
        known = self._originals
        if known is None:
            return [key_of(picture, deciding) for picture in pictures]
        return [key_of(picture, {**deciding, "original": known.key(picture.tobytes())}) for picture in pictures]

    def _search(self, operator: Operator, low: Tensor, progress: SearchProgress) -> list[Found]:
        further = () if self._originals is None else (self._originals.wanted(low),)
        with torch.enable_grad():
            found = search(self.generator, operator, low, self.settings, progress.watch, *further)
        progress.count(found)
        return found


def open_pulse(settings: EvaluateSettings | SubmitSettings, device: torch.device) -> Method:
    """Returns method=pulse as `settings` describe it.

    Raises:
        ConfigError: a key is out of range or has no meaning here.
        WeightsError: the generator's weights are missing or wrong.
    """
    check_pulse(settings.pulse)
    check_originals(settings)
    if settings.self_ensemble:
        raise ConfigError("self_ensemble=true would mix two invented faces; leave it out with method=pulse.")
    if settings.interpolate_with is not None:
        raise ConfigError("interpolate_with has no meaning with method=pulse; leave it out.")
    if settings.protocol.perceptual is not None:
        raise ConfigError(f"method=pulse makes faces and protocol {settings.protocol.name} scores none; leave one out.")
    generator = build(settings.latent_generator, Place.LATENT_GENERATOR, key="generator")
    assert isinstance(generator, nn.Module) and isinstance(generator, LatentGenerator)
    if settings.pulse.covariance_weight:
        check_mapping(generator, "pulse.covariance_weight", "leave it 0")
    if settings.pulse.prior_weight and isinstance(generator, StyleLatentSpace):
        raise ConfigError(
            "pulse.prior_weight needs standard normal latents and maps (faces, eigenfaces), and those of "
            f"generator={generator.name} are not; leave it 0, or give pulse.covariance_weight."
        )
    if settings.pulse.start == "encoder":
        check_start(generator)
    caveat = getattr(generator, "caveat", "")
    if caveat and settings.low is not None:
        Console().say(f"note: {caveat}")
    licence = getattr(generator, "licence", "")
    if licence:
        Console().say(f"note: {licence}")
    generator = generator.eval().requires_grad_(False).to(device)
    originals = _originals(settings, device)
    module = Pulse(generator, settings.pulse, Kept(cache_dir() / PULSE), settings.latent_generator, originals)
    remark = remark_of(generator.name) + ("" if originals is None else f"; {REMARK}")
    known = {} if originals is None else {"originals": originals.sha256}
    identity = json.dumps({**module.identity, **known}, sort_keys=True)
    return Method(
        name=f"{PULSE}-{generator.name}" + ("" if originals is None else "-with-original"),
        loss_judges=() if originals is None else (originals.judge.name,),
        generator=module.eval(),
        weights_sha256=generator.weights_sha256,
        config_sha256=hashlib.sha256(identity.encode()).hexdigest(),
        remark=remark,
        whole_only=True,
        epilogue=functools.partial(tell, functools.partial(module.result_of, device=device), remark),
        may_reuse=functools.partial(_may_reuse, module, device),
    )


def _may_reuse(module: Pulse, device: torch.device, low: Mapping[str, Path]) -> bool:
    """Returns whether a folder restored earlier serves: `reuse` allows it, and the status can be told of every face."""
    if not module.settings.reuse:
        return False
    missing = unknown(functools.partial(module.result_of, device=device), low)
    if missing:
        Console().say(
            f"note: what was found for {len(missing)} of {len(low)} faces is no longer kept in {cache_dir() / PULSE}; "
            "they are searched again"
        )
    return not missing


def _originals(settings: EvaluateSettings | SubmitSettings, device: torch.device) -> Originals | None:
    """Returns the originals where the search uses them, and says that it does."""
    name = settings.pulse.identity_judge
    if not isinstance(settings, EvaluateSettings) or not settings.pulse.identity_weight:
        return None
    if name is None or settings.low is None or settings.high is None:
        return None
    Console().say(
        f"note: {KEY} uses the original: its identity, as {name} sees it, is in the loss. This asks what if the person "
        f"were known; it restores nothing, and {name} is a white-box judge of it."
    )
    return open_originals(Path(settings.low), Path(settings.high), name, device)


def remark_of(name: str) -> str:
    """Returns what every picture from a generator of that name says about itself."""
    return f"{SYNTHETIC}: invented by facesr pulse ({name}) from a low-resolution picture; not the person"


def check_pulse(settings: PulseSettings) -> None:
    """Raises ConfigError for keys of the search that do not go together, or a name that is unknown."""
    if settings.l2_weight + settings.l1_weight == 0:
        raise ConfigError("pulse.l2_weight and pulse.l1_weight are both 0; the search would not see the input.")
    if settings.spread and settings.num_seeds < 2:
        raise ConfigError("pulse.spread=true compares several seeds; give pulse.num_seeds=2 or more.")
    known = {
        "schedule": SCHEDULES,
        "optimizer": OPTIMIZERS,
        "start": STARTS,
        "operator": OPERATORS,
        "precision": PRECISIONS,
    }
    for key, names in known.items():
        if getattr(settings, key) not in names:
            raise ConfigError(f"pulse.{key}={getattr(settings, key)} is unknown; choose one of {', '.join(names)}.")
