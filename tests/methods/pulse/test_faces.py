"""generator=faces: a decoder's file becomes a generator that can be searched, and any other file one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from facesr.build import build, load_group, load_settings
from facesr.config import EvaluateSettings, PulseSettings
from facesr.errors import WeightsError
from facesr.methods.pulse.faces import Faces
from facesr.methods.pulse.operator import operator_for
from facesr.methods.pulse.search import Found, search
from facesr.methods.pulse.sphere import Variables
from facesr.models.face_vae import FaceDecoder
from facesr.places import Place
from facesr.protocols import LatentGenerator
from facesr.resample import downscale, resize
from facesr.training.face_generator.program import write_generator
from facesr.weights import sha256_of


def decoder() -> FaceDecoder:
    torch.manual_seed(0)
    network = FaceDecoder((8, 4), (2, 1), latent_dim=15, num_styles=3, small_height=8, small_width=6)
    for tensor in network.state_dict().values():
        torch.nn.init.normal_(tensor, std=0.1)
    network.prior_factor.copy_(torch.eye(15) + network.prior_factor.tril(-1))  # a Cholesky factor, as it is fitted
    network.leftover.abs_().add_(0.01)
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


def inputs(generator: Faces) -> Tensor:
    """Returns inputs (2, 3, 8, 6) of faces of the generator's own, in whole grey levels."""
    numbers, maps = decoder().draw(2, torch.Generator().manual_seed(2))
    pictures = generator.synthesise(generator.map(numbers[:, None]), [maps]).clamp(0.0, 1.0)
    return (downscale(pictures).clamp(0.0, 1.0) * 255.0).round() / 255.0


def watched(generator: Faces, low: Tensor, settings: PulseSettings) -> tuple[list[Found], list[list[Tensor]]]:
    """Returns what a search finds, and latents and maps of each step."""
    seen: list[list[Tensor]] = []

    def watch(step: int, variables: Variables, lowest: float) -> None:
        seen.append([part.detach().clone() for part in (variables.latents, *variables.noises)])

    return search(generator, operator_for("auto", generator.size, (6, 8)), low, settings, watch), seen


@pytest.fixture
def own() -> PulseSettings:
    return load_settings("evaluate", EvaluateSettings, ["generator=faces"]).pulse


@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.5, 0.5)])
def test_by_its_own_settings_a_search_begins_at_the_input(
    file: Path, own: PulseSettings, factors: tuple[float, float]
) -> None:
    generator = Faces(file, *factors)
    assert own.start == "encoder" and own.prior_weight > 0
    assert own.num_trained_noises == len(generator.noise_shapes)
    low = inputs(generator)
    found, seen = watched(generator, low, own)
    latents, maps = seen[0]
    small = generator.network.small(generator.map(latents)[:, 0]) + generator.network.leftover * factors[1] * maps
    assert float((small - low).abs().max()) < 0.5001 / 255, "it would be rounded to the input"
    assert float((small - low).abs().max()) > 0.4 / 255, "and is not the input, so that seeds differ"
    assert all(not torch.equal(before, after) for before, after in zip(seen[0], seen[-1], strict=True))
    assert all(one.num_steps == own.steps for one in found)
    squares = [one.best_l2 for one in watched(generator, low, replace(own, steps=1))[0]]
    assert all(one.best_l2 < square for one, square in zip(found, squares, strict=True))


def test_seeds_begin_elsewhere_and_each_again_where_it_was(file: Path, own: PulseSettings) -> None:
    generator = Faces(file)
    low = inputs(generator)
    one, again, other = (
        watched(generator, low, replace(own, steps=1, seed=seed))[1][0][0] for seed in (0, 0, 1)
    )  # fmt: skip
    assert torch.equal(one, again) and not torch.allclose(one, other)
    # Two faces of one batch are drawn apart, and a face alone begins where it began among others.
    assert torch.allclose(watched(generator, low[1:], replace(own, steps=1))[1][0][0], one[1:], atol=1e-5)


def test_a_random_start_is_near_the_mean_face(file: Path, own: PulseSettings) -> None:
    generator = Faces(file)
    random = replace(own, start="random", steps=60, learning_rate=0.2)
    found, seen = watched(generator, inputs(generator), random)
    latents, maps = seen[0]
    assert float(maps.abs().max()) == 0
    assert 0.05 < float(latents.norm(dim=-1).max()) / 15**0.5 < 0.2, "near the mean face, and elsewhere for each seed"
    assert not torch.equal(latents[0], latents[1])
    first = [one.best_l2 for one in watched(generator, inputs(generator), replace(random, steps=1))[0]]
    assert min(one.best_l2 for one in found) < 0.2 * min(first) and all(one.num_steps == 60 for one in found)


def test_on_spheres_the_lengths_of_the_guess_stay(file: Path, own: PulseSettings) -> None:
    generator = Faces(file)
    _, seen = watched(generator, inputs(generator), replace(own, prior_weight=0.0, eps=1e-12, steps=5))
    for before, after in zip(seen[0], seen[-1], strict=True):
        assert float(before.norm()) > 0 and not torch.equal(before, after)
        torch.testing.assert_close(after.flatten(1).norm(dim=1), before.flatten(1).norm(dim=1), rtol=1e-4, atol=0)


def test_an_input_of_another_size_is_enlarged_for_the_guess(file: Path) -> None:
    generator = Faces(file)
    low = inputs(generator)[..., ::2, ::2]
    latents, maps = generator.guess(low)
    assert latents.shape == (2, 1, 15) and [tuple(one.shape) for one in maps] == [(2, 3, 8, 6)]
    small = generator.network.small(generator.map(latents)[:, 0]) + generator.network.leftover * maps[0]
    torch.testing.assert_close(small, resize(low, 8, 6), atol=1e-5, rtol=0)


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
        ("prior_factor", torch.ones(15, 15), "'prior_factor' is not a Cholesky factor"),
        ("prior_factor", torch.zeros(15, 15), "'prior_factor' is not a Cholesky factor"),
        ("prior_factor", torch.full((15, 15), torch.nan).tril(), "'prior_factor' is not a Cholesky factor"),
        ("leftover", torch.zeros(3, 8, 6), "'leftover' has to be above 0"),
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
