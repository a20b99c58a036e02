"""What the face generator's training computes, keeps and says, against what was worked out by hand."""

import dataclasses
import functools
import json
import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from facesr import dist
from facesr.build import load_settings
from facesr.config import FaceGeneratorSettings
from facesr.errors import ConfigError
from facesr.losses.adversarial import Vanilla
from facesr.models.style_generator import StyleGenerator
from facesr.training.face_generator import program
from facesr.training.face_generator import step as face_step
from facesr.training.face_generator.program import (
    DECIDING,
    build_players,
    keep,
    open_faces,
    report,
    size_of,
    train,
    train_face_generator,
    with_precision,
    write_generator,
)
from facesr.training.face_generator.sheet import interpolation_sheet, sample_sheet
from facesr.training.face_generator.step import Adaptation, augment, draw_faces, draw_styles, train_step
from facesr.training.state import Clock
from facesr.training.step import GanState

CPU = torch.device("cpu")


@functools.cache
def plain_settings() -> FaceGeneratorSettings:
    keys = ("name=x", "kind=gan", "num_synthetic=24", "width=0.02", "batch_size=4", "precision=fp32", "device=cpu")
    return load_settings("face_generator", FaceGeneratorSettings, list(keys))


def settings_of(**changes: Any) -> FaceGeneratorSettings:
    return dataclasses.replace(plain_settings(), **changes)


# Faces and networks


def test_the_faces_are_the_prepared_or_the_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = SimpleNamespace(margin=8, images=np.zeros((1, 64, 48, 3), np.uint8))
    asked: list[Any] = []
    monkeypatch.setattr(program, "prepared", lambda path: asked.append(path) or faces)
    monkeypatch.setattr(program, "synthetic", lambda *n, **more: asked.append((*n, more)) or faces)
    assert open_faces(settings_of(faces="some/folder")) is faces and open_faces(settings_of()) is faces
    assert asked == ["some/folder", (24, {"seed": 1, "pictures_per_identity": 4})]
    assert size_of(faces) == (48, 32)  # type: ignore[arg-type]
    for shape in ((1, 72, 48, 3), (1, 64, 56, 3)):
        faces.images = np.zeros(shape, np.uint8)
        with pytest.raises(ConfigError, match=rf"are {shape[2] - 16}x{shape[1] - 16}; .* multiples of 16\."):
            open_faces(settings_of())


