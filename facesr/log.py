"""What a run says: console lines and a progress bar on rank 0, log.txt, and stats.jsonl."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from facesr import dist
from facesr.files import writing


def shown_kimg(kimg: float) -> str:
    """Returns thousands of images for people: one decimal, and three digits below one thousand."""
    return f"{kimg:.1f}" if kimg >= 1 or kimg == 0 else f"{kimg:.3g}"


class Console:
    """Prints on rank 0 only, and keeps a copy in a log file.

    Args:
        log_file: appended to; None keeps no copy (always None on ranks above 0).
    """

    def __init__(self, log_file: Path | None = None) -> None:
        self._file: TextIO | None = None
        if log_file is not None and dist.is_main():
            log_file.parent.mkdir(parents=True, exist_ok=True)
            self._file = log_file.open("a", encoding="utf-8")

    def say(self, text: str = "") -> None:
        """Prints a line, above the progress bar where there is one."""
        if not dist.is_main():
            return
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        if self._file is not None:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with writing(Path(self._file.name)):
                self._file.writelines(f"{stamp} {line}\n" for line in text.splitlines() or [""])
                self._file.flush()

    def close(self) -> None:
        """Closes the log file."""
        _close(self._file)
        self._file = None


class Progress:
    """A progress bar over images on a terminal; silent elsewhere, where `Console.say` lines tell the progress."""

    def __init__(self, total: int, start: int, unit: str = "img", label: str | None = None) -> None:
        shown = dist.is_main() and sys.stderr.isatty()
        self._bar = tqdm(
            total=total, initial=start, unit=unit, desc=label, disable=not shown, dynamic_ncols=True, smoothing=0.05
        )
        self.shown = shown

    def advance(self, count: int, **figures: str) -> None:
        """Moves on by `count` images and shows figures beside the bar."""
        if figures:
            self._bar.set_postfix(figures, refresh=False)
        self._bar.update(count)

    def close(self) -> None:
        """Ends the bar."""
        self._bar.close()


class Stats:
    """One JSON object a line; lines beyond the clock of a resumed run are dropped, so no image is told twice."""

    def __init__(self, path: Path, num_images: int) -> None:
        self._file: TextIO | None = None
        if not dist.is_main():
            return
        kept: list[str] = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8-sig").splitlines():
                try:
                    if json.loads(line)["num_images"] <= num_images:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    # A line cut off by a kill.
                    continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, num_images: int, figures: Mapping[str, Any]) -> None:
        """Appends one line."""
        if self._file is not None:
            with writing(Path(self._file.name)):
                self._file.write(json.dumps({"num_images": num_images, **figures}) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        _close(self._file)
        self._file = None


def _close(file: TextIO | None) -> None:
    """Closes a file of which every line that could be written is written already."""
    if file is not None:
        # What a full disk did not take is tried once more, and has been told of.
        with contextlib.suppress(OSError):
            file.close()
