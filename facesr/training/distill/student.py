"""The built-in judge in training: what it is shown, what it loses by, and the loop.

Part of `facesr.training.distill.distill`, which says what it learns from.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from facesr.data.feed.order import Order
from facesr.embedders.builtin import HEIGHT, WIDTH, SmallRecogniser
from facesr.training.distill.faces import Pictures
from facesr.training.distill.teacher import HINTS, Lessons, Vectors
from facesr.training.muon import Muon
from facesr.training.precision import has_bf16
from facesr.weights import to_eight_bits

MAX_SHIFT = 3  # pixels: what the teacher says of the unshifted face still fits
FLIPPED = 0.35  # share of the faces; its embedding fits a flipped face, its inner features do not


def moved(pictures: Pictures, flipped: NDArray[np.bool_], rng: np.random.Generator) -> Pictures:
    """Returns pairs (B, 2, H, W, 3) shifted at random and, where told (B,), flipped; both pictures of a pair alike."""
    margin = ((0, 0), (0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0))
    wide = np.pad(pictures, margin, mode="edge")
    result = np.empty_like(pictures)
    for number, (down, right) in enumerate(rng.integers(2 * MAX_SHIFT + 1, size=(len(pictures), 2))):
        part = wide[number, :, down : down + HEIGHT, right : right + WIDTH]
        result[number] = part[:, :, ::-1] if flipped[number] else part
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


class Student(nn.Module):
    """The judge in training: beside embeddings it says from its stages what the teacher's inner features are."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallRecogniser(norm=True)
        self.readers = nn.ModuleList(
            nn.Conv2d(channels, hint.num_axes, 1)
            for channels, hint in zip(SmallRecogniser.stage_channels, HINTS, strict=True)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns embeddings (N, 512), not of unit length, and what stands for the hints, (N, C, h, w) each."""
        stages = self.network.stages(pixels)
        said = [
            F.adaptive_avg_pool2d(reader(stage), (hint.height, hint.width))
            for reader, stage, hint in zip(self.readers, stages, HINTS, strict=True)
        ]
        return self.network.embedding(stages[-1]), said


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


@dataclass(frozen=True)
class Source:
    """Pairs of pictures (N, 2, 112, 96, 3), what the teacher says of them, and how often each comes (N,), of mean 1."""

    pairs: Pictures
    lessons: Lessons
    weights: NDArray[np.float64]


def train_student(sources: list[Source], plan: Plan, out: Path) -> None:
    """Trains on all sources at once; writes the averaged student, again and again."""
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    student = Student().to(memory_format=torch.channels_last).train()
    num_steps = max(6, round(plan.kimg * 1000 / plan.batch))
    optimizer = Muon(student.parameters(), lr=plan.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / max(1.0, 0.05 * num_steps), 0.01 + 0.99 * _falling(step / num_steps))
    )
    # The average forgets over a twentieth of the run, so that the last one holds nothing of the rough beginning.
    decay_rate = 1.0 - min(0.5, 20.0 / num_steps)
    average = torch.optim.swa_utils.AveragedModel(
        student,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay_rate),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    ends = np.cumsum([len(source.pairs) for source in sources])
    order = Order(int(ends[-1]), plan.seed, np.concatenate([source.weights for source in sources]))
    start = time.monotonic()
    in_bf16 = has_bf16(torch.device("cpu"))
    for step in range(num_steps):
        chosen = np.sort(order.at(step * plan.batch, plan.batch))
        pairs, lessons = _picked(sources, ends, chosen)
        flipped = rng.random(len(chosen)) < FLIPPED
        batch = relit(torch.from_numpy(moved(pairs, flipped, rng)).permute(0, 1, 4, 2, 3) / 255.0, rng)
        pixels = (batch.flatten(0, 1) * 2.0 - 1.0).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            embeddings, said = student(pixels)
        teacher = torch.from_numpy(lessons.vectors).flatten(0, 1)
        terms = distillation_terms(F.normalize(embeddings.float(), dim=1), teacher, min(1.0, 2.0 * step / num_steps))
        # Hints lead the way at first; in the end the embedding is what counts.
        upright = torch.from_numpy(~flipped)
        terms["hints"] = (0.2 + 0.8 * _falling(step / num_steps)) * hint_error(said, lessons, upright)
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
            assert isinstance(averaged, Student)
            write_weights(folded(averaged.network), out)


def _falling(share: float) -> float:
    """Returns the cosine from 1 at a run's beginning to 0 at its end."""
    return 0.5 + 0.5 * math.cos(math.pi * share)


def _picked(sources: list[Source], ends: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[Pictures, Lessons]:
    """Returns the pairs of sorted numbers, counted through all sources, and what the teacher says of them."""
    pairs: list[Pictures] = []
    vectors: list[Vectors] = []
    hints: list[list[NDArray[np.float16]]] = []
    for source, end in zip(sources, ends, strict=True):
        start = end - len(source.pairs)
        rows = chosen[(chosen >= start) & (chosen < end)] - start
        pairs.append(source.pairs[rows])
        vectors.append(source.lessons.vectors[rows])
        hints.append([hint[rows] for hint in source.lessons.hints])
    together = [np.concatenate(parts) for parts in zip(*hints, strict=True)]
    return np.concatenate(pairs), Lessons(np.concatenate(vectors), together)


def hint_error(said: list[Tensor], lessons: Lessons, upright: Tensor) -> Tensor:
    """Returns the mean squared error of the hints over the faces (B,) that are upright; 1 for saying nothing."""
    errors = [
        (ours.float().reshape(hint.shape)[upright] - torch.from_numpy(hint)[upright].float()).square().mean()
        for ours, hint in zip(said, lessons.hints, strict=True)
    ]
    return torch.stack(errors).mean() if upright.any() else torch.zeros(())


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
    """Writes the weights in 8 bits."""
    save_file(to_eight_bits(network.state_dict()), path)
