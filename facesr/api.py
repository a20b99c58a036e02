"""What ``import facesr`` offers to Python programs: open a method, restore, score, degrade.

Pictures are NumPy arrays, RGB, uint8, (H, W, 3), or a stack (N, H, W, 3); wherever one is taken, the path of a picture
file or of a folder of them is, too. docs/python.md has examples.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facesr.dist import choose_device
from facesr.errors import ConfigError, DataError, ImageError
from facesr.evaluation.judges import named_judge, on_device
from facesr.image import Picture, to_float
from facesr.methods.method import INTERPOLATIONS, Method
from facesr.methods.open import open_method as open_on
from facesr.methods.restore import restore_pictures
from facesr.metrics import default_metrics
from facesr.photos.decode import Unusable, list_pictures, read_picture
from facesr.protocols import MetricInputs
from facesr.resample import downscale_uint8
from facesr.snapshots.shipped import PREFIX, shipped_names
from facesr.task import SCALE

Pictures = Picture | str | Path | Sequence[Picture | str | Path]


class OpenMethod:
    """A method that is ready to restore; `open_method` makes it.

    Attributes:
        name: how it is called in reports.
        device: where it runs.
    """

    def __init__(self, method: Method, device: torch.device) -> None:
        self._method = method
        self.name = method.name
        self.device = device

    def restore(self, pictures: Pictures, *, self_ensemble: bool = False, batch_size: int = 64) -> Any:
        """Returns pictures restored 4x, uint8 RGB.

        Args:
            pictures: low-resolution pictures: an array (h, w, 3) or (N, h, w, 3), a file, a folder, or a sequence of
                arrays and files. Files may be PNG, JPEG, WebP, TIFF or BMP.
            self_ensemble: take the mean with the restored mirror image: better, and twice as slow.
            batch_size: faces of 24x28 that are restored at once.

        Returns:
            (4h, 4w, 3) for one picture or file, (N, 4h, 4w, 3) for a stack, else a list in the order given (of a
            folder, by name).

        Raises:
            ConfigError: `batch_size` is below 1.
            DataError: a file or folder cannot be read.
            ImageError: no picture is given, or one that is no uint8 RGB picture or has no pixels.

        Warns:
            GuardWarning: a picture contradicted its input and was restored by the method's fallback.
        """
        _check_batch(batch_size)
        given = _listed(pictures)
        restored: list[Picture] = []
        for part in _runs(given):
            answers = restore_pictures(
                self._method, np.stack(part), device=self.device, batch_size=batch_size, self_ensemble=self_ensemble
            )
            restored.extend(answers)
        return _as_given(restored, pictures)

    def __repr__(self) -> str:
        return f"OpenMethod({self.name!r}, device={str(self.device)!r})"


def list_methods() -> list[str]:
    """Returns the names of the methods that come with the package; a run or a snapshot file is a method, too.

    >>> list_methods()  # doctest: +NORMALIZE_WHITESPACE
    ['bicubic', 'nearest', 'pretrained:asc19_fast', 'pretrained:asc19_final', 'pretrained:asc19_psnr',
     'pretrained:general', 'pretrained:wild']
    """
    return [*INTERPOLATIONS, *(f"{PREFIX}{name}" for name in shipped_names())]


def open_method(
    name: str | Path, *, device: str = "auto", interpolate_with: str | Path | None = None, weight: float = 0.5
) -> OpenMethod:
    """Returns a method that restores.

    Args:
        name: one of `list_methods`, a snapshot file, a run's folder, or an ONNX file of `facesr export`.
        device: ``auto``, ``cpu`` or ``cuda``.
        interpolate_with: a second snapshot of the same network; the weights are interpolated.
        weight: of the second one, 0 to 1.

    Raises:
        CheckpointError: there is no such method, or its snapshot is damaged.
        ConfigError: the device is unknown, or the two cannot be interpolated.

    >>> import numpy as np
    >>> open_method("bicubic", device="cpu").restore(np.zeros((28, 24, 3), np.uint8)).shape
    (112, 96, 3)
    """
    where = choose_device(device)
    second = None if interpolate_with is None else str(interpolate_with)
    return OpenMethod(open_on(str(name), where, second, weight), where)


def degrade(high: Pictures) -> Any:
    """Returns pictures downscaled by 4 as the competition does, uint8; shaped as `OpenMethod.restore` does.

    Args:
        high: pictures whose sides are multiples of 4.

    Raises:
        ImageError: a side is no multiple of 4 or is 0, no picture is given, or one is no uint8 RGB picture.

    >>> import numpy as np
    >>> degrade(np.full((2, 112, 96, 3), 7, np.uint8)).shape
    (2, 28, 24, 3)
    """
    given = _listed(high)
    for picture in given:
        height, width = picture.shape[:2]
        if height % SCALE or width % SCALE:
            raise ImageError(f"a picture of {width}x{height} cannot be downscaled by {SCALE}; crop it to multiples.")
    return _as_given([low for part in _runs(given) for low in downscale_uint8(np.stack(part))], high)


def score(
    restored: Pictures,
    high: Pictures,
    *,
    low: Pictures | None = None,
    judges: Sequence[str] = ("builtin",),
    device: str = "auto",
    batch_size: int = 64,
) -> dict[str, NDArray[np.float64]]:
    """Returns every score of restored pictures, float64 (N,) by name: ``is/JUDGE``, ``psnr_rgb``, ``ssim_y`` ...

    The scores are those of evaluate.py (docs/evaluation.md); take their mean for a set.

    Args:
        restored: what is scored.
        high: the originals, as many and in the same order.
        low: the inputs; with them the consistency is scored, too.
        judges: recognisers, by the names of configs/embedder; the scores of ID similarity.
        device: ``auto``, ``cpu`` or ``cuda``.
        batch_size: pictures scored at once.

    Raises:
        ConfigError: a judge is unknown, or `batch_size` is below 1.
        ImageError: the pictures do not fit each other, or there are none.

    >>> import numpy as np
    >>> high = np.random.default_rng(0).integers(0, 256, (2, 112, 96, 3), np.uint8)
    >>> scores = score(high, high, judges=[])
    >>> sorted(scores), float(scores["psnr_rgb"].mean())
    (['psnr_rgb', 'psnr_y', 'rmse', 'ssim'], 100.0)
    """
    _check_batch(batch_size)
    where = choose_device(device)
    originals, answers = _listed(high), _listed(restored)
    inputs = None if low is None else _listed(low)
    _check_alike(answers, originals, 1, "restored")
    if inputs is not None:
        _check_alike(inputs, originals, SCALE, "low")
    metrics = default_metrics(
        [on_device(named_judge(name, name), where) for name in judges], with_low=inputs is not None
    )
    columns: dict[str, list[NDArray[np.float64]]] = {metric.name: [] for metric in metrics}
    for part in _batches(originals, batch_size):
        stacks = [None if source is None else np.stack(source[part]) for source in (answers, originals, inputs)]
        first, second, third = (None if stack is None else to_float(stack).to(where) for stack in stacks)
        assert first is not None and second is not None
        for metric in metrics:
            columns[metric.name].append(metric(MetricInputs(first, second, third)))
    return {name: np.concatenate(values) for name, values in columns.items()}


def _runs(pictures: Sequence[Picture]) -> Iterator[list[Picture]]:
    """Yields neighbours of one size."""
    for _, same in groupby(pictures, key=lambda picture: picture.shape):
        yield list(same)


def _batches(pictures: Sequence[Picture], batch_size: int) -> Iterator[slice]:
    """Yields the places of neighbours of one size, at most so many at a time."""
    start = 0
    for part in _runs(pictures):
        end = start + len(part)
        for first in range(start, end, batch_size):
            yield slice(first, min(first + batch_size, end))
        start = end


def _check_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size has to be 1 or more, not {batch_size}.")


def _check_alike(pictures: Sequence[Picture], originals: Sequence[Picture], scale: int, what: str) -> None:
    if len(pictures) != len(originals):
        raise ImageError(f"{what} holds {len(pictures)} pictures and high {len(originals)}; give one for each.")
    for place, (picture, original) in enumerate(zip(pictures, originals, strict=True)):
        if any(side % scale for side in original.shape[:2]):
            sides = f"{original.shape[1]}x{original.shape[0]}"
            raise ImageError(f"high, picture {place}: {sides}, whose sides are no multiples of {scale}; crop it.")
        height, width = (side * scale for side in picture.shape[:2])
        if (height, width) != original.shape[:2]:
            wanted = f"{original.shape[1] // scale}x{original.shape[0] // scale}"
            raise ImageError(
                f"{what}, picture {place}: {picture.shape[1]}x{picture.shape[0]} where {wanted} is needed."
            )


def _listed(pictures: Pictures) -> list[Picture]:
    """Returns pictures as a list of arrays (H, W, 3)."""
    if isinstance(pictures, str | Path):
        path = Path(pictures).expanduser()
        if path.is_dir():
            found = [_read(path / name) for name in list_pictures(path)]
            if not found:
                raise DataError(f"{path} holds no pictures.")
            return found
        return [_read(path)]
    if isinstance(pictures, np.ndarray):
        stack = pictures[None] if pictures.ndim == 3 else pictures
        found = [_checked(picture) for picture in stack] if stack.ndim == 4 else [_checked(stack)]
    else:
        found = [_read(Path(one)) if isinstance(one, str | Path) else _checked(one) for one in pictures]
    if not found:
        raise ImageError("no picture was given; give at least one.")
    return found


def _read(path: Path) -> Picture:
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a picture.")
    try:
        return read_picture(path)[0]
    except Unusable as error:
        raise DataError(f"{path} cannot be used: {error}.") from error


def _checked(picture: Any) -> Picture:
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        shape = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise ImageError(f"a picture has to be an RGB array (H, W, 3) of uint8, or a file; {shape} was given.")
    if 0 in picture.shape:
        raise ImageError(f"a picture of {picture.shape[1]}x{picture.shape[0]} has no pixels; give another one.")
    return picture


def _as_given(answers: list[Picture], pictures: Pictures) -> Any:
    """Returns answers as the pictures were given: one, a stack or a list."""
    if isinstance(pictures, np.ndarray):
        return np.stack(answers) if pictures.ndim == 4 else answers[0]
    if isinstance(pictures, str | Path) and not Path(pictures).expanduser().is_dir():
        return answers[0]
    return answers
