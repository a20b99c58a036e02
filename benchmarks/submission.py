"""Times of a submission: restoring, packing, verifying, and refusing a bomb.

    uv run benchmarks/submission.py [--pictures 300] [--checkpoint bicubic] [--device auto] [--repeats 5]

Uses pictures made of smoothed noise, so that it needs no data. The plain loop beside the verifier is what a scorer
without one does: extractall and cv2.imread. Prints the median of the repeats.
"""

import argparse
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facesr.config import EvaluationProtocol
from facesr.dist import choose_device
from facesr.errors import SubmissionError
from facesr.methods.folder import RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.png import write_png
from facesr.submission.pack import pack
from facesr.submission.verify import opened_submission

PROTOCOL = EvaluationProtocol("asc19_final", strict=True, width=96, height=112, num_pictures=None)


def write_low(folder: Path, num_pictures: int) -> None:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(num_pictures):
        noise = draw.normal(0.0, 400.0, (28, 24, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), 2.5) + 128.0
        write_png(folder / f"{number:05d}.png", smooth.clip(0, 255).astype(np.uint8))


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def verify(path: Path, low: Path) -> None:
    with opened_submission(path, PROTOCOL, low):
        pass


def extract_and_read(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        for name in Path(folder).glob("*.png"):
            assert cv2.imread(str(name)) is not None


def refuse_bomb(honest: Path, low: Path, bomb: Path) -> None:
    """Verifies an archive in which one picture unpacks to 200 MB."""
    if not bomb.exists():
        with zipfile.ZipFile(honest) as source, zipfile.ZipFile(bomb, "w") as target:
            for info in source.infolist():
                is_first = info is source.infolist()[0]
                data = bytes(200_000_000) if is_first else source.read(info)
                target.writestr(info.filename, data, zipfile.ZIP_DEFLATED if is_first else zipfile.ZIP_STORED)
    try:
        verify(bomb, low)
    except SubmissionError:
        return
    raise AssertionError("the bomb was accepted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--checkpoint", default="bicubic")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    device = choose_device(given.device)
    options = RestoreOptions(device, batch_size=64, self_ensemble=False)
    method = open_method(given.checkpoint, device)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_low(root / "low", given.pictures)
        low = LowPictures.open(root / "low", PROTOCOL)
        restored = restore_folder(method, low, options, root / "kept")
        out, bomb = root / "a.zip", root / "bomb.zip"
        pack(restored.path, out, team="Bench", protocol=PROTOCOL, low=low.folder)
        refuse_bomb(out, low.folder, bomb)
        rows: dict[str, Callable[[], object]] = {
            "restore and write PNGs": lambda: restore_folder(method, low, options, root / "kept", reuse=False),
            "find the restored folder": lambda: restore_folder(method, low, options, root / "kept"),
            "pack and verify": lambda: pack(
                restored.path, out, team="Bench", protocol=PROTOCOL, low=low.folder, overwrite=True
            ),
            "verify": lambda: verify(out, low.folder),
            "extractall and imread": lambda: extract_and_read(out),
            "refuse a bomb of 200 MB": lambda: refuse_bomb(out, low.folder, bomb),
        }
        print(f"{given.pictures} pictures, {out.stat().st_size / 1e6:.1f} MB, {method.name} on {device}")
        for label, work in rows.items():
            seconds = seconds_of(work, given.repeats)
            print(f"  {label:26} {seconds * 1e3:9.1f} ms  {given.pictures / seconds:10,.0f} pictures/s")


if __name__ == "__main__":
    main()
