"""Eigenfaces: the fit against an exact decomposition, what its parts mean, the command, refusals."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from facesr.errors import DataError, WeightsError
from facesr.methods.pulse import eigenfaces as module
from facesr.methods.pulse.eigenfaces import Eigenfaces, main, sample_sheet
from facesr.methods.pulse.eigenfaces_fit import fit
from facesr.png import read_png
from facesr.protocols import LatentGenerator
from facesr.weights import read_state_dict
from tests.methods.pulse.conftest import random_faces


def write_set(folder: Path, faces: np.ndarray, margin: int = 0) -> Path:
    """Writes a prepared dataset of faces that hold their margin."""
    folder.mkdir()
    np.save(folder / "images.npy", faces)
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["position", "source", "sha256", "identity", "landmarks"])
        writer.writerows([number, f"{number}.png", "", "", ""] for number in range(len(faces)))
    height, width = (side - 2 * margin for side in faces.shape[1:3])
    facts = {"format": 1, "width": width, "height": height, "count": len(faces), "margin": margin, "settings": {}}
    (folder / "set.json").write_text(json.dumps(facts))
    return folder


def test_the_components_are_those_of_an_exact_decomposition() -> None:
    faces = random_faces(170)  # no block is held out
    found = fit(faces)
    flat = torch.from_numpy(faces).permute(0, 3, 1, 2).flatten(1).double() / 255
    mean = flat.mean(0)
    _, values, rows = torch.linalg.svd(flat - mean, full_matrices=False)
    torch.testing.assert_close(found["mean"].flatten().double(), mean, rtol=0, atol=1e-6)
    # Smooth faces of 4x4 colours span 48 strong directions; the others are grain.
    strong = found["basis"].flatten(1).double()[:40]
    overlap = (strong @ rows[:40].t()).square().sum(1)
    assert float(overlap.min()) > 0.999
    torch.testing.assert_close(found["std"][:40].double(), values[:40] / 170**0.5, rtol=1e-3, atol=0)
    # Directions are looked for among the 3 * 7 * 6 values of the pictures at a quarter of their size.
    assert int((found["std"] > 0).sum()) == 126
    basis = found["basis"].flatten(1).float()[:126]
    torch.testing.assert_close(basis @ basis.t(), torch.eye(126), rtol=0, atol=2e-3)


def test_few_faces_leave_components_empty_and_reach_each_face() -> None:
    faces = random_faces(5)
    state = fit(faces)
    assert int((state["std"] > 0).sum()) == 4 and float(state["basis"][4:].abs().max()) == 0.0
    flat = torch.from_numpy(faces).permute(0, 3, 1, 2).flatten(1).float() / 255 - state["mean"].flatten()
    basis = state["basis"].flatten(1).float()
    torch.testing.assert_close(flat @ basis.t() @ basis, flat, rtol=0, atol=2e-3)


def test_held_out_faces_say_how_much_noise_there_is() -> None:
    state = fit(random_faces(400))
    assert state["coarse_std"].shape == (3, 7, 6) and state["fine_std"].shape == (28, 24)
    # The grain of the faces has a standard deviation of 0.02 in each channel.
    assert float(state["fine_std"].mean()) == pytest.approx(0.02, rel=0.3)
    torch.testing.assert_close(state["axes"] @ state["axes"].t(), torch.eye(3), rtol=0, atol=1e-5)


def test_a_picture_is_mean_components_and_noise(eigenfaces_file: Path) -> None:
    generator, state = Eigenfaces(eigenfaces_file, spread=2.0), read_state_dict(eigenfaces_file)
    assert isinstance(generator, LatentGenerator)
    assert (generator.size, generator.num_latents, generator.latent_dim) == ((24, 28), 1, 512)
    latents = torch.zeros(2, 1, 512)
    silent = [torch.zeros(2, *shape) for shape in generator.noise_shapes]
    torch.testing.assert_close(generator.synthesise(generator.map(latents), silent)[1], state["mean"])
    latents[1, 0, 3] = 1.5
    found = generator.synthesise(generator.map(latents), silent)[1]
    torch.testing.assert_close(found, state["mean"] + 3.0 * state["std"][3] * state["basis"][3])
    silent[3][1] = 1.0
    grain = generator.synthesise(generator.map(latents), silent)[1] - found
    torch.testing.assert_close(grain, state["fine_std"].expand(3, -1, -1), rtol=1e-4, atol=1e-6)


def test_drawn_faces_vary_as_the_fitted_ones_do(eigenfaces_file: Path) -> None:
    generator = Eigenfaces(eigenfaces_file)
    sheet = sample_sheet(generator, rows=8, columns=8)
    drawn = sheet.view(3, 8, 28, 8, 24).permute(1, 3, 0, 2, 4).flatten(0, 1)
    real = torch.from_numpy(random_faces(300)).permute(0, 3, 1, 2) / 255
    assert float(drawn.std(0).mean()) == pytest.approx(float(real.std(0).mean()), rel=0.15)


def test_the_command_fits_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_set(tmp_path / "set", random_faces(20, 32, 28), margin=2)
    out = tmp_path / "out" / "e.safetensors"
    assert main(["fit", str(folder), str(out), "--faces", "12"]) == 0
    assert "11 components of 12 faces" in capsys.readouterr().out
    assert Eigenfaces(out).size == (24, 28)
    assert main(["sample", str(out), str(tmp_path / "sheet.png")]) == 0
    assert read_png(tmp_path / "sheet.png").shape == (4 * 28, 8 * 24, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "{tmp}/absent", "{tmp}/o.safetensors"], "does not exist"),
        (["fit", "{tmp}/set", "{tmp}/o.npz"], ".safetensors"),
        (
            ["fit", "{tmp}/set", "{tmp}/o.safetensors", "--faces", "1"],
            "--faces 1 is out of range; give a whole number from 2",
        ),
        (["fit", "{tmp}/set", "{tmp}/o.safetensors", "--faces", "21"], "holds 20 faces"),
        (["fit", "{tmp}/odd", "{tmp}/o.safetensors"], "multiples of 4"),
        (["sample", "{tmp}/absent.safetensors", "{tmp}/o.png"], "is not a file"),
        (["sample", "{tmp}/other.safetensors", "{tmp}/o.png"], "holds no eigenfaces"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(tmp_path, capsys, arguments, words, code_of) -> None:
    write_set(tmp_path / "set", random_faces(20))
    write_set(tmp_path / "odd", random_faces(20, 28, 22))
    save_file({"mean": torch.zeros(3, 4, 4)}, tmp_path / "other.safetensors")
    assert code_of(main, [argument.format(tmp=tmp_path) for argument in arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and words in printed and printed.count("\n") == 1


def test_the_default_is_fitted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "NUM_SYNTHETIC", 4)
    calls = []
    plain = module.fit_set
    monkeypatch.setattr(module, "fit_set", lambda faces: calls.append(len(faces)) or plain(faces))
    assert Eigenfaces().weights_sha256 == Eigenfaces().weights_sha256
    assert calls == [4] and Eigenfaces().size == (96, 112)


def test_a_spread_of_zero_and_a_single_face_are_refused(eigenfaces_file: Path) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Eigenfaces(eigenfaces_file, spread=0.0)
    with pytest.raises(DataError, match="at least 2 faces"):
        fit(random_faces(1))
    with pytest.raises(WeightsError, match="is not a file"):
        Eigenfaces("/nowhere.safetensors")
