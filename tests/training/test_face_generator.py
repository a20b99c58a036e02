"""Training the face generator: augmentation, adaptation, one step, and a run that resumes bit by bit."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from facesr.build import load_settings
from facesr.config import FaceGeneratorSettings
from facesr.errors import FaceSRError
from facesr.methods.pulse.stylegan2 import StyleGAN2
from facesr.models.style_generator import StyleGenerator
from facesr.protocols import LatentGenerator
from facesr.task import LUMA
from facesr.training.face_generator import program as face_generator
from facesr.training.face_generator.program import set_up, train, train_face_generator, with_precision
from facesr.training.face_generator.sheet import interpolation_sheet, sample_sheet
from facesr.training.face_generator.step import MAX_SHIFT, Adaptation, augment, draw_styles, shifted, train_step

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    *("num_synthetic=24", "width=0.02", "batch_size=4", "ema_halflife_kimg=0.02", "precision=fp32", "device=cpu"),
    "kind=gan",
)


def small(*overrides: str) -> FaceGeneratorSettings:
    return load_settings("face_generator", FaceGeneratorSettings, [*SMALL, *overrides])


def small_generator() -> StyleGenerator:
    torch.manual_seed(0)
    return StyleGenerator((4, 4, 4), 7, 6, latent_dim=8, num_mapping_layers=2)


# Augmentation


def test_without_probability_pictures_stay() -> None:
    pictures = torch.rand(4, 3, 16, 12)
    assert augment(pictures, 0.0) is pictures


def test_shifts_are_whole_pixels_with_a_mirrored_border() -> None:
    pictures = torch.rand(3, 3, 16, 24)
    down, right = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0.0, -1.0, 1.0])
    moved = shifted(pictures, down, right)
    assert torch.equal(moved[0], pictures[0])
    y, x = int(MAX_SHIFT * 16), int(MAX_SHIFT * 24)
    assert torch.equal(moved[1][:, y:, :-x], pictures[1][:, :-y, x:])
    assert torch.equal(moved[2][:, :-y, x:], pictures[2][:, y:, :-x])
    assert torch.equal(moved[1][:, 0, :-x], pictures[1][:, y, x:]), "mirrored"


def test_about_the_share_of_pictures_is_changed_and_gradients_flow() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(1, 3, 8, 8).repeat(400, 1, 1, 1).requires_grad_()
    changed = augment(pictures, 0.2)
    share = float(((changed - pictures).abs().flatten(1).amax(1) > 1e-4).float().mean())
    # Two shifts, of which every second one rounds to nothing here, and three colours: 1 - 0.9^2 * 0.8^3.
    assert 0.5 < share < 0.67
    changed.sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0


def test_saturation_keeps_the_luma() -> None:
    torch.manual_seed(1)
    luma = torch.tensor(LUMA)[:, None, None]
    grey = torch.rand(8, 1, 8, 8).expand(-1, 3, -1, -1)
    changed = augment(grey, 0.8)
    assert torch.allclose(changed, (changed * luma).sum(1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-5)


def test_probability_follows_the_sign_of_the_real_logits() -> None:
    adaptation = Adaptation()
    for _ in range(4):
        adaptation.observe(torch.ones(50, 1))
    assert adaptation.probability == pytest.approx(200 / 500_000)
    for _ in range(8):
        adaptation.observe(torch.tensor([[1.0], [-1.0]]).repeat(25, 1))
    assert adaptation.probability == 0.0, "it falls again, and not below 0"
    adaptation.probability = 0.8
    for _ in range(4):
        adaptation.observe(torch.ones(50, 1))
    assert adaptation.probability == 0.8, "an augmentation that is never left out would leak"


@pytest.mark.parametrize(("num_real", "up"), [(35, False), (40, False), (41, True), (50, True)])
def test_the_mean_sign_of_four_batches_is_held_at_sixty_percent(num_real: int, up: bool) -> None:
    logits = torch.where(torch.arange(50) < num_real, 3.0, -0.1)[:, None]  # mean signs of 0.4, 0.6, 0.64 and 1
    adaptation = Adaptation(probability=0.5)
    for number in range(1, 5):
        assert adaptation.probability == 0.5, "before the fourth batch"
        adaptation.observe(logits)
        if number < 4:
            assert (adaptation.num_seen, adaptation.num_batches) == (50 * number, number)
    assert adaptation.probability == pytest.approx(0.5 + (200 if up else -200) / 500_000)
    assert (adaptation.sign_sum, adaptation.num_seen, adaptation.num_batches) == (0.0, 0, 0)


def test_colours_change_by_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    normal = [torch.tensor(pair) for pair in ([1.0, -0.5], [-1.0, 2.0], [0.5, 1.0])]
    monkeypatch.setattr(torch, "randn", lambda *_, **__: normal.pop(0))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0.5, 0.5]))  # no shift; all of them chosen
    colour = torch.tensor([0.2, 0.5, 0.7])
    found = augment(colour[:, None, None].expand(2, 3, 8, 8), 0.6)
    for picture, (light, contrast, saturation) in zip(found, [(0.1, 0.5**0.5, 2**0.5), (-0.05, 2.0, 2.0)], strict=True):
        expected = 0.5 + (colour + light - 0.5) * contrast
        grey = (expected * torch.tensor([0.299, 0.587, 0.114])).sum()
        expected = grey + (expected - grey) * saturation
        torch.testing.assert_close(picture, expected[:, None, None].expand(3, 8, 8))


# Latents, steps, sheets


def test_styles_change_once_from_coarse_to_fine() -> None:
    generator = small_generator()
    mixed = draw_styles(generator, 64, mixing=1.0)
    changes = (mixed[:, 1:] != mixed[:, :-1]).any(2).sum(1)
    assert mixed.shape == (64, 6, 8) and (changes == 1).all()
    places = (mixed[:, 1:] != mixed[:, :-1]).any(2).float().argmax(1) + 1
    assert set(places.tolist()) == {1, 2, 3, 4, 5}, "of six layers the first keeps the coarse style"
    assert (draw_styles(generator, 8, mixing=0.0).diff(dim=1) == 0).all()
    some = (draw_styles(generator, 400, mixing=0.25).diff(dim=1) != 0).any(2).any(1)
    assert some.float().mean().item() == pytest.approx(0.25, abs=0.08)


def test_a_step_moves_both_networks_and_takes_the_penalty_every_16th_time(tmp_path: Path) -> None:
    session = set_up(with_precision(small(), torch.device("cpu")), tmp_path / "run", torch.device("cpu"))
    gan = session.gan
    assert gan.discriminator is not None
    real = next(session.feed.batches(0))
    before = [parameter.detach().clone() for parameter in gan.generator.parameters()]
    before_discriminator = [parameter.detach().clone() for parameter in gan.discriminator.parameters()]
    figures = [train_step(gan, real, session.adaptation)]
    gan.num_steps = 15
    figures += [train_step(gan, real, session.adaptation) for _ in range(2)]
    session.close()
    assert ["loss/r1" in each for each in figures] == [True, False, True]
    assert gan.num_steps == 17
    assert all(value.isfinite() for each in figures for value in each.values())
    for network, old in ((gan.generator, before), (gan.discriminator, before_discriminator)):
        moved = [not torch.equal(new, was) for new, was in zip(network.parameters(), old, strict=True)]
        assert all(moved)


def test_sheets_are_repeatable_and_begin_and_end_at_the_faces() -> None:
    generator = small_generator()
    sheet = sample_sheet(generator, rows=2, columns=3)
    assert sheet.shape == (2 * 28, 3 * 24, 3) and sheet.dtype == np.uint8
    assert np.array_equal(sheet, sample_sheet(generator, rows=2, columns=3))
    way = interpolation_sheet(generator, rows=2, columns=3)
    assert np.array_equal(way[:, :24], interpolation_sheet(generator, rows=2, columns=5)[:, :24])


# A run


@pytest.fixture
def small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    for sheet in (sample_sheet, interpolation_sheet):
        monkeypatch.setattr(face_generator, sheet.__name__, functools.partial(sheet, rows=1, columns=2))


def run(folder: Path, kimg: str, *more: str) -> int:
    keys = [f"runs_dir={folder}", "name=faces", f"duration_kimg={kimg}", "sheet_every_kimg=0.004", "log_every_kimg=1"]
    return train_face_generator(small(*keys, *more))


def tensors(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(str(file), "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dict


@pytest.mark.slow
@pytest.mark.usefixtures("small_sheets")
def test_a_run_resumes_bit_by_bit_and_its_generator_can_be_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "whole", "0.008") == 0
    assert run(tmp_path / "parts", "0.004") == 0
    assert run(tmp_path / "parts", "0.008") == 0
    assert "resuming at 0.004 kimg" in capsys.readouterr().out
    whole, parts = (tensors(tmp_path / name / "faces" / "latest.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)

    folder = tmp_path / "whole" / "faces"
    sheet = cv2.imread(str(folder / "sheets" / "000000008_samples.png"))
    assert sheet is not None and sheet.shape == (112, 2 * 96, 3)
    assert (folder / "sheets" / "000000004_interpolations.png").is_file()
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert lines[-1]["num_images"] == 8 and "loss/generator" in lines[-1]

    generator = StyleGAN2(folder / "latest.safetensors", num_fit_samples=200, name="faces")
    assert isinstance(generator, LatentGenerator)
    assert generator.size == (96, 112) and generator.num_latents == 10 and generator.latent_dim == 512
    noises = [torch.randn(1, *shape) for shape in generator.noise_shapes]
    assert generator.synthesise(generator.map(torch.randn(1, 10, 512)), noises).shape == (1, 3, 112, 96)

    with pytest.raises(FaceSRError, match="belongs to a run with another seed"):
        run(tmp_path / "whole", "0.02", "seed=3")


@pytest.mark.usefixtures("small_sheets")
def test_asked_to_stop_it_saves_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(face_generator.StopRequest):
        def __init__(self) -> None:
            super().__init__()
            self.came = True

    monkeypatch.setattr(face_generator, "StopRequest", Asked)
    session = set_up(with_precision(small(), torch.device("cpu")), tmp_path / "run", torch.device("cpu"))
    assert train(session, kimg=1.0, sheet_every_kimg=1.0) == 75
    assert list((tmp_path / "run" / "state").glob("*.pt"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["batch_size=0"], "batch_size=0 is out of range"),
        (["sheet_every_kimg=0"], "sheet_every_kimg=0 is out of range"),
        (["r1_gamma=-1"], "r1_gamma=-1 is out of range"),
        (["precision=fp16"], "precision=fp16"),
        (["precision=fp17"], "precision=fp17"),
        (["faces=/nowhere"], "/nowhere"),
        (["batch_size=100"], "fewer than batch_size=100"),
        (["batch=4"], "batch"),
        (["kind=flow"], "kind=flow is unknown; choose one of vae, gan"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, keys: list[str], words: str) -> None:
    with pytest.raises(FaceSRError) as caught:
        run(tmp_path, "0.01", *keys)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_train_py_has_it_as_an_experiment(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facesr", "face-generator", f"runs_dir={tmp_path}", "batch_size=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (
        done.returncode == 2
        and done.stderr == "error: batch_size=0 is out of range; give a whole number from 1 to 65536.\n"
    )


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> dict[str, torch.Tensor]:
        names = ("loss/discriminator", "loss/generator", "logit/real", "logit/fake")
        return {name: torch.tensor(float("nan")) for name in names}

    monkeypatch.setattr(face_generator, "train_step", broken)
    with pytest.raises(FaceSRError, match="a loss is not finite"):
        run(tmp_path, "0.008")
