"""Opening a method by its name: an interpolation, a snapshot, two of them interpolated, an ONNX file, or pulse."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from facesr import dist
from facesr.build import check_node
from facesr.config import EvaluateSettings, SubmitSettings
from facesr.errors import CheckpointError, ConfigError
from facesr.methods.method import EQUAL_SHARES, INTERPOLATIONS, PULSE, Guard, Interpolation, Method
from facesr.methods.pulse.originals import check_originals
from facesr.methods.pulse.pulse import check_pulse, open_pulse
from facesr.places import Place
from facesr.snapshots.interpolation import check_same_network, interpolated, parts_of
from facesr.snapshots.network import network_of
from facesr.snapshots.rules import ONNX_ENDING
from facesr.snapshots.shipped import PREFIX, snapshot_file
from facesr.snapshots.snapshot import read_snapshot
from facesr.weights import sha256_of

# What restores a picture that its snapshot's bound does not let pass; where that does not pass either, bicubic does.
FALLBACK = f"{PREFIX}asc19_psnr"
LAST_FALLBACK = "bicubic"


class Asked(NamedTuple):
    """A method as a command asks for it.

    Attributes:
        spec, interpolate_with, share: see `open_method`; ``pulse`` is one more `spec`.
    """

    spec: str
    interpolate_with: str | None = None
    share: float = EQUAL_SHARES


def open_asked(settings: EvaluateSettings | SubmitSettings, device: torch.device, asked: Asked) -> Callable[[], Method]:
    """Returns what gives the method; whatever can be checked without long work is checked before it returns.

    A snapshot is opened now, once. The generator of a search is no small file: it is opened when it is asked for, and
    what it is built from is checked now.

    Raises:
        FaceSRError: there is none of that name, or its weights are not as they have to be.
    """
    if asked.spec == PULSE:
        check_pulse(settings.pulse)
        check_originals(settings)
        check_node(settings.latent_generator, Place.LATENT_GENERATOR, "generator")
        return lambda: dist.in_turn(lambda: open_pulse(settings, device))
    method = open_method(asked.spec, device, asked.interpolate_with, asked.share, guard=settings.guard)
    return lambda: method


def open_method(
    spec: str,
    device: torch.device,
    interpolate_with: str | None = None,
    interpolation_weight: float = EQUAL_SHARES,
    *,
    guard: bool = True,
) -> Method:
    """Returns the method that `spec` names: ``bicubic``, ``nearest``, a snapshot, a run folder (its best), FILE.onnx.

    A snapshot is a file or ``pretrained:NAME``, one that comes with the package; an ONNX file one of `facesr export`.

    Args:
        spec: what is opened.
        device: where its network goes.
        interpolate_with: a second snapshot file or run folder, of the same network, interpolated with the first
        (`facesr.snapshots.interpolation`). interpolation_weight: the second one's share of the weights, 0 to 1.
        guard: whether a picture below the bound that the snapshot states is restored by a fallback.

    Raises:
        CheckpointError: nothing of that name exists, or a snapshot, or that of the fallback, is damaged or does not fit
            its network.
        ConfigError: the two cannot be interpolated, or the share is out of range or without a second snapshot.
    """
    if not 0.0 <= interpolation_weight <= 1.0:
        raise ConfigError(f"interpolation_weight={interpolation_weight:g} is out of range; give a share from 0 to 1.")
    if interpolate_with is None and interpolation_weight != EQUAL_SHARES:
        raise ConfigError(
            f"interpolation_weight={interpolation_weight:g} needs interpolate_with=RUN, the second snapshot or run."
        )
    if interpolate_with is not None:
        for name in (spec, interpolate_with):
            if name in INTERPOLATIONS:
                raise ConfigError(f"{name} has no weights and cannot be interpolated; give two snapshots or runs.")
    if spec in INTERPOLATIONS:
        return Method(spec, INTERPOLATIONS[spec]().eval().to(device))
    if is_onnx(spec) and interpolate_with is None:
        return _open_onnx(Path(spec).expanduser(), device, guard)
    path = _snapshot_path(spec)
    snapshot, interpolation = read_snapshot(path), None
    if interpolate_with is not None:
        second_path = _snapshot_path(interpolate_with)
        second = read_snapshot(second_path)
        check_same_network(snapshot, path, second, second_path)
        interpolation = Interpolation(second_path, parts_of(snapshot, second, interpolation_weight))
        snapshot = interpolated(snapshot, second, interpolation.parts.weight)
    return Method(
        # What ships is known by its name, not by those of the runs that it was made of.
        name=spec if interpolation is None and spec.startswith(PREFIX) else snapshot.run,
        generator=network_of(snapshot, path).to(device),
        weights_sha256=snapshot.sha256,
        loss_judges=snapshot.loss_judges,
        config_sha256=snapshot.config_sha256,
        kimg=snapshot.kimg,
        path=path,
        interpolation=interpolation,
        framing=snapshot.framing,
        guard=_guard_of(snapshot.consistency_bound_db, snapshot.sha256, device) if guard else Guard(on=False),
    )


def is_onnx(spec: str) -> bool:
    """Returns whether a method's name is that of an ONNX file, by its ending."""
    return not spec.startswith(PREFIX) and Path(spec).suffix.lower() == ONNX_ENDING and not Path(spec).is_dir()


def _open_onnx(path: Path, device: torch.device, guard: bool) -> Method:
    # onnx and onnxruntime take a while to load, which nobody else should wait for.
    from facesr.methods.onnx_file import open_onnx

    found = open_onnx(path, device)
    about = found.about
    return Method(
        name=about.run,
        generator=found.generator,
        weights_sha256=found.sha256,
        loss_judges=about.loss_judges,
        config_sha256=about.config_sha256,
        kimg=about.kimg,
        path=path,
        guard=_guard_of(about.consistency_bound_db, about.snapshot_sha256, device) if guard else Guard(on=False),
        packages=found.packages,
        receptive_radius_px=about.receptive_radius_px,
        framing=about.trained_framing,
    )


def _guard_of(bound: float | None, snapshot_sha256: str, device: torch.device) -> Guard:
    if bound is None:
        return Guard()
    # The fallback's own fallback, and that of a copy of it, is the last one.
    is_fallback = snapshot_sha256 == sha256_of(snapshot_file(FALLBACK))
    spec = LAST_FALLBACK if is_fallback else FALLBACK
    return Guard(True, bound, replace(open_method(spec, device), name=spec))


def _snapshot_path(spec: str) -> Path:
    path = snapshot_file(spec)
    if not path.is_file():
        raise CheckpointError(
            f"{spec} is neither {' nor '.join(INTERPOLATIONS)} nor a snapshot file, run folder, {PREFIX}NAME or ONNX "
            "file; give one of them, for example runs/NAME."
        )
    return path
