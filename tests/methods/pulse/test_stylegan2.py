"""StyleGAN2's files: the names that PyTorch ports share, what is read off the shapes, and what is refused.

The layers have their references in tests/models/test_style_layers.py, the network in test_style_generator.py.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from facesr.build import build, load_group, load_settings
from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, WeightsError
from facesr.methods.pulse.pulse import open_pulse
from facesr.methods.pulse.stylegan2 import StyleGAN2, load_generator
from facesr.models.style_generator import StyleGenerator
from facesr.places import Place
from facesr.protocols import LatentGenerator
from facesr.weights import sha256_of

DIM = 6
CHANNELS = (5, 4, 3)
LINE = torch.tensor([1.0, 3.0, 3.0, 1.0])
# The filter of a doubling keeps the brightness of the three pixels of four that are zeros.
KERNEL = torch.outer(LINE, LINE) / 16.0


def published_state(num_mapping_layers: int = 8, height: int = 4, width: int = 4) -> dict[str, Tensor]:
    """Returns a random g_ema state dict of 16x16 pictures with the ports' names and shapes, written out."""
    random = torch.Generator().manual_seed(8)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    state: dict[str, Tensor] = {"input.input": some(1, CHANNELS[0], height, width)}
    for number in range(1, num_mapping_layers + 1):
        state |= {f"style.{number}.weight": 100.0 * some(DIM, DIM), f"style.{number}.bias": 100.0 * some(DIM)}

    def convolution(name: str, num_in: int, num_out: int, size: int) -> None:
        state[f"{name}.weight"] = some(1, num_out, num_in, size, size)
        state[f"{name}.modulation.weight"] = some(num_in, DIM)
        state[f"{name}.modulation.bias"] = some(num_in)

    def styled(name: str, num_in: int, num_out: int) -> None:
        convolution(f"{name}.conv", num_in, num_out, 3)
        state[f"{name}.noise.weight"] = some(1)
        state[f"{name}.activate.bias"] = some(num_out)

    def to_rgb(name: str, num_in: int) -> None:
        convolution(f"{name}.conv", num_in, 3, 1)
        state[f"{name}.bias"] = some(1, 3, 1, 1)

    styled("conv1", CHANNELS[0], CHANNELS[0])
    to_rgb("to_rgb1", CHANNELS[0])
    for level in (1, 2):
        styled(f"convs.{2 * level - 2}", CHANNELS[level - 1], CHANNELS[level])
        state[f"convs.{2 * level - 2}.conv.blur.kernel"] = KERNEL.clone()
        styled(f"convs.{2 * level - 1}", CHANNELS[level], CHANNELS[level])
        to_rgb(f"to_rgbs.{level - 1}", CHANNELS[level])
        state[f"to_rgbs.{level - 1}.upsample.kernel"] = KERNEL.clone()
    for number, level in enumerate((0, 1, 1, 2, 2)):
        state[f"noises.noise_{number}"] = some(1, 1, height << level, width << level)
    return state


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    torch.save({"g_ema": published_state(), "latent_avg": torch.zeros(DIM)}, tmp_path / "generator.pt")
    return tmp_path / "generator.pt"


def test_published_names_load_and_are_a_latent_generator(file: Path) -> None:
    generator = StyleGAN2(file, num_fit_samples=500)
    assert isinstance(generator, LatentGenerator)
    assert generator.name == "stylegan2" and generator.weights_sha256 == sha256_of(file)
    assert generator.size == (16, 16) and generator.num_latents == 6 and generator.latent_dim == DIM
    assert generator.noise_shapes == ((1, 4, 4), (1, 8, 8), (1, 8, 8), (1, 16, 16), (1, 16, 16))
    state = published_state()
    own = load_generator(file).state_dict()
    assert set(own) == {name for name in state if not name.startswith("noises.") and not name.endswith("kernel")}
    assert all(torch.equal(value, state[name]) for name, value in own.items())


def test_the_same_weights_in_any_wrapping_give_the_same_pictures(file: Path) -> None:
    bare, tensors = file.with_name("bare.pt"), file.with_name("bare.safetensors")
    torch.save(published_state(), bare)
    save_file(published_state(), tensors)
    generators = [StyleGAN2(path, num_fit_samples=100) for path in (file, bare, tensors)]
    latents = torch.randn(2, 6, DIM)
    noises = [torch.randn(2, *shape) for shape in generators[0].noise_shapes]
    first, *others = (one.synthesise(one.map(latents), noises) for one in generators)
    assert first.shape == (2, 3, 16, 16)
    assert all(torch.equal(first, other) for other in others)


def test_pictures_are_the_networks_in_zero_to_one_with_gradients(file: Path) -> None:
    generator, network = StyleGAN2(file, num_fit_samples=100), load_generator(file)
    latents = torch.randn(2, 6, DIM, requires_grad=True)
    noises = [torch.randn(2, *shape, requires_grad=True) for shape in generator.noise_shapes]
    mapped = generator.map(latents)
    pictures = generator.synthesise(mapped, noises)
    assert torch.allclose(pictures, (network(mapped, noises) + 1.0) / 2.0)
    pictures.square().mean().backward()
    assert latents.grad is not None and (latents.grad.abs().sum((0, 2)) > 0).all()
    assert all(noise.grad is not None and noise.grad.abs().sum() > 0 for noise in noises)


