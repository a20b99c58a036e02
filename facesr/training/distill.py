"""Trains the built-in judge by imitating FaceNet, and measures how far the two agree.

    python -m facesr.training.distill train --faces ../shared/faces --teacher-weights FILE --out builtin.safetensors
    python -m facesr.training.distill measure --faces ../shared/faces --benchmark ../shared/asc19 \
        --teacher-weights FILE --weights builtin.safetensors

`--faces` is a folder with index.csv (columns file, identity, rolled_copy_of) and the 96x112 pictures it names, those
of training under train/. One identity in eight is held out for `measure`; the benchmark's pictures are never
trained on. The teacher sees each face twice, as it is and at a lower resolution, and the student learns both
embeddings, all cosines between them, and above all the cosine between the two pictures of one face: that is what
identity similarity measures. Figures: docs/judges.md.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from facesr.data.builtin import render_faces
from facesr.embedders.builtin import HEIGHT, WIDTH, BuiltinEmbedder, SmallRecogniser
from facesr.embedders.facenet import FaceNet
from facesr.errors import exit_code_of
from facesr.image import list_png, stack_pictures, to_float, to_uint8
from facesr.protocols import Embedder
from facesr.resample import upscale
from facesr.training.distill_data import (
    BATCH,
    Pictures,
    batches,
    bicubic_copies,
    degraded_copies,
    read_faces,
    varied_copies,
)
from facesr.weights import cache_dir, load_into, read_state_dict

MAX_SHIFT = 3  # pixels: the teacher's embedding of the unshifted face still fits
Vectors = NDArray[np.float32]


def embed(embedder: Embedder, pictures: Pictures, label: str = "") -> Vectors:
    """Returns unit embeddings (N, D) of uint8 pictures; with a label, progress goes to the console."""
    parts: list[Tensor] = []
    start = time.monotonic()
    with torch.inference_mode():
        for part in batches(pictures):
            parts.append(embedder(to_float(part)))
            if label and len(parts) % 40 == 0:
                print(f"{label}: {len(parts) * BATCH} of {len(pictures)}, {time.monotonic() - start:.0f} s", flush=True)
    return torch.cat(parts).numpy()


def taught(teacher: Embedder, pictures: Pictures, folder: Path) -> Vectors:
    """Returns the teacher's embeddings of the pictures, computed once and kept below the folder."""
    digest = hashlib.sha256(np.ascontiguousarray(pictures).data).hexdigest()
    file = folder / f"{teacher.name}-{teacher.weights_sha256[:12]}-{digest[:12]}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp.npy")
        np.save(temporary, embed(teacher, pictures, label="teacher"))
        temporary.replace(file)
    vectors: Vectors = np.load(file)
    return vectors


def moved(pictures: Pictures, rng: np.random.Generator) -> Pictures:
    """Returns pairs (B, 2, H, W, 3) flipped and shifted at random, both pictures of a pair alike."""
    margin = ((0, 0), (0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0))
    wide = np.pad(pictures, margin, mode="edge")
    result = np.empty_like(pictures)
    for number, (down, right) in enumerate(rng.integers(2 * MAX_SHIFT + 1, size=(len(pictures), 2))):
        part = wide[number, :, down : down + HEIGHT, right : right + WIDTH]
        result[number] = part[:, :, ::-1] if rng.random() < 0.5 else part
    return result


