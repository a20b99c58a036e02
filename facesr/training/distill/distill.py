"""Trains the built-in judge by imitating FaceNet, and measures how far the two agree.

    facesr distill train --faces ../shared/faces --teacher-weights FILE --out builtin.safetensors
    facesr distill measure --faces ../shared/faces --benchmark ../shared/asc19 \
        --teacher-weights FILE --weights builtin.safetensors

`--faces` is a folder with index.csv (columns file, identity, landmarks, rolled_copy_of) and the 96x112 pictures it
names, those of training under train/. One identity in eight is held out for `measure`; the benchmark's pictures are
never trained on. The teacher sees each face twice, as it is and at a lower resolution. The student learns both
embeddings, all cosines between them, above all the cosine between the two pictures of one face, which is what
ID similarity measures, and the teacher's inner features. Figures: docs/judges.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu, spearmanr

from facesr.arguments import Parser, number
from facesr.data.feed.order import pose_weights
from facesr.data.synthetic.face.render import render_faces
from facesr.embedders.builtin import BuiltinEmbedder
from facesr.embedders.facenet import FaceNet
from facesr.errors import exit_code_of
from facesr.image import to_float, to_uint8
from facesr.metrics.identity_similarity import embed
from facesr.png import list_png, stack_pictures
from facesr.protocols import Embedder
from facesr.ranges import Batch, CountFromZero, Rate, Seed, Share, SomeKimg
from facesr.resample import upscale
from facesr.training.distill.faces import (
    Pictures,
    batches,
    bicubic_copies,
    covered_copies,
    degraded_copies,
    read_faces,
    stranger_copies,
    varied_copies,
)
from facesr.training.distill.student import Plan, Source, train_student
from facesr.training.distill.teacher import Teacher, Vectors
from facesr.weights import cache_dir


def embed_all(embedder: Embedder, pictures: Pictures) -> Vectors:
    """Returns the unit embeddings (N, D) of any number of uint8 pictures, embedded in batches."""
    return np.concatenate([embed(embedder, to_float(part)) for part in batches(pictures)])


def same_different_auc(vectors: Vectors, identity: list[str]) -> tuple[float, int, int]:
    """Returns the chance that two pictures of one person are more alike than two of two persons, and both counts.

    Source: the area under the ROC curve as the Mann-Whitney statistic.
    """
    names = np.array(identity)
    first, second = np.triu_indices(len(names), k=1)
    cosine = (vectors @ vectors.T)[first, second]
    same = names[first] == names[second]
    num_same, num_different = int(same.sum()), int((~same).sum())
    auc = mannwhitneyu(*(cosine[of].astype(np.float64) for of in (same, ~same))).statistic / (num_same * num_different)
    return float(auc), num_same, num_different


def spearman(first: Vectors, second: Vectors) -> float:
    """Returns the rank correlation of two lists of numbers, -1 to 1."""
    return float(spearmanr(first, second).statistic)


def bicubic_similarity(embedder: Embedder, pictures: Pictures, restored: Pictures) -> Vectors:
    """Returns the ID similarity (N,) of bicubic pictures to the originals, -1 to 1."""
    similarity: Vectors = (embed_all(embedder, pictures) * embed_all(embedder, restored)).sum(axis=1)
    return similarity


def run_training(chosen: argparse.Namespace) -> None:
    """Trains on the photographs and on synthetic faces, and writes the weights."""
    faces = read_faces(chosen.faces, "train", held_out=False)
    shares = chosen.pose_shares
    often = pose_weights(faces.landmarks, shares, "--pose-shares") if shares else np.ones(len(faces.pictures))
    teacher = Teacher(chosen.teacher_weights, faces.pictures)
    sources = [("photographs", faces.pictures, 0, often)]
    for seed in range(1, 1 + chosen.varied + chosen.strangers):
        own = seed <= chosen.varied
        persons = faces if own else replace(faces, pictures=stranger_copies(faces, seed))
        label = f"{'varied copies' if own else 'strangers'} {seed}"
        sources.append((label, varied_copies(covered_copies(persons, seed), seed), seed, often))
    if chosen.drawn:
        sources.append(("synthetic faces", render_faces(chosen.drawn, seed=1)[0], 0, np.ones(chosen.drawn)))
    taught: list[Source] = []
    for label, pictures, seed, weights in sources:
        pairs = np.stack([pictures, degraded_copies(pictures, seed)], axis=1)
        taught.append(Source(pairs, teacher.teach(pairs, cache_dir() / "distill", label), weights))
    plan = Plan(kimg=chosen.kimg, batch=chosen.batch, learning_rate=chosen.learning_rate, seed=chosen.seed)
    train_student(taught, plan, chosen.out)


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
            auc, num_same, num_different = same_different_auc(embed_all(judge, shown), identity)
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
    parser = Parser(prog="facesr distill", description="The built-in judge.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the student")
    train.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    train.add_argument(
        "--varied",
        type=number(CountFromZero),
        default=1,
        help="copies of every photograph: turned, relit, half covered",
    )
    train.add_argument(
        "--strangers", type=number(CountFromZero), default=1, help="such copies with another person's face blended in"
    )
    train.add_argument(
        "--drawn", type=number(CountFromZero), default=600, help="synthetic faces among the training faces"
    )
    train.add_argument(
        "--pose-shares",
        type=number(Share),
        nargs="*",
        default=(0.5, 0.22, 0.18, 0.1),
        help="see data.pose_shares; none: as is",
    )
    train.add_argument("--kimg", type=number(SomeKimg), default=260.0, help="thousands of faces shown")
    train.add_argument("--batch", type=number(Batch), default=48, help="faces of one step")
    train.add_argument("--learning-rate", type=number(Rate), default=3e-3)
    train.add_argument("--seed", type=number(Seed), default=0)
    measure = commands.add_parser("measure", help="compare student and teacher")
    measure.add_argument("--weights", type=Path, default=None, help="student; default: the shipped one")
    measure.add_argument("--benchmark", type=Path, default=None, help="folder with val_HR and val_LR")
    for command in (train, measure):
        command.add_argument("--faces", type=Path, required=True, help="folder with index.csv")
        command.add_argument("--teacher-weights", type=Path, default=None, help="FaceNet vggface2 weights")
    chosen = parser.parse_args(arguments)
    run = run_training if chosen.command == "train" else run_measurement
    return exit_code_of(lambda: run(chosen))
