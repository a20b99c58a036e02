"""Times scoring 300 faces: facesr beside the 2019 script's way, one pair at a time, with the same FaceNet.

    uv run benchmarks/evaluation.py [--faces 300] [--weights FILE] [--threads 2] [--batch-size 32] [--rounds 2]

Without --weights FaceNet's are looked for as everywhere ($FACESR_WEIGHTS, the cache, the download); --random takes
random ones, which are as fast. The faces are synthetic ones, the restored pictures bicubic. The plain loop is a
transcription of the script's: read a pair, resize it to the network's size with OpenCV, run the network as it comes on
both (recording for gradients, as the script leaves it), take the cosine. Both use facenet-pytorch's network, which
facesr has onnxruntime run (opening that takes a second, once, and is not counted, as reading the weights is not).

All rows take turns, --rounds times, and each shows its fastest. The first row of facesr embeds everything; the second
one finds the embeddings of the originals kept by the first, as every further evaluation of the same originals does.
The last rows are the same with the network in bf16 (embedder.precision=bf16), with the largest difference that it
makes to a face.
"""

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from facenet_pytorch import InceptionResnetV1
from numpy.typing import NDArray

from facesr.config import EvaluationProtocol
from facesr.data.export import export_synthetic
from facesr.embedders.facenet import FaceNet
from facesr.evaluation.pairs import strict_pairs
from facesr.evaluation.scoring import score
from facesr.methods.folder import PICTURES, RestoreOptions, restore_folder
from facesr.methods.low import LowPictures
from facesr.methods.open import open_method
from facesr.metrics import default_metrics
from facesr.weights import find_weights, read_state_dict

PROTOCOL = EvaluationProtocol("asc19_final", strict=True, width=96, height=112, num_pictures=None)
CPU = torch.device("cpu")
PLAIN = "one pair at a time"


def plain_loop(restored: Path, high: Path, network: InceptionResnetV1) -> float:
    total = 0.0
    names = sorted(path.name for path in restored.iterdir())
    for name in names:
        both = []
        for folder in (high, restored):
            picture = cv2.resize(cv2.imread(str(folder / name)), (160, 160), interpolation=cv2.INTER_CUBIC)
            both.append((picture[..., ::-1].transpose(2, 0, 1) - 127.5) / 128.0)
        # Like the script, this leaves recording for gradients on while the network runs.
        first, second = network(torch.from_numpy(np.stack(both)).float()).data
        total += float(first.dot(second) / first.norm() / second.norm())
    return total / len(names)


def facesr_scores(
    restored: Path, high: Path, low: Path, judge: FaceNet, batch_size: int, kept_in: Path
) -> NDArray[np.float64]:
    pairs = strict_pairs(restored, high, low, PROTOCOL)
    metrics = default_metrics([judge], with_low=True, remember_high=True, kept_in=kept_in)
    scores = score(pairs, metrics, CPU, batch_size)
    assert scores is not None
    return scores.values[f"is/{judge.name}"]


def timed(work: Callable[[], float]) -> tuple[float, float, float]:
    """Returns wall-clock and processor seconds of one call, and what it returned."""
    wall, processor = time.perf_counter(), time.process_time()
    value = work()
    return time.perf_counter() - wall, time.process_time() - processor, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        weights = given.weights
        if given.random:
            weights = root / "random.pt"
            torch.save(InceptionResnetV1(pretrained=None).state_dict(), weights)
        judge = FaceNet("vggface2", weights)
        network = InceptionResnetV1(pretrained=None).eval()
        found = find_weights("facenet_vggface2.pt", key="--weights", configured=weights)
        network.load_state_dict(read_state_dict(found), strict=False)
        export_synthetic(root, given.faces)
        high, low = root / "high", root / "low"
        options = RestoreOptions(CPU, given.batch_size, False)
        kept = restore_folder(open_method("bicubic", CPU), LowPictures.open(low), options, root / "kept")
        restored = kept.path / PICTURES
        print(f"{given.faces} faces, {given.threads} threads, torch {torch.__version__}")
        near = FaceNet("vggface2", weights, precision="bf16")
        # All networks allocate, choose their kernels and open their sessions before the clock runs.
        network(torch.zeros(2, 3, 160, 160))
        with torch.inference_mode():
            for used in (judge, near):
                used(torch.zeros(given.batch_size, 3, 112, 96))
        values: dict[str, NDArray[np.float64]] = {}

        def scored(used: FaceNet, kept_in: Path) -> float:
            values[used.precision] = facesr_scores(restored, high, low, used, given.batch_size, kept_in)
            return float(values[used.precision].mean())

        found_times: dict[str, list[tuple[float, float, float]]] = {}
        for number in range(given.rounds):
            kept = root / f"kept{number}"
            works: dict[str, Callable[[], float]] = {PLAIN: lambda: plain_loop(restored, high, network)}
            for used, what in ((judge, ""), (near, " in bf16")):
                for label in ("every metric", "originals kept"):
                    works[f"facesr{what}, {label}"] = functools.partial(scored, used, kept)
            for label, work in works.items():
                found_times.setdefault(label, []).append(timed(work))
        slow = min(wall for wall, _, _ in found_times[PLAIN])
        for label, times in found_times.items():
            wall, processor, value = min(times)
            print(
                f"  {label:34} {wall:7.2f} s  {given.faces / wall:7.1f} faces/s  {processor:7.2f} s of processor  "
                f"IS {value:.4f}  {slow / wall:5.2f} times as fast"
            )
        differences = np.abs(values["bf16"] - values["fp32"])
        print(f"  bf16 moves a face by {differences.mean():.5f} on average and {differences.max():.5f} at most")


if __name__ == "__main__":
    main()
