"""TensorBoard: scalars, picture grids, the histogram of the ranking score, and hparams with final scores."""

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from facesr import dist
from facesr.files import writing
from facesr.image import to_float, to_uint8
from facesr.resample import upscale

# hparams need flat keys of few kinds; these are the ones that experiments differ in.
_HPARAMS = ("seed", "precision", "duration_kimg", "batch_size", "ema_halflife_kimg", "gradient_clip_norm")


# Where runs of before had their events. TensorBoard calls a run by the folder that its events lie in.
_EARLIER = "tensorboard"


class Board:
    """Writes TensorBoard events on rank 0, nothing elsewhere.

    Args:
        folder: of the run, where the events go, so that `tensorboard --logdir runs` calls the run by its name.
        num_images: clock of the run; what was written beyond it, by a process that was killed, is hidden.
    """

    def __init__(self, folder: Path, num_images: int) -> None:
        self._writer: SummaryWriter | None = None
        self._folder = folder
        if dist.is_main():
            _bring_up(folder / _EARLIER)
            _put_before(folder, int(time.time()))
            self._writer = SummaryWriter(str(folder), purge_step=num_images + 1)

    def scalars(self, num_images: int, figures: Mapping[str, float]) -> None:
        """Writes one point of each curve; the x axis counts images."""
        if self._writer is not None:
            with writing(self._folder / "events"):
                for name, value in figures.items():
                    self._writer.add_scalar(name, value, num_images)

    def pictures(self, num_images: int, columns: list[NDArray[np.uint8]]) -> None:
        """Writes a grid with one row per face: low, bicubic, restored, high; each uint8 (N, H, W, 3)."""
        if self._writer is not None:
            grid = picture_grid(columns)
            with writing(self._folder / "events"):
                self._writer.add_image("low | bicubic | restored | high", grid, num_images, dataformats="HWC")

    def histogram(self, num_images: int, name: str, values: NDArray[np.float64]) -> None:
        """Writes the distribution of a score over faces."""
        if self._writer is not None:
            with writing(self._folder / "events"):
                self._writer.add_histogram(name, values, num_images)

    def final(self, config: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """Writes the settings that experiments differ in beside the final scores."""
        if self._writer is not None:
            chosen = {key: config[key] for key in _HPARAMS}
            chosen["generator"] = str(config["generator"].get("_target_", "")).rsplit(".", 1)[-1]
            chosen["losses"] = " ".join(sorted(config["losses"]))
            chosen["learning_rate"] = config["generator_optimizer"].get("lr", 0.0)
            # The scores' own curves are the metrics: add_hparams would write each once more, as a card with one point.
            own_curves = {f"validation/{name}": value for name, value in scores.items()}
            writer: Any = self._writer.file_writer
            for summary in hparams(chosen, own_curves):  # type: ignore[no-untyped-call]
                writer.add_summary(summary)

    def close(self) -> None:
        """Writes what is still in memory; what cannot be written was a curve's, and is told anew after a resume."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()


def _bring_up(earlier: Path) -> None:
    """Moves the events of a run that had a folder for them into the run's own, so that it is shown as one run."""
    for path in earlier.glob("events.out.tfevents.*"):
        path.rename(earlier.parent / path.name)
    # What else lies there is the user's.
    with contextlib.suppress(OSError):
        earlier.rmdir()


def _put_before(folder: Path, now: int) -> None:
    """Renames events that claim to be from the future, so that all files are in the order in which they were written.

    TensorBoard reads them in the order of their names, which hold the seconds of the clock. One node's clock may be
    behind another's, and what a run tells anew would then count as older than what it replaces.
    """
    limit = now - 1
    for path in sorted(folder.glob("events.out.tfevents.*"), reverse=True):
        stamp = re.match(r"events\.out\.tfevents\.(\d+)", path.name)
        if stamp is None:
            continue
        seconds = min(int(stamp[1]), limit)
        if seconds < int(stamp[1]):
            path.rename(path.with_name(f"events.out.tfevents.{seconds:010d}{path.name[stamp.end() :]}"))
        limit = seconds - 1


def picture_grid(columns: list[NDArray[np.uint8]], faces_per_row: int = 2) -> NDArray[np.uint8]:
    """Returns faces side by side, uint8 (H', W', 3): each face is one strip of its columns, smaller ones enlarged.

    Args:
        columns: uint8 (N, h, w, 3) each, in the order of the strip; sizes must divide the last one's.
        faces_per_row: strips beside each other.
    """
    height = columns[-1].shape[1]
    same = [np.repeat(np.repeat(c, height // c.shape[1], axis=1), height // c.shape[1], axis=2) for c in columns]
    strips = list(np.concatenate(same, axis=2))
    strips += [np.zeros_like(strips[0])] * (-len(strips) % faces_per_row)
    rows = [np.concatenate(strips[i : i + faces_per_row], axis=1) for i in range(0, len(strips), faces_per_row)]
    return np.concatenate(rows)


def as_columns(low: NDArray[np.uint8], restored: NDArray[np.uint8], high: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Returns the columns low, bicubic, restored, high of a picture grid."""
    with torch.no_grad():
        return [low, to_uint8(upscale(to_float(low))), restored, high]