def test_both_networks_begin_at_a_sixteenth_and_are_scaled_in_width(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Some(nn.Module):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            made.append((*given, more))

    monkeypatch.setattr(program, "StyleGenerator", Some)
    monkeypatch.setattr(program, "StyleDiscriminator", Some)
    gan = build_players(settings_of(width=0.03, r1_gamma=0.75), 112, 96, CPU)
    channels = [8, 8, 6, 4, 4]  # 7.7, 7.7, 5.8, 2.9 and 1.4, and 4 at least
    assert made == [(channels, 7, 6, {"num_mapping_layers": 2}), (channels, 7, 6, {})]
    assert gan.terms == {} and gan.precision == "fp32" and gan.gradient_clip_norm == 0.0
    loss = gan.adversarial
    assert isinstance(loss, Vanilla)
    assert (loss.weight, loss.start_kimg, loss.r1_gamma, loss.r1_every) == (1.0, 0.0, 0.75, 16)
    assert gan.discriminator_optimizer is not None
    for optimizer, network, lr, beta in (
        (gan.generator_optimizer, gan.generator, 0.002, 0.99),
        (gan.discriminator_optimizer, gan.discriminator, 0.002 * 16 / 17, 0.99 ** (16 / 17)),
    ):
        (group,) = optimizer.param_groups
        assert isinstance(optimizer, torch.optim.Adam) and isinstance(network, nn.Module)
        assert group["params"] == list(network.parameters())
        assert group["lr"] == pytest.approx(lr) and group["betas"] == (0.0, pytest.approx(beta))


# One step


class TinyGenerator(StyleGenerator):
    """Pictures of one level, which is the only weight."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.level = nn.Parameter(torch.tensor(0.25))


class TinyDiscriminator(nn.Module):
    """The sum of a picture's values times the only weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.weight * pictures.flatten(1).sum(1, keepdim=True)


def tiny_gan(r1_gamma: float = 0.125) -> GanState:
    generator, discriminator = TinyGenerator(), TinyDiscriminator()
    return GanState(
        generator=generator,
        generator_optimizer=torch.optim.SGD(generator.parameters(), lr=0.1),
        terms={},
        precision="fp32",
        gradient_clip_norm=0.0,
        adversarial=Vanilla(1.0, 0.0, r1_gamma, 4),
        discriminator=discriminator,
        discriminator_optimizer=torch.optim.SGD(discriminator.parameters(), lr=0.01),
    )


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(("num_steps", "r1_gamma"), [(4, 0.125), (5, 0.125), (4, 0.0)])
def test_a_step_by_hand(monkeypatch: pytest.MonkeyPatch, num_steps: int, r1_gamma: float) -> None:
    shown: list[tuple[int, float]] = []

    def augment(pictures: Tensor, probability: float) -> Tensor:
        shown.append((len(pictures), probability))
        return pictures + 0.1

    monkeypatch.setattr(face_step, "augment", augment)
    monkeypatch.setattr(face_step, "draw_faces", lambda g, count: g.level.expand(count, 3, 1, 1))
    gan, adaptation = tiny_gan(r1_gamma), Adaptation(0.5)
    gan.num_steps = num_steps
    gan.generator.eval()
    figures = train_step(gan, torch.full((2, 3, 1, 1), 0.5), adaptation)
    assert shown == [(2, 0.5)] * 3 and gan.generator.training and gan.num_steps == num_steps + 1
    assert (adaptation.num_seen, adaptation.sign_sum) == (2, 2.0)

    # Three values each: 0.6 and 0.35 with what the augmentation adds, at a weight of a half.
    real, fake = 0.5 * 3 * 0.6, 0.5 * 3 * 0.35
    expected = {"logit/real": real, "logit/fake": fake, "loss/discriminator": softplus(fake) + softplus(-real)}
    slope = sigmoid(fake) * 3 * 0.35 - sigmoid(-real) * 3 * 0.6
    if num_steps == 4 and r1_gamma:
        # Half the squared length of three slopes of 0.5; the penalty grows by 3 times the weight.
        expected["loss/r1"] = 0.5 * 3 * 0.25
        slope += 0.125 * 4 * 3 * 0.5
    weight = 0.5 - 0.01 * slope
    logit = weight * 3 * 0.35
    expected["loss/generator"] = softplus(-logit)
    level = 0.25 + 0.1 * sigmoid(-logit) * weight * 3
    assert {name: value.item() for name, value in figures.items()} == pytest.approx(expected)
    assert not any(value.requires_grad for value in figures.values())
    assert gan.discriminator is not None
    assert gan.discriminator.weight.item() == pytest.approx(weight)
    assert gan.generator.level.item() == pytest.approx(level)


def test_faces_are_brought_from_plus_minus_one_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = StyleGenerator((4, 4), 3, 2, latent_dim=8, num_mapping_layers=1)
    torch.manual_seed(1)
    found = draw_faces(generator, 3)
    torch.manual_seed(1)
    styles = draw_styles(generator, 3)
    expected = generator(styles, generator.draw_noises(3)) / 2.0 + 0.5
    torch.testing.assert_close(found, expected)
    assert found.shape == (3, 3, 6, 4)


# Sheets


class Painter:
    """A generator of 1x2 pictures: w and the first noise."""

    latent_dim, num_latents, noise_shapes = 1, 4, ((1, 1, 1),)
    input = SimpleNamespace(input=torch.zeros(1))

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def map(self, latents: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return latents / 10.0

    def __call__(self, styles: Tensor, noises: list[Tensor]) -> Tensor:
        assert not torch.is_grad_enabled() and styles.shape[1:] == (4, 1) and (styles == styles[:, :1]).all()
        self.sizes.append(len(styles))
        pictures = torch.stack([styles[:, 0, 0], noises[0].flatten() / 10.0], 1)
        return pictures[:, None, None, :].expand(-1, 3, -1, -1)


def grey(values: Tensor) -> np.ndarray:
    return ((values / 10.0 + 1.0) / 2.0 * 255.0).round().numpy()


def test_a_sheet_shows_the_same_random_faces_row_by_row() -> None:
    random = torch.Generator().manual_seed(20)
    latents, noises = torch.randn(40, 1, generator=random), torch.randn(40, 1, generator=random)
    painter: Any = Painter()
    sheet = sample_sheet(painter, rows=8, columns=5)
    assert sheet.shape == (8, 10, 3) and painter.sizes == [32, 8]
    expected = grey(torch.cat([latents, noises], 1)).reshape(8, 10)
    assert np.abs(sheet - expected[:, :, None]).max() <= 1 and (sheet == sheet[..., :1]).all()
    assert sample_sheet(painter).shape == (5, 20, 3)


def test_an_interpolation_goes_by_equal_steps_with_one_noise() -> None:
    random = torch.Generator().manual_seed(21)
    ends, noises = torch.randn(6, generator=random), torch.randn(3, generator=random)
    painter: Any = Painter()
    sheet = interpolation_sheet(painter, rows=3, columns=5)
    assert sheet.shape == (3, 10, 3)
    way = torch.stack([ends[:3] * (1.0 - share) + ends[3:] * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)], 1)
    assert np.abs(sheet[:, ::2, 0] - grey(way)).max() <= 1
    assert np.abs(sheet[:, 1::2, 0] - grey(noises[:, None].expand(3, 5))).max() <= 1
    assert interpolation_sheet(painter).shape == (5, 20, 3)


# A run


def session_of(folder: Path, told: list[Any], **settings: Any) -> Any:
    settings = {"adaptive_augmentation": True, "batch_size": 4, "ema_halflife_kimg": 0.5, **settings}
    return SimpleNamespace(
        settings=SimpleNamespace(kind="gan", **settings),
        folder=folder, gan=SimpleNamespace(num_steps=0), clock=Clock(), adaptation=Adaptation(0.25),
        feed=SimpleNamespace(device=CPU, batches=lambda start: told.append(("from", start)) or iter(range(100))),
        console=SimpleNamespace(say=lambda text: told.append(text)),
        stats=SimpleNamespace(write=lambda *given: told.append(given)), close=lambda: told.append("closed"),
    )  # fmt: skip


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("stopped_at", [None, 3, 6])
def test_a_run_reports_and_saves_when_due(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, adaptive: bool, stopped_at: int | None
) -> None:
    told: list[Any] = []
    session = session_of(tmp_path, told, adaptive_augmentation=adaptive)
    now = [10.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def step(gan: Any, real: int, adaptation: Adaptation) -> dict[str, Tensor]:
        now[0] += 2.0
        gan.num_steps += 1
        assert real == gan.num_steps - 1 and adaptation is session.adaptation
        adaptation.probability = 0.75
        return {"loss": torch.tensor(float(real))}

    def note(_: Any, figures: Any, speed: float) -> None:
        told.append(("report", session.clock.num_images, figures["loss"].item(), speed, session.clock.seconds))

    def save(_: Any) -> None:
        now[0] += 50.0
        told.append(("keep", session.clock.num_images, session.clock.seconds, session.adaptation.probability))

    class Request:
        def agreed(self, num_steps: int, device: torch.device) -> bool:
            assert device is CPU
            return num_steps == stopped_at

        def restore(self) -> None:
            told.append("restored")

    averaged: list[Any] = []
    for name, value in {
        "train_step": step, "report": note, "keep": save, "StopRequest": Request,
        "update_average": lambda gan, *given: averaged.append(given),
    }.items():  # fmt: skip
        monkeypatch.setattr(program, name, value)
    code = train(session, kimg=0.0219, sheet_every_kimg=0.012, log_every_kimg=0.008)
    p = 0.75 if adaptive else 0.0
    events: list[Any] = [
        # 8 images in 4 s; the seconds of a report are counted after it. Saving is left out of speed and seconds.
        ("from", 0), ("report", 8, 1.0, 2.0, 0.0), ("keep", 12, 4.0, p), ("report", 16, 3.0, 2.0, 4.0),
        ("report", 24, 5.0, 2.0, 6.0), ("keep", 24, 10.0, p), "closed", "restored",
    ]  # fmt: skip
    if stopped_at == 3:
        events[3:] = ["asked to stop: saved at 0.012 kimg; the same command resumes.", "closed", "restored"]
    assert told == events and code == (75 if stopped_at == 3 else 0)
    assert averaged == [(4, 4 * number, 0.5) for number in range(1, 4 if stopped_at == 3 else 7)]


def test_a_report_is_a_line_of_figures(tmp_path: Path) -> None:
    told: list[Any] = []
    session = session_of(tmp_path, told)
    session.clock = Clock(num_images=12340)
    values = {"loss/discriminator": 1.25, "loss/generator": 0.5, "logit/real": 2.0, "logit/fake": -1.5}
    report(session, {name: torch.tensor(value) for name, value in values.items()}, 31.25)
    assert told == [
        (12340, {**values, "augmentation": 0.25, "images_per_second": 31.25}),
        "    12.3 kimg  loss D 1.250 G 0.500  logits real +2.00 generated -1.50  p 0.250  31.2 faces/s",
    ]


def test_what_is_kept_names_the_plan_and_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    settings = settings_of(r1_gamma=0.75)
    plan = {key: getattr(settings, key) for key in DECIDING}
    assert plan["r1_gamma"] == 0.75 and "duration_kimg" not in plan
    gan = SimpleNamespace(average="average")
    session = SimpleNamespace(
        settings=settings, gan=gan, clock=Clock(num_images=1500), folder=tmp_path, adaptation=Adaptation(0.5, 1.0, 2, 3)
    )
    monkeypatch.setattr(program, "digest_of", lambda described: f"digest of {described == plan}")
    monkeypatch.setattr(program, "pack_state", lambda *given: {"packed": given})
    for name in ("write_state", "write_generator", "write_sheets"):
        monkeypatch.setattr(program, name, lambda *given, name=name: calls.append((name, *given)))
    keep(session)  # type: ignore[arg-type]
    adaptation = {"probability": 0.5, "sign_sum": 1.0, "num_seen": 2, "num_batches": 3}
    state = {"packed": (gan, session.clock, "digest of True"), "plan": plan, "adaptation": adaptation}
    assert calls == [
        ("write_state", tmp_path / "state", 1500, state),
        ("write_generator", tmp_path / "latest.safetensors", "average", {"kimg": 1.5, "plan": plan}),
        ("write_sheets", "average", tmp_path / "sheets", "000001500"),
    ]


def test_a_written_generator_says_what_it_is(tmp_path: Path) -> None:
    network = nn.Linear(2, 3).to(torch.bfloat16)
    write_generator(tmp_path / "g.safetensors", network, {"kimg": 2.5, "a": 1})
    with safe_open(str(tmp_path / "g.safetensors"), "pt") as file:
        about = file.metadata()
        assert about == {"facesr": '{"a": 1, "format": "facesr-face-generator-1", "kimg": 2.5}'}
        assert json.loads(about["facesr"])["kimg"] == 2.5
        assert torch.equal(file.get_tensor("weight"), network.weight.float())
        assert file.get_tensor("bias").dtype == torch.float32


def test_a_run_goes_by_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dist, "choose_device", lambda name: asked.append(name) or CPU)
    monkeypatch.setattr(program, "set_up", lambda *given: asked.append(given) or "session")
    monkeypatch.setattr(program, "train", lambda *given: asked.append(given) or 75)
    settings = settings_of(runs_dir=str(tmp_path), duration_kimg=3.0, sheet_every_kimg=2.0, log_every_kimg=0.5)
    assert train_face_generator(settings) == 75
    assert asked == ["cpu", (settings, tmp_path / "x", CPU), ("session", 3.0, 2.0, 0.5)]
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    with pytest.raises(ConfigError, match="trains on one device"):
        train_face_generator(settings)


def test_auto_is_decided_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "choose_precision", lambda name, device: f"{name} on {device}")
    settings = settings_of(precision="auto")
    assert with_precision(settings, CPU) == settings_of(precision="auto on cpu")


def test_the_command_is_the_face_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(program, "run_script", lambda *given: asked.append(given))
    program.main(["name=x"])
    assert asked == [(train_face_generator, "face_generator", FaceGeneratorSettings, ["name=x"])]


def test_everything_is_drawn_where_pictures_and_network_are() -> None:
    # `meta` stands for an accelerator: what is drawn on the CPU could not be used with it.
    pictures = torch.zeros(4, 3, 16, 24, device="meta")
    moved = augment(pictures, 0.5)
    assert moved.is_meta and moved.shape == pictures.shape
    generator = StyleGenerator((4, 4), 3, 2, latent_dim=8, num_mapping_layers=1).to("meta")
    styles = draw_styles(generator, 3)
    assert styles.is_meta and styles.shape == (3, 4, 8)
