"""Training the VAE of faces: schedules and losses worked out by hand, one step, and a whole run."""

import dataclasses
import functools
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

from facesr.build import load_settings
from facesr.config import FaceGeneratorSettings
from facesr.errors import FaceSRError
from facesr.methods.pulse.faces import Faces
from facesr.models.face_vae import FaceDecoder, FaceVae, set_components
from facesr.protocols import LatentGenerator
from facesr.resample import downscale
from facesr.training.face_generator import program
from facesr.training.face_generator.program import build_players, train_face_generator
from facesr.training.face_generator.sheet import interpolation_sheet, sample_sheet
from facesr.training.face_generator.vae_step import LEARNING_RATE, log_error, rate_at, vae_step
from facesr.training.step import GanState

CPU = torch.device("cpu")


def small(*overrides: str) -> FaceGeneratorSettings:
    keys = ("num_synthetic=24", "width=0.1", "batch_size=4", "ema_halflife_kimg=0.02", "precision=fp32", "device=cpu")
    return load_settings("face_generator", FaceGeneratorSettings, ["kind=vae", *keys, *overrides])


def players() -> GanState:
    torch.manual_seed(0)
    state = build_players(small(), 112, 96, CPU)
    assert isinstance(state.generator, FaceVae)
    coarse = torch.rand(12, 3, 4, 3, generator=torch.Generator().manual_seed(1))
    set_components(state.generator, [torch.nn.functional.interpolate(coarse, size=(112, 96), mode="bilinear")])
    return state


def test_rates_over_a_run() -> None:
    assert rate_at(0.0) == 0.0 and rate_at(1.0) == pytest.approx(0.0, abs=1e-12)
    assert rate_at(0.015) == pytest.approx(0.5 * LEARNING_RATE * 0.5 * (1 + math.cos(0.015 * math.pi)))
    assert rate_at(0.5) == pytest.approx(0.5 * LEARNING_RATE)


def test_the_likelihood_is_that_of_the_best_deviation() -> None:
    torch.manual_seed(1)
    found, wanted = torch.rand(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    deviation = (found - wanted).square().mean().sqrt()
    normal = torch.distributions.Normal(wanted, deviation)
    # Without the constant: half a face's number of values times log(2 pi) + 1.
    known = -normal.log_prob(found).flatten(1).sum(1).mean() - 20.0 * (math.log(2.0 * math.pi) + 1.0)
    torch.testing.assert_close(log_error(found, wanted), known)
    for factor in (0.9, 1.1):
        other = torch.distributions.Normal(wanted, factor * deviation)
        assert -other.log_prob(found).flatten(1).sum(1).mean() > -normal.log_prob(found).flatten(1).sum(1).mean()


def test_a_step_moves_every_parameter_and_no_component() -> None:
    state = players()
    # What begins at zero keeps others from moving in the first step.
    for name, parameter in state.generator.named_parameters():
        if not parameter.any() and "spread" not in name:
            torch.nn.init.normal_(parameter, std=0.01)
    before = {name: value.detach().clone() for name, value in state.generator.state_dict().items()}
    figures = vae_step(state, torch.rand(4, 3, 112, 96), 0.1)
    assert all(bool(value.isfinite().all()) for value in figures.values())
    assert {group["lr"] for group in state.generator_optimizer.param_groups} == {rate_at(0.1)}
    after = state.generator.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name, _ in state.generator.named_parameters()} and state.num_steps == 1


def test_the_figures_are_those_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    state = players()
    faces = torch.rand(4, 3, 112, 96)
    torch.manual_seed(3)
    with torch.no_grad():
        found, posteriors = state.generator(faces)
        posteriors = [(mean.clone(), spread.clone()) for mean, spread in posteriors]
    torch.manual_seed(3)
    figures = vae_step(state, faces, 0.25)
    square, low = (found - faces).square().mean(), (downscale(found) - downscale(faces)).square().mean()
    assert float(figures["psnr"]) == pytest.approx(-10 * math.log10(square), abs=1e-3)
    assert float(figures["psnr_low"]) == pytest.approx(-10 * math.log10(low), abs=1e-3)
    nats = sum(
        float((0.5 * (mean.square() + spread.exp() - 1 - spread)).sum()) / len(faces) for mean, spread in posteriors
    )
    assert float(figures["nats"]) == pytest.approx(nats, rel=1e-4)
    # Downscaled values count twice, and each half of its logarithm is a value's share.
    loss = (0.5 * 32256 * math.log(square) + 2 * 0.5 * 2016 * math.log(low) + nats) / 32256
    assert float(figures["loss/vae"]) == pytest.approx(loss, rel=1e-4)


def test_a_few_steps_learn_four_faces() -> None:
    state = players()
    rows, columns = torch.linspace(0, 1, 112)[:, None], torch.linspace(0, 1, 96)
    faces = torch.stack([0.2 * number + 0.3 * rows * columns for number in range(3)]).expand(4, -1, -1, -1)
    figures = [vae_step(state, faces, progress) for progress in torch.linspace(0.05, 0.6, 30).tolist()]
    assert float(figures[-1]["psnr"]) > float(figures[0]["psnr"]) + 2.0


