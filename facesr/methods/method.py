"""What a method is: a network that restores, with the names and digests that say which one, and its guard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from facesr.guard import Fallback, Finding, GuardRecord, replaced_of
from facesr.models.interpolation import Bicubic, Nearest
from facesr.photos.trained import TrainedFraming
from facesr.snapshots.interpolation_parts import InterpolationParts

INTERPOLATIONS: dict[str, type[nn.Module]] = {"bicubic": Bicubic, "nearest": Nearest}
# The search of facesr.methods.pulse, whose generator has settings of its own.
PULSE = "pulse"
EQUAL_SHARES = 0.5


@dataclass(frozen=True)
class Interpolation:
    """The second snapshot of an interpolation.

    Attributes:
        path: its file.
        parts: digests of both snapshots, and the second one's share.
    """

    path: Path
    parts: InterpolationParts


@dataclass(frozen=True)
class Guard:
    """What the pictures of a snapshot are checked with.

    Attributes:
        on: whether they are checked at all.
        bound_db: lowest consistency that passes, 0 to 100; None where the snapshot states none, and everything passes.
        fallback: restores what does not pass; it may have a guard itself. None without a bound.
    """

    on: bool = True
    bound_db: float | None = None
    fallback: "Method | None" = None


@dataclass(frozen=True)
class Method:
    """A way to restore pictures.

    Attributes:
        name: ``bicubic``, ``nearest``, ``pretrained:NAME``, the name of the run, or ``FIRST+WEIGHT*SECOND`` for an
            interpolation; an ONNX file has that of its run.
        generator: network in evaluation mode, on its device.
        weights_sha256: of the snapshot's or ONNX file, of an interpolation as `facesr.snapshots.interpolation_parts`
        says; empty without weights. loss_judges: recognisers that were part of its training loss.
        config_sha256: digest of the run's configuration; empty for a method without weights.
        kimg: thousands of images it was trained on.
        path: the snapshot, of an interpolation the first one, or None.
        blend: the second snapshot, None for a method that is no interpolation.
        remark: what the PNG files of its pictures say about them; for a method that invents faces, that it does.
        whole_only: whether a picture must not be cut into tiles.
        guard: what its pictures are checked with; None for a method without a snapshot, which has no guard.
        packages: name -> version of packages that decide its pixels beside those of every method.
        receptive_radius_px: how far its network sees along one axis, in input pixels, as an ONNX file states it; None
            where nothing states it.
        framing: where faces lie in the pictures that its network was trained on; None where nothing says so.
        epilogue: called on every rank with the low-resolution pictures (id -> file) when they are restored, and a
            folder; writes there what the method has to tell of each, and returns a sentence. None for most methods.
        may_reuse: called on every rank with the low-resolution pictures (id -> file) before a folder that was restored
            earlier is taken as it is; returns whether it may be. None where it always may.
    """

    name: str
    generator: nn.Module
    weights_sha256: str = ""
    loss_judges: tuple[str, ...] = ()
    config_sha256: str = ""
    kimg: float = 0.0
    path: Path | None = None
    interpolation: Interpolation | None = None
    remark: str = ""
    whole_only: bool = False
    guard: Guard | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    receptive_radius_px: int | None = None
    framing: TrainedFraming | None = None
    epilogue: Callable[[Mapping[str, Path], Path], str] | None = None
    may_reuse: Callable[[Mapping[str, Path]], bool] | None = None

    @property
    def bound_db(self) -> float | None:
        """The consistency in dB that a picture has to have; None where none is asked for."""
        return None if self.guard is None else self.guard.bound_db


def guard_record(method: Method, findings: Mapping[str, Finding]) -> GuardRecord | None:
    """Returns what is recorded of a method's guard and its findings by picture, None for a method without a guard."""
    guard = method.guard
    if guard is None:
        return None
    fallbacks: list[Fallback] = []
    fallback = guard.fallback
    while fallback is not None:
        fallbacks.append(Fallback(fallback.name, fallback.weights_sha256))
        fallback = None if fallback.guard is None else fallback.guard.fallback
    replaced = {name: replaced_of(finding) for name, finding in sorted(findings.items())}
    return GuardRecord(guard.on, guard.bound_db, tuple(fallbacks), replaced)
