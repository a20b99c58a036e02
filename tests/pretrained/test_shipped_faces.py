"""The face generator that comes with the package: how it is written, what is refused, and that it makes faces."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facesr import __main__ as facesr_command
from facesr.build import load_settings
from facesr.config import EvaluateSettings
from facesr.data.packed.reader import synthetic
from facesr.errors import CheckpointError, WeightsError
from facesr.image import to_float
from facesr.methods.pulse.faces import Faces, decoder_of
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from facesr.models.face_vae import FaceDecoder
from facesr.png import read_png
from facesr.resample import downscale, downscale_uint8, upscale
from facesr.snapshots.rules import SHIPPED, SHIPPED_FACES, format_of
from facesr.snapshots.shipped import ship_faces, shipped_names
from facesr.training.face_generator.program import write_generator
from facesr.weights import sha256_of


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    decoder = FaceDecoder((8, 4), (1, 1), 10, 3, 7, 6)
    torch.nn.init.normal_(decoder.components)
    write_generator(tmp_path / "latest.safetensors", decoder, {"kimg": 1.0})
    return tmp_path / "latest.safetensors"


def test_a_copy_has_a_quarter_of_the_bytes_and_nearly_the_same_faces(trained: Path, tmp_path: Path) -> None:
    path = ship_faces(trained, tmp_path / "faces.safetensors")
    assert path.stat().st_size < 0.6 * trained.stat().st_size  # names and scales weigh much in one so small
    assert load_file(path)["components"].dtype == torch.int8
    assert path.with_name(path.name + ".sha256").read_text().split()[0] == sha256_of(path)
    with safe_open(str(path), "pt") as file:
        assert json.loads(file.metadata()["facesr"])["format"] == format_of(trained)
    before, after = decoder_of(trained), decoder_of(path)
    numbers, maps = before.draw(4, torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = (one(one.vector_of(numbers), [maps]) for one in (before, after))
    assert 0 < float((found - wanted).abs().max()) < 0.05 * float(wanted.abs().max())


def test_what_is_no_face_decoder_is_refused_in_one_sentence(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match=r"is no face decoder; give latest\.safetensors of facesr face-generator"):
        ship_faces(SHIPPED / "asc19_psnr.safetensors", tmp_path / "faces.safetensors")
    state = load_file(trained)
    state["components"][0, 0, 0, 0] = float("nan")
    save_file(state, trained, {"facesr": json.dumps({"format": format_of(trained)})})
    with pytest.raises(CheckpointError, match="cannot be shipped in 8 bits: components"):
        ship_faces(trained, tmp_path / "faces.safetensors")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("faces")] == []
    assert facesr_command.main(["ship", str(trained), "asc19_new"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "is a face generator" in told and told.count("\n") == 1
    assert "asc19_new" not in shipped_names() and "faces" not in shipped_names()


def test_the_shipped_file_is_checked_and_another_one_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ship_faces(trained, tmp_path / "package" / "faces.safetensors")
    monkeypatch.setattr("facesr.methods.pulse.faces.SHIPPED_FACES", target)
    assert Faces().weights_sha256 == sha256_of(target)
    target.write_bytes(target.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="is not the file that was shipped"):
        Faces()
    target.unlink()
    with pytest.raises(WeightsError, match="is not a file"):
        Faces()


def test_only_a_decoder_is_shipped(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "package.safetensors"
    write_generator(tmp_path / "gan.safetensors", torch.nn.Linear(2, 2), {})
    save_file(load_file(trained), tmp_path / "plain.safetensors")  # without what facesr says of it
    for name in ("gan", "plain"):
        with pytest.raises(CheckpointError, match="is no face decoder"):
            ship_faces(tmp_path / f"{name}.safetensors", target)
    network = decoder_of(trained)
    network.prior_mean[0] = 1e6  # beyond half precision
    write_generator(trained, network, {})
    with pytest.raises(CheckpointError, match="cannot be shipped in 8 bits: prior_mean"):
        ship_faces(trained, target)
    assert not target.exists()


def test_the_command_writes_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "f.safetensors"
    monkeypatch.setattr("facesr.snapshots.shipped.ship_faces", lambda path: ship_faces(path, elsewhere))
    assert facesr_command.main(["ship", str(trained), "faces"]) == 0
    assert "generator=faces" in capsys.readouterr().out and elsewhere.is_file()


def test_the_shipped_one_is_small_whole_and_on_the_card() -> None:
    assert SHIPPED_FACES.stat().st_size <= 3_000_000
    card = (SHIPPED / "README.md").read_text()
    assert sha256_of(SHIPPED_FACES) in card and "`generator=faces`" in card
    assert SHIPPED_FACES.with_name(SHIPPED_FACES.name + ".sha256").read_text().split()[0] == sha256_of(SHIPPED_FACES)
    generator = Faces()
    assert generator.weights_sha256 == sha256_of(SHIPPED_FACES) and generator.size == (96, 112)


def test_the_shipped_one_adds_detail_to_its_small_pictures() -> None:
    generator = Faces()
    numbers, _ = generator.network.draw(16, torch.Generator().manual_seed(3))
    with torch.no_grad():
        faces = generator.synthesise(generator.map(numbers[:, None]), [])
        assert float(faces.mean()) == pytest.approx(0.45, abs=0.15) and float(faces.std()) > 0.15
        # They shrink to what the components say, and are sharper than its interpolation.
        small = generator.network.small(generator.map(numbers[:, None])[:, 0])
        error = float((downscale(faces) - small).square().mean().sqrt())
        assert error < 0.02

    def steepness(pictures: torch.Tensor) -> float:
        return float((pictures[..., 1:] - pictures[..., :-1]).square().mean())

    assert steepness(faces) > 1.2 * steepness(upscale(small))


@pytest.mark.slow
def test_by_default_a_search_fits_faces_better_than_interpolation() -> None:
    faces = synthetic(4, seed=5, pictures_per_identity=2)
    begin = faces.margin
    high = to_float(np.array(faces.images[::2, begin : begin + 112, begin : begin + 96]))
    low = downscale(high).clamp(0.0, 1.0).mul(255.0).round().div(255.0)
    settings = load_settings("evaluate", EvaluateSettings, ["method=pulse"])
    assert settings.latent_generator["_target_"].endswith(".Faces")
    generator = Faces()
    found = search(generator, operator_for("auto", generator.size, (24, 28)), low, settings.pulse)
    interpolated = (downscale(upscale(low).clamp(0.0, 1.0)) - low).square().flatten(1).mean(1)
    for one, square in zip(found, interpolated.tolist(), strict=True):
        assert one.best_l2 < 0.5 * square and one.picture.shape == (112, 96, 3)


@pytest.mark.shared
@pytest.mark.slow
def test_what_is_found_is_nearer_to_the_originals_than_interpolation(shared: Path) -> None:
    files = sorted((shared / "asc19" / "val_HR").glob("*.png"))[:4]
    high = np.stack([read_png(file) for file in files])
    low = to_float(downscale_uint8(high))
    settings = load_settings("evaluate", EvaluateSettings, ["method=pulse"]).pulse
    generator = Faces()
    found = search(generator, operator_for("auto", generator.size, (24, 28)), low, settings)
    restored = to_float(np.stack([one.restored for one in found]))
    errors, bicubic = ((part - to_float(high)).square().flatten(1).mean(1) for part in (restored, upscale(low)))
    assert bool((errors < 0.7 * bicubic).all())