def test_mapping_statistics_undo_the_last_activation_with_its_gain(file: Path) -> None:
    generator, network = StyleGAN2(file, num_fit_samples=20_000), load_generator(file)
    outputs = network.map(torch.randn(20_000, DIM, generator=torch.Generator().manual_seed(3))).detach() / 2.0**0.5
    before = torch.where(outputs > 0, outputs, 5.0 * outputs)
    assert torch.allclose(generator.mapped_mean, before.mean(0), atol=0.05 * float(before.std()))
    assert torch.allclose(generator.mapped_std, before.std(0), rtol=0.05)
    # Where the latents are the standardised values themselves, map gives back the mapping network's outputs.
    standard = (before - generator.mapped_mean) / generator.mapped_std
    assert torch.allclose(generator.map(standard[:, None])[:, 0], outputs * 2.0**0.5, rtol=1e-4, atol=1e-5)


def test_a_given_fit_is_taken(file: Path, tmp_path: Path) -> None:
    torch.save({"mean": torch.ones(DIM), "std": torch.full((DIM,), 2.0)}, tmp_path / "fit.pt")
    generator = StyleGAN2(file, gaussian_fit=tmp_path / "fit.pt")
    assert torch.allclose(generator.map(torch.ones(1, 6, DIM)), torch.full((1, 6, DIM), 3.0 * 2.0**0.5))


def test_another_constant_and_mapping_are_read_off_the_file(file: Path) -> None:
    torch.save(published_state(num_mapping_layers=2, height=7, width=6), file)
    generator = StyleGAN2(file, num_fit_samples=100, name="faces")
    assert generator.name == "faces" and generator.size == (24, 28)
    assert len(load_generator(file).style) == 3


def test_a_generator_of_ours_round_trips(file: Path) -> None:
    network = StyleGenerator(CHANNELS, 7, 6, DIM, 3)
    save_file(network.state_dict(), file.with_suffix(".safetensors"))
    again = load_generator(file.with_suffix(".safetensors"))
    noises, mapped = network.draw_noises(1), torch.randn(1, 6, DIM)
    assert torch.equal(network(mapped, noises), again(mapped, noises))


def test_missing_weights_name_key_and_file(file: Path) -> None:
    with pytest.raises(WeightsError, match=r"stylegan2_ffhq\.pt.*generator\.weights=FILE") as caught:
        StyleGAN2()
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"face_generator\.safetensors"):
        StyleGAN2(name="faces", file_name="face_generator.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("input.input"), "lacks 'input.input'"),
        (lambda state: state.pop("style.1.weight"), "lacks 'style.1.weight'"),
        (lambda state: state.pop("to_rgbs.1.bias"), "lacks 'to_rgbs.1.bias'"),
        (lambda state: state.update({"convs.9.conv.weight": torch.zeros(1)}), "unknown 'convs.9"),
        (lambda state: state.update({"input.input": torch.zeros(5)}), "does not fit"),
        (lambda state: state.update({"input.input": torch.zeros(1, 0, 4, 4)}), "no channels"),
        (lambda state: state.update({"conv1.activate.bias": torch.zeros(9)}), r"\(9,\)"),
        (lambda state: state.update({"to_rgbs.0.upsample.kernel": torch.ones(2, 2)}), "low-pass filter"),
        (lambda state: state.update({"convs.0.conv.blur.kernel": KERNEL.flip(0).roll(1)}), "low-pass filter"),
        (lambda state: state.update({"style.2.weight": 5}), "no plain state dict"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_wrong_file_is_one_sentence(file: Path, change: object, words: str, wrapped: bool) -> None:
    state = published_state()
    change(state)  # type: ignore[operator]
    torch.save({"g_ema": state} if wrapped else state, file)
    with pytest.raises(WeightsError, match=words) as caught:
        StyleGAN2(file)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_damaged_file_and_a_whole_checkpoint_are_one_sentence(file: Path) -> None:
    torch.save({"g": published_state(), "step": 3}, file)
    with pytest.raises(WeightsError, match="no plain state dict"):
        StyleGAN2(file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not a readable weights file"):
        StyleGAN2(file)


@pytest.mark.parametrize("name", ["stylegan", "stylegan2", "faces_gan"])
def test_every_configuration_builds_up_to_its_weights(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    with pytest.raises(WeightsError, match="were not found: give generator") as caught:
        build(load_group("latent_generator", name), Place.LATENT_GENERATOR)
    assert "\n" not in str(caught.value)


def test_the_configured_faces_load_what_training_writes(file: Path) -> None:
    torch.save(published_state(num_mapping_layers=2, height=7, width=6), file)
    generator = build(
        load_group("latent_generator", "faces_gan", [f"weights={file}", "num_fit_samples=100"]), Place.LATENT_GENERATOR
    )
    assert isinstance(generator, LatentGenerator)
    assert generator.name == "faces_gan" and generator.size == (24, 28)


def test_it_has_no_prior_and_that_is_one_sentence(file: Path) -> None:
    words = [f"generator.weights={file}", "generator.num_fit_samples=100", "pulse.prior_weight=0.01", "method=pulse"]
    settings = load_settings("evaluate", EvaluateSettings, ["generator=stylegan2", *words])
    with pytest.raises(ConfigError, match=r"pulse\.prior_weight needs standard normal .* or give pulse\.covariance"):
        open_pulse(settings, torch.device("cpu"))