def relit(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Returns pairs (B, 2, 3, H, W) with contrast and brightness changed a little, both pictures of a pair alike."""
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(batch), 1, 1, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(rng.uniform(-0.08, 0.08, (len(batch), 1, 1, 1, 1)).astype(np.float32))
    return (batch * gain + offset).clamp(0.0, 1.0)


def distillation_terms(student: Tensor, teacher: Tensor, strength: float = 1.0) -> dict[str, Tensor]:
    """Returns the loss's terms, each >= 0, for unit embeddings (2B, 512); rows 2i and 2i+1 show one face.

    One minus the cosine to the teacher; the squared error of all cosines between pictures; the squared error of the
    cosine between the two pictures of a face. `strength` scales the last two: in full from the start they are met
    by embeddings that tell nobody apart, and the first never falls.
    """
    similarity = (student[0::2] * student[1::2]).sum(dim=1)
    wanted = (teacher[0::2] * teacher[1::2]).sum(dim=1)
    return {
        "embedding": 1.0 - (student * teacher).sum(dim=1).mean(),
        "relations": 4.0 * strength * (student @ student.t() - teacher @ teacher.t()).square().mean(),
        "similarity": 30.0 * strength * (similarity - wanted).square().mean(),
    }


@dataclass(frozen=True)
class Plan:
    """How long and how the student is trained.

    Attributes:
        kimg: thousands of faces shown, each as two pictures.
        batch: faces of one step.
        learning_rate: its peak; it rises over the first twentieth of the run and falls along a cosine.
        seed: of the weights, the order and the augmentation.
    """

    kimg: float
    batch: int
    learning_rate: float
    seed: int


def train_student(
    pairs: Pictures, vectors: Vectors, plan: Plan, out: Path, begin: SmallRecogniser | None = None
) -> None:
    """Trains on pairs (N, 2, H, W, 3) and their vectors (N, 2, 512); writes the averaged student, again and again.

    Args:
        begin: a student to go on from, without batch normalisation; None starts from random weights with it.
    """
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    student = begin or SmallRecogniser(norm=True)
    student.to(memory_format=torch.channels_last).train().requires_grad_()
    num_steps = max(6, round(plan.kimg * 1000 / plan.batch))
    optimizer, schedule = _optimizer(student, plan.learning_rate, num_steps)
    # The average forgets over a twentieth of the run, so that the last one holds nothing of the rough beginning.
    decay_rate = 1.0 - min(0.5, 20.0 / num_steps)
    average = torch.optim.swa_utils.AveragedModel(
        student,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay_rate),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    order = rng.permutation(len(pairs))
    start = time.monotonic()
    for step in range(num_steps):
        first = step * plan.batch % (len(pairs) - plan.batch + 1)
        if first + plan.batch > len(pairs) - plan.batch:
            order = rng.permutation(len(pairs))
        chosen = np.sort(order[first : first + plan.batch])
        batch = relit(torch.from_numpy(moved(pairs[chosen], rng)).permute(0, 1, 4, 2, 3) / 255.0, rng)
        pixels = (batch.flatten(0, 1) * 2.0 - 1.0).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = student(pixels)
        teacher = torch.from_numpy(vectors[chosen]).flatten(0, 1)
        strength = 1.0 if begin else min(1.0, 2.0 * step / num_steps)
        terms = distillation_terms(F.normalize(features.float(), dim=1), teacher, strength)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(student)
        if step % 50 == 49 or step + 1 == num_steps:
            _report((step + 1) * plan.batch, plan.kimg, terms, time.monotonic() - start)
        if step % 100 == 99 or step + 1 == num_steps:
            averaged = copy.deepcopy(average.module)
            assert isinstance(averaged, SmallRecogniser)
            write_weights(averaged if begin else folded(averaged), out)


def _optimizer(
    student: SmallRecogniser, learning_rate: float, num_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Returns AdamW and its schedule; gains and biases do not decay."""
    decay = [weight for weight in student.parameters() if weight.ndim > 1]
    rest = [weight for weight in student.parameters() if weight.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.02}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    # A rise of less than two steps would be divided by zero.
    rise = max(0.05, min(0.5, 3.0 / num_steps))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=num_steps, pct_start=rise, cycle_momentum=False
    )
    return optimizer, schedule


def _report(shown: int, kimg: float, terms: dict[str, Tensor], seconds: float) -> None:
    parts = ", ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
    left = seconds * (1000.0 * kimg / shown - 1.0)
    print(f"{shown / 1000:.1f} kimg, {parts}, {shown / seconds:.0f} faces/s, {left:.0f} s left", flush=True)


def folded(network: SmallRecogniser) -> SmallRecogniser:
    """Returns the same function without batch normalisation, in evaluation mode."""
    plain = SmallRecogniser(norm=False).eval()
    layers = dict(network.eval().named_modules())
    state = {name: value for name, value in network.state_dict().items() if name in plain.state_dict()}
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            norm = layers[f"{name.rpartition('.')[0]}.1"]
            assert isinstance(norm, nn.BatchNorm2d)
            fused = nn.utils.fuse_conv_bn_eval(layer, norm)
            assert fused.bias is not None
            state[f"{name}.weight"], state[f"{name}.bias"] = fused.weight, fused.bias
    centre = network.centre
    assert isinstance(centre, nn.BatchNorm1d) and centre.running_mean is not None and centre.running_var is not None
    gain = centre.weight / (centre.running_var + centre.eps).sqrt()
    state["embed.weight"] = network.embed.weight * gain
    state["embed.bias"] = network.embed.bias + network.embed.weight @ (centre.bias - gain * centre.running_mean)
    plain.load_state_dict(state)
    return plain


def write_weights(network: SmallRecogniser, path: Path) -> None:
    """Writes the weights in half precision, which moves an embedding by less than 0.001."""
    save_file({name: value.detach().half().contiguous() for name, value in network.state_dict().items()}, path)


def same_different_auc(vectors: Vectors, identity: list[str]) -> tuple[float, int, int]:
    """Returns the chance that two pictures of one person are more alike than two of two persons, and both counts.

    Source: the area under the ROC curve as the Mann-Whitney statistic.
    """
    names = np.array(identity)
    first, second = np.triu_indices(len(names), k=1)
    cosine = (vectors @ vectors.T)[first, second]
    same = names[first] == names[second]
    rank = _ranks(cosine)
    num_same, num_different = int(same.sum()), int((~same).sum())
    auc = (rank[same].sum() - num_same * (num_same - 1) / 2.0) / (num_same * num_different)
    return float(auc), num_same, num_different


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the rank of each value from 0, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = ((ends - counts) + (ends - 1)) / 2.0
    return mean_rank[inverse]


