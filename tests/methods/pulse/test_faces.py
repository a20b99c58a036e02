"""generator=faces: a decoder's file becomes a generator that can be searched, and any other file one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from facesr.build import build, load_group, load_settings
from facesr.config import EvaluateSettings
from facesr.errors import WeightsError
from facesr.methods.pulse.faces import Faces
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import search
from facesr.methods.pulse.sphere import Variables
from facesr.models.face_vae import FaceDecoder
from facesr.places import Place
from facesr.protocols import LatentGenerator
from facesr.training.face_generator.program import write_generator
from facesr.weights import sha256_of


def decoder() -> FaceDecoder:
    torch.manual_seed(0)
    network = FaceDecoder((8, 4), (2, 1), latent_dim=15, num_styles=3, small_height=8, small_width=6)
    for tensor in network.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.1)
    return network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_generator(tmp_path / "latest.safetensors", decoder(), {"kimg": 1.0})
    return tmp_path / "latest.safetensors"


def test_a_file_becomes_a_generator(file: Path) -> None:
    generator = build(
        load_group("latent_generator", "faces", [f"weights={file}", "spread=1.0", "map_spread=1.0"]),
        Place.LATENT_GENERATOR,
    )
    assert isinstance(generator, LatentGenerator) and isinstance(generator, Faces)
    assert generator.name == "faces" and generator.size == (24, 32) and generator.weights_sha256 == sha256_of(file)
    assert (generator.num_latents, generator.latent_dim) == (1, 15)
    assert generator.noise_shapes == ((3, 8, 6),) and not generator.noise_constants
    numbers, *maps = decoder().draw(2, torch.Generator().manual_seed(1))
    vector = decoder().vector_of(numbers)
    assert torch.equal(generator.map(numbers[:, None])[:, 0], vector) and vector.shape == (2, 15)
    assert torch.equal(generator.synthesise(vector[:, None], maps), decoder()(vector, maps))
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_its_own_settings_find_its_faces_by_vector_and_maps(file: Path) -> None:
    generator = Faces(file)
    settings = load_settings("evaluate", EvaluateSettings, ["generator=faces"]).pulse
    assert settings.prior_weight > 0 and settings.num_trained_noises == len(generator.noise_shapes)
    seen: list[list[Tensor]] = []
    squares: list[float] = []

    def watch(step: int, variables: Variables, lowest: float) -> None:
        squares.append(lowest)
        seen.append([part.detach().clone() for part in (variables.latents, *variables.noises)])

    numbers, maps = decoder().draw(2, torch.Generator().manual_seed(2))
    operator = operator_for("auto", generator.size, (6, 8))
    low = operator.downscale(generator.synthesise(generator.map(numbers[:, None]), [maps])).clamp(0.0, 1.0)
    found = search(generator, operator, low, replace(settings, steps=60), watch)
    start, begun_maps = seen[0]
    assert float(begun_maps.abs().max()) == 0
    assert 0.05 < float(start.norm(dim=-1).max()) / 15**0.5 < 0.2, "near the mean face, and elsewhere for each seed"
    assert not torch.equal(start[0], start[1])
    assert all(not torch.equal(before, after) for before, after in zip(seen[0], seen[-1], strict=True))
    assert min(one.best_l2 for one in found) < 0.2 * squares[0] and all(one.num_steps == 60 for one in found)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mean", None, "lacks 'mean'"),
        ("style.weight", None, "lacks 'style.weight'"),
        ("style.weight", torch.zeros(3), "'style.weight' is (3,)"),
        ("style.weight", torch.zeros(0, 15), "num_styles=0 is too small"),
        ("last.weight", torch.zeros(12, 5, 3, 3), "'last.weight' is (12, 5, 3, 3)"),
        ("blocks.0.first.weight", None, "num_blocks=0 is too small"),
        ("more", torch.zeros(1), "holds the unknown 'more'"),
    ],
)
def test_a_wrong_file_is_one_sentence(file: Path, name: str, value: Tensor | None, words: str) -> None:
    state = load_file(file)
    if value is None:
        del state[name]
    else:
        state[name] = value
    save_file(state, file)
    with pytest.raises(WeightsError) as caught:
        Faces(file)
    assert words in str(caught.value) and str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_the_spreads_are_factors_of_what_is_drawn(file: Path) -> None:
    plain, wide = Faces(file), Faces(file, spread=1.5, map_spread=0.5)
    numbers, *maps = decoder().draw(2, torch.Generator().manual_seed(1))
    expected = plain.synthesise(plain.map(1.5 * numbers[:, None]), [0.5 * part for part in maps])
    torch.testing.assert_close(wide.synthesise(wide.map(numbers[:, None]), maps), expected)
    with pytest.raises(ValueError, match="must be above 0"):
        Faces(file, map_spread=0.0)


def test_no_file_and_a_damaged_one_are_one_sentence(file: Path) -> None:
    with pytest.raises(WeightsError, match=r"generator\.weights=\S+none is not a file"):
        Faces(file.with_name("none"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(WeightsError, match="not a readable weights file"):
        Faces(file)
