"""`facesr prepare` on pictures of FFHQ's size: pictures per second by cores, memory by number, and what a kill costs.

    uv run benchmarks/prepare.py SCRATCH [--counts 500,1000,2000] [--cores 1,2] [--kinds jpeg,png]

    uv run benchmarks/prepare.py SCRATCH --compare PICTURES

Pictures of 1024x1024 are made below SCRATCH, which needs 2.5 GB for 2,000 and is removed at the end: dead leaves with
a camera's noise, a few of them under many names, each file with other bytes. Every set is made by a process of its own;
its CPU seconds, workers included, tell more than the clock where something else runs. The last one is killed
when half is done, goes on, and has to end with the same bytes. --compare tells how far the crops of
--decode reduced lie from the exact ones: of 1024x1024 patchworks of the photographs below PICTURES, saved as JPEG.
"""

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from facesr.data.synthetic.dead_leaves import draw
from facesr.photos.decode import list_pictures, read_picture

SIDE, NUM_BASES = 1024, 6
COMMAND = [sys.executable, "-m", "facesr", "prepare"]
FRAMING = ["--crop", "ffhq", "--margin", "8"]


def bases(kind: str) -> list[bytes]:
    """Returns a few pictures as files."""
    found = []
    for number in range(NUM_BASES):
        picture = draw(number, SIDE, SIDE).astype(np.float32)
        noisy = picture + np.random.default_rng(number).normal(0.0, 2.0, picture.shape)
        file, image = io.BytesIO(), Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(file, "JPEG", quality=92) if kind == "jpeg" else image.save(file, "PNG", compress_level=6)
        found.append(file.getvalue())
    return found


def fill(folder: Path, kind: str, count: int) -> float:
    """Writes so many files of one kind that are not there yet and returns their mean size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = bases(kind)
    for number in range(count):
        path = folder / f"{number:05d}.{kind}"
        if not path.exists():  # what lies behind a picture's end no decoder reads
            path.write_bytes(files[number % len(files)] + number.to_bytes(8, "big"))
    return float(np.mean([len(data) for data in files]))


def family(pid: int) -> tuple[float, float]:
    """Returns the memory in MiB (shared pages for each) and the CPU seconds of a process, its children and theirs."""
    pages = ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            if int(folder.name) == pid or int(fields[1]) == pid or parent_of(int(fields[1])) == pid:
                pages += int(fields[21])
                ticks += sum(map(int, fields[11:15]))  # ended children's among them
        except (OSError, IndexError, ValueError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, ticks / os.sysconf("SC_CLK_TCK")


def parent_of(pid: int) -> int:
    """Returns the process that has started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def prepare(source: Path, out: Path, *more: str) -> tuple[float, float, float]:
    """Returns seconds, CPU seconds and the most memory in MiB of one command."""
    start, most, busy = time.monotonic(), 0.0, 0.0
    process = subprocess.Popen([*COMMAND, str(source), str(out), *FRAMING, *more], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        memory, seconds = family(process.pid)
        most, busy = max(most, memory), max(busy, seconds)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"error: facesr prepare ended with {process.returncode}.")
    return time.monotonic() - start, busy, most


def digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of each file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def killed(source: Path, whole: Path, out: Path, count: int, *more: str) -> None:
    """Kills a command half-way, has it go on, and says what that cost."""
    process = subprocess.Popen([*COMMAND, str(source), str(out), *FRAMING, *more], stdout=subprocess.DEVNULL)
    journal = out / "journal.jsonl"
    while process.poll() is None and (not journal.exists() or done(journal) < count / 2):
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = done(journal)
    seconds, busy, _ = prepare(source, out, *more)
    same = "the same bytes" if digests(out) == digests(whole) else "OTHER BYTES"
    print(f"killed at {kept} of {count}: went on in {seconds:.1f} s ({busy:.1f} s of CPU), {same}")


def done(journal: Path) -> int:
    """Returns how many pictures a journal vouches for."""
    return sum(line.count(b'", "", "') for line in journal.read_bytes().splitlines(keepends=True)[1:])


def patchworks(folder: Path, count: int) -> list[Image.Image]:
    """Returns pictures of 1024x1024, each of 16 pieces out of photographs below a folder."""
    names, generator = list_pictures(folder), np.random.default_rng(0)
    found = []
    for _ in range(count):
        work = np.zeros((SIDE, SIDE, 3), np.uint8)
        for number in range(16):
            picture, _ = read_picture(folder / names[generator.integers(len(names))])
            tiled = np.tile(picture, (1 + 256 // picture.shape[0], 1 + 256 // picture.shape[1], 1))
            y, x = (generator.integers(side - 255) for side in tiled.shape[:2])
            row, column = 256 * (number // 4), 256 * (number % 4)
            work[row : row + 256, column : column + 256] = tiled[y : y + 256, x : x + 256]
        found.append(Image.fromarray(work))
    return found


def compare(scratch: Path, pictures: Path) -> None:
    """Prints how far crops of pictures decoded at a reduced size lie from the exact ones."""
    works = patchworks(pictures, 24)
    for quality, subsampling in ((75, 2), (95, 2), (95, 0)):
        source = scratch / f"{quality}_{subsampling}"
        source.mkdir()
        for number, work in enumerate(works):
            work.save(source / f"{number}.jpg", quality=quality, subsampling=subsampling)
        crops = []
        for decode in ("full", "reduced"):
            prepare(source, scratch / "out", "--decode", decode)
            crops.append(np.load(scratch / "out" / "images.npy").astype(np.float64))
            shutil.rmtree(scratch / "out")
        apart = np.abs(crops[0] - crops[1])
        psnr = 10 * np.log10(255**2 / np.square(apart).mean())
        chroma = "4:4:4" if subsampling == 0 else "4:2:0"
        print(
            f"quality {quality}, {chroma}: mean {apart.mean():.3f}, most {apart.max():.0f} grey levels, {psnr:.1f} dB"
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--counts", default="500,1000,2000")
    parser.add_argument("--cores", default="1,2")
    parser.add_argument("--kinds", default="jpeg,png")
    parser.add_argument("--decode", default="full,reduced")
    parser.add_argument("--compare", type=Path, metavar="PICTURES")
    given = parser.parse_args()
    if given.compare is not None:
        with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
            compare(Path(folder), given.compare)
        return
    counts = [int(count) for count in given.counts.split(",")]
    scratch = given.scratch / "prepare_benchmark"
    scratch.mkdir(parents=True)
    print(f"{'':34}{'pictures':>9}{'s':>8}{'CPU s':>8}{'a second':>10}{'a CPU s':>9}{'MiB':>7}")
    try:
        for kind in given.kinds.split(","):
            for count in counts:
                source, size = scratch / kind, fill(scratch / kind, kind, count)
                for decode in given.decode.split(",") if kind == "jpeg" else ["full"]:
                    for cores in given.cores.split(",") if count == counts[-1] else given.cores.split(",")[:1]:
                        more = ["--workers", cores, "--decode", decode]
                        out = scratch / "out"
                        seconds, busy, most = prepare(source, out, *more)
                        name = f"{kind} {size / 1e6:.2f} MB, {decode}, {cores} workers"
                        print(
                            f"{name:34}{count:9}{seconds:8.1f}{busy:8.1f}{count / seconds:10.1f}{count / busy:9.1f}"
                            f"{most:7.0f}",
                            flush=True,
                        )
                        if (kind, decode, cores, count) == ("jpeg", "reduced", "1", counts[-1]):
                            killed(source, out, scratch / "killed", count, *more)
                        shutil.rmtree(out)
            shutil.rmtree(scratch / kind)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