def test_sheets_of_a_decoder() -> None:
    torch.manual_seed(0)
    decoder = FaceDecoder((8, 6), (2, 1), 4, 3, 14, 12)
    torch.nn.init.normal_(decoder.components, std=0.1)
    sheet = sample_sheet(decoder, rows=2, columns=3)
    assert sheet.shape == (2 * 56, 3 * 48, 3) and np.array_equal(sheet, sample_sheet(decoder, rows=2, columns=3))
    way, finer = (interpolation_sheet(decoder, rows=2, columns=count) for count in (3, 5))
    assert way.shape == (2 * 56, 3 * 48, 3)
    # Ends and middle are the same, whatever the number of columns between.
    for ours, theirs in ((0, 0), (1, 2), (2, 4)):
        ours_part, theirs_part = way[:, ours * 48 :][:, :48], finer[:, theirs * 48 :][:, :48]
        assert int(np.abs(ours_part.astype(int) - theirs_part).max()) <= 1
    numbers, *maps = decoder.draw(4, torch.Generator().manual_seed(21))
    middle = decoder(decoder.vector_of((numbers[:2] + numbers[2:]) / 2**0.5), [torch.zeros_like(maps[0][:2])])
    expected = (middle.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).detach().numpy()
    shown = np.stack([way[:56, 48:96], way[56:, 48:96]])
    assert np.abs(shown - expected).max() <= 1


# A run


def run(folder: Path, kimg: str, *more: str) -> int:
    keys = [f"runs_dir={folder}", "name=faces", f"duration_kimg={kimg}", "sheet_every_kimg=0.004", "log_every_kimg=1"]
    return train_face_generator(small(*keys, *more))


@pytest.fixture
def small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    for sheet in (sample_sheet, interpolation_sheet):
        monkeypatch.setattr(program, sheet.__name__, functools.partial(sheet, rows=1, columns=2))


@pytest.mark.usefixtures("small_sheets")
def test_a_run_is_kept_resumed_and_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "whole", "0.008") == 0

    class AfterOneStep(program.StopRequest):
        def agreed(self, num_steps: int, device: torch.device) -> bool:
            return num_steps == 1

    with monkeypatch.context() as patch:
        patch.setattr(program, "StopRequest", AfterOneStep)
        assert run(tmp_path / "parts", "0.008") == 75
    assert run(tmp_path / "parts", "0.008") == 0
    told = capsys.readouterr().out
    assert "resuming at 0.004 kimg" in told and "dB, of the downscaled" in told
    files = [tmp_path / name / "faces" / "latest.safetensors" for name in ("whole", "parts")]
    whole, parts = ({name: file.get_tensor(name) for name in file.keys()} for file in map(opened, files))  # noqa: SIM118
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not any(name.startswith(("encoder", "decoder")) for name in whole), "the decoder alone"
    assert not torch.equal(whole["prior_factor"], torch.eye(512)), "what real faces are like was fitted"
    faces = program.open_faces(small())
    pictures, margin = torch.from_numpy(np.array(faces.images)).permute(0, 3, 1, 2) / 255.0, faces.margin
    height, width = program.size_of(faces)
    mean = downscale(pictures[:, :, margin : margin + height, margin : margin + width]).mean(0)
    # Mirrored faces count as well, and the average has them after a step.
    torch.testing.assert_close(whole["mean"], 0.5 * (mean + mean.flip(2)), atol=1e-5, rtol=0)
    assert float(whole["components"][0].abs().max()) > 0.01

    folder = tmp_path / "whole" / "faces"
    sheet = cv2.imread(str(folder / "sheets" / "000000008_samples.png"))
    assert sheet is not None and sheet.shape == (112, 2 * 96, 3)
    (line,) = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert line["num_images"] == 8 and {"loss/vae", "psnr", "psnr_low", "nats"} <= line.keys()
    generator = Faces(files[0])
    assert isinstance(generator, LatentGenerator) and generator.size == (96, 112)

    with pytest.raises(FaceSRError, match="belongs to a run with another duration_kimg"):
        run(tmp_path / "whole", "0.02")


def opened(file: Path) -> safe_open:
    return safe_open(str(file), "pt")


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("loss/vae", "psnr", "psnr_low", "nats")
    monkeypatch.setattr(program, "vae_step", lambda *_: {name: torch.tensor(float("nan")) for name in names})
    with pytest.raises(FaceSRError, match=r"not finite at 0\.004 kimg; take precision=fp32"):
        run(tmp_path, "0.004")


def test_no_key_of_the_gan_is_needed() -> None:
    settings = dataclasses.replace(small(), r1_gamma=-1.0)
    assert build_players(settings, 112, 96, CPU).discriminator is None