def spearman(first: Vectors, second: Vectors) -> float:
    """Returns the rank correlation of two lists of numbers, -1 to 1."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def bicubic_similarity(embedder: Embedder, pictures: Pictures, restored: Pictures) -> Vectors:
    """Returns the identity similarity (N,) of bicubic pictures to the originals, -1 to 1."""
    similarity: Vectors = (embed(embedder, pictures) * embed(embedder, restored)).sum(axis=1)
    return similarity


def run_training(chosen: argparse.Namespace) -> None:
    """Trains on the photographs and on drawn faces, and writes the weights."""
    teacher = FaceNet("vggface2", weights=chosen.teacher_weights, precision="bf16")
    photographs = read_faces(chosen.faces, "train", held_out=False).pictures
    sources = [(photographs, 0), *((varied_copies(photographs, seed), seed) for seed in range(1, 1 + chosen.varied))]
    if chosen.drawn:
        sources.append((render_faces(chosen.drawn, seed=1)[0], 0))
    pairs: list[Pictures] = []
    vectors: list[Vectors] = []
    for pictures, seed in sources:
        pairs.append(np.stack([pictures, degraded_copies(pictures, seed)], axis=1))
        folder = cache_dir() / "distill"
        vectors.append(np.stack([taught(teacher, pairs[-1][:, view], folder) for view in (0, 1)], axis=1))
    plan = Plan(kimg=chosen.kimg, batch=chosen.batch, learning_rate=chosen.learning_rate, seed=chosen.seed)
    begin = SmallRecogniser() if chosen.begin else None
    if begin:
        load_into(begin, read_state_dict(chosen.begin), chosen.begin)
    train_student(np.concatenate(pairs), np.concatenate(vectors), plan, chosen.out, begin)


def run_measurement(chosen: argparse.Namespace) -> None:
    """Prints how student and teacher tell held-out persons apart, and how they agree on bicubic pictures."""
    judges: list[Embedder] = [
        BuiltinEmbedder(chosen.weights),
        FaceNet("vggface2", weights=chosen.teacher_weights),
    ]
    faces = read_faces(chosen.faces, "train", held_out=True)
    named = [position for position, name in enumerate(faces.identity) if faces.identity.count(name) > 1]
    pictures, identity = faces.pictures[named], [faces.identity[position] for position in named]
    for what, shown in (("as they are", pictures), ("bicubic x4", bicubic_copies(pictures))):
        for judge in judges:
            auc, num_same, num_different = same_different_auc(embed(judge, shown), identity)
            print(f"{what}: AUC of {judge.name} {auc:.4f} ({num_same} same, {num_different} different pairs)")
    dev = read_faces(chosen.faces, "dev", held_out=False).pictures
    groups = {"dev": (dev, bicubic_copies(dev))}
    if chosen.benchmark:
        high = stack_pictures(list_png(chosen.benchmark / "val_HR").values())
        low = stack_pictures(list_png(chosen.benchmark / "val_LR").values())
        groups["benchmark"] = high, to_uint8(upscale(to_float(low)))
    for name, (high, restored) in groups.items():
        scores = [bicubic_similarity(judge, high, restored) for judge in judges]
        means = ", ".join(f"{judge.name} {score.mean():.4f}" for judge, score in zip(judges, scores, strict=True))
        print(f"{name}: bicubic IS {means}; Spearman {spearman(*scores):.3f} over {len(high)} faces")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code, 2 on a user's error."""
    parser = argparse.ArgumentParser(prog="python -m facesr.training.distill", description="The built-in judge.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the student")
    train.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    train.add_argument("--begin", type=Path, default=None, help="weights to go on from")
    train.add_argument("--varied", type=int, default=2, help="copies of every photograph with another pose and light")
    train.add_argument("--drawn", type=int, default=600, help="built-in faces among the training faces")
    train.add_argument("--kimg", type=float, default=400.0, help="thousands of faces shown")
    train.add_argument("--batch", type=int, default=48, help="faces of one step")
    train.add_argument("--learning-rate", type=float, default=2e-3)
    train.add_argument("--seed", type=int, default=0)
    measure = commands.add_parser("measure", help="compare student and teacher")
    measure.add_argument("--weights", type=Path, default=None, help="student; default: the shipped one")
    measure.add_argument("--benchmark", type=Path, default=None, help="folder with val_HR and val_LR")
    for command in (train, measure):
        command.add_argument("--faces", type=Path, required=True, help="folder with index.csv")
        command.add_argument("--teacher-weights", type=Path, default=None, help="FaceNet vggface2 weights")
    chosen = parser.parse_args(arguments)
    run = run_training if chosen.command == "train" else run_measurement
    return exit_code_of(lambda: run(chosen))


if __name__ == "__main__":
    sys.exit(main())
