"""StyleGAN v1: files with the names that PULSE published."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from facesr.errors import ConfigError, WeightsError
from facesr.methods.pulse import style_space
from facesr.methods.pulse.stylegan import FIT_SHA256, StyleGAN, load_synthesis
from facesr.methods.pulse.stylegan_network import Mapping
from facesr.protocols import LatentGenerator
from facesr.weights import sha256_of

SHARED_FIT = Path(os.environ.get("FACESR_SHARED", "../shared")) / "pulse" / "gaussian_fit.pt"
DIM = 6


def published_state(sizes: dict[int, int], dim: int) -> dict[str, Tensor]:
    """Returns a random synthesis state dict with the names and shapes of PULSE's file, written out."""
    random = torch.Generator().manual_seed(6)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random)

    state: dict[str, Tensor] = {}
    below = 0
    for size, channels in sizes.items():
        block = f"blocks.{size}x{size}"
        if size == 4:
            state |= {f"{block}.const": some(1, channels, 4, 4), f"{block}.bias": some(channels)}
            convolutions = [("conv", channels)]
        else:
            state[f"{block}.conv0_up.intermediate.kernel"] = torch.tensor(
                [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
            ).div(16)
            convolutions = [("conv0_up", below), ("conv1", channels)]
        for name, num_in in convolutions:
            state |= {f"{block}.{name}.weight": some(channels, num_in, 3, 3), f"{block}.{name}.bias": some(channels)}
        for epi in ("epi1", "epi2"):
            state[f"{block}.{epi}.noise.weight"] = some(channels)
            state[f"{block}.{epi}.style_mod.lin.weight"] = some(2 * channels, dim)
            state[f"{block}.{epi}.style_mod.lin.bias"] = some(2 * channels)
        below = channels
    return state | {"torgb.weight": some(3, below, 1, 1), "torgb.bias": some(3)}


def mapping_state(dim: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(7)
    state = {}
    for number in range(8):
        state[f"dense{number}.weight"] = 100.0 * torch.randn(dim, dim, generator=random)
        state[f"dense{number}.bias"] = 100.0 * torch.randn(dim, generator=random)
    return state


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of 16x16 pictures; nothing is found elsewhere."""
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    torch.save(published_state({4: 5, 8: 4, 16: 3}, DIM), tmp_path / "synthesis.pt")
    torch.save(mapping_state(DIM), tmp_path / "mapping.pt")
    torch.save({"mean": torch.arange(DIM) / 10.0, "std": torch.ones(DIM)}, tmp_path / "fit.pt")
    return tmp_path


def built(folder: Path, **changes: object) -> StyleGAN:
    files = {"synthesis": folder / "synthesis.pt", "mapping": folder / "mapping.pt", "num_fit_samples": 500}
    return StyleGAN(**{**files, **changes})  # type: ignore[arg-type]


def test_published_names_load_and_are_a_latent_generator(folder: Path) -> None:
    generator = built(folder)
    assert isinstance(generator, LatentGenerator)
    assert generator.size == (16, 16) and generator.num_latents == 6 and generator.latent_dim == DIM
    assert generator.noise_shapes == tuple((1, side, side) for side in (4, 4, 8, 8, 16, 16))
    assert generator.weights_sha256 == sha256_of(folder / "synthesis.pt")
    state = published_state({4: 5, 8: 4, 16: 3}, DIM)
    own = generator.network.state_dict()  # type: ignore[operator,union-attr]
    assert set(own) == {name for name in state if not name.endswith("kernel")}
    assert all(torch.equal(value, state[name]) for name, value in own.items())
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_safetensors_and_one_file_of_both_networks_and_older_names(folder: Path) -> None:
    state = published_state({4: 5, 8: 4, 16: 3}, DIM)
    save_file(state, folder / "synthesis.safetensors")
    older = {f"g_synthesis.{name.replace('.noise.', '.top_epi.noise.')}": value for name, value in state.items()}
    both = older | {f"g_mapping.{name}": value for name, value in mapping_state(DIM).items()}
    torch.save(both, folder / "both.pt")
    plain_one, second = built(folder), built(folder, synthesis=folder / "synthesis.safetensors")
    third = built(folder, synthesis=folder / "both.pt", mapping=folder / "both.pt")
    latents, noises = torch.randn(2, 6, DIM), [torch.randn(2, *shape) for shape in plain_one.noise_shapes]
    pictures = [one.synthesise(one.map(latents), noises) for one in (plain_one, second, third)]
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


def test_pictures_are_the_networks_in_zero_to_one_with_gradients(folder: Path) -> None:
    generator = built(folder)
    latents = torch.randn(2, 6, DIM, requires_grad=True)
    noises = [torch.randn(2, *shape, requires_grad=True) for shape in generator.noise_shapes]
    pictures = generator.synthesise(generator.map(latents), noises)
    assert pictures.shape == (2, 3, 16, 16)
    network = load_synthesis(folder / "synthesis.pt")
    assert torch.allclose(2.0 * pictures - 1.0, network(generator.map(latents), noises), atol=1e-5)
    pictures.square().mean().backward()
    assert latents.grad is not None and (latents.grad.abs().sum((0, 2)) > 0).all()
    assert all(noise.grad is not None and noise.grad.abs().sum() > 0 for noise in noises)


def test_mapping_is_the_activation_of_the_scaled_latent(folder: Path) -> None:
    generator = built(folder, gaussian_fit=folder / "fit.pt", mapping=None)
    assert torch.equal(generator.mapped_mean, torch.arange(DIM) / 10.0)
    latents = torch.randn(2, 6, DIM)
    moved = latents + torch.arange(DIM) / 10.0
    assert torch.allclose(generator.map(latents), torch.where(moved > 0, moved, 0.2 * moved))
    assert torch.equal(generator.map(latents[:, :1]).expand(-1, 6, -1), generator.map(latents[:, :1].expand(-1, 6, -1)))


def test_statistics_are_those_of_the_mapping_outputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style_space, "_FITS", {})
    generator = built(folder, num_fit_samples=12_000)
    network = Mapping(DIM)
    network.load_state_dict(mapping_state(DIM))
    outputs = network(torch.randn(12_000, DIM, generator=torch.Generator().manual_seed(1))).detach()
    before = torch.where(outputs > 0, outputs, 5.0 * outputs)
    assert torch.allclose(generator.mapped_mean, before.mean(0), atol=0.05 * float(before.std()))
    assert torch.allclose(generator.mapped_std, before.std(0), rtol=0.05)
    remembered = style_space._FITS[sha256_of(folder / "mapping.pt"), 12_000]
    assert built(folder, num_fit_samples=12_000).mapped_mean.equal(remembered.mean)
    monkeypatch.setattr(style_space, "_FITS", {})
    assert built(folder, num_fit_samples=12_000).mapped_std.equal(remembered.std), "seeded"


@pytest.mark.shared
def test_pulses_own_fit_is_read() -> None:
    assert sha256_of(SHARED_FIT) == FIT_SHA256
    fit = style_space.read_fit(SHARED_FIT, 512)
    assert fit.mean.shape == (512,) and abs(float(fit.mean.mean()) + 0.2691) < 1e-3
    assert abs(float(fit.std.mean()) - 0.4808) < 1e-3


def one_sentence(caught: pytest.ExceptionInfo[BaseException]) -> bool:
    return "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_missing_weights_name_key_and_file(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"stylegan_ffhq_synthesis\.pt.*generator\.synthesis=FILE") as caught:
        StyleGAN()
    assert one_sentence(caught)
    with pytest.raises(WeightsError, match=r"stylegan_ffhq_mapping\.pt.*generator\.mapping=FILE") as caught:
        built(folder, mapping=None)
    assert one_sentence(caught)
    with pytest.raises(WeightsError, match=r"generator\.gaussian_fit=/nowhere\.pt is not a file"):
        built(folder, gaussian_fit="/nowhere.pt")


def test_weights_are_found_in_the_folder_of_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "synthesis.pt").rename(folder / "stylegan_ffhq_synthesis.pt")
    (folder / "mapping.pt").rename(folder / "stylegan_ffhq_mapping.pt")
    monkeypatch.setenv("FACESR_WEIGHTS", str(folder))
    assert StyleGAN(num_fit_samples=100).size == (16, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("torgb.bias"), "lacks 'torgb.bias'"),
        (lambda state: state.pop("blocks.4x4.epi1.style_mod.lin.weight"), "lacks 'blocks.4x4.epi1"),
        (lambda state: state.pop("blocks.8x8.conv1.weight"), "lacks 'blocks.8x8.conv1.weight'"),
        (lambda state: state.update({"blocks.64x64.const": torch.zeros(1)}), "unknown 'blocks.64x64"),
        (lambda state: state.update({"torgb.weight": torch.zeros(3, 9, 1, 1)}), r"\(3, 9, 1, 1\)"),
        (lambda state: state.update({"blocks.4x4.epi1.style_mod.lin.weight": torch.zeros(3)}), "does not fit"),
        (lambda state: state.update({"blocks.4x4.epi1.style_mod.lin.bias": torch.zeros(1)}), "no channels"),
        (lambda state: state.update({"blocks.8x8.conv0_up.intermediate.kernel": torch.ones(1)}), "low-pass filter"),
        (lambda state: state.update({"g_synthesis.x": torch.ones(1)}), "lacks"),
    ],
)
def test_a_wrong_synthesis_file_is_one_sentence(folder: Path, change: object, words: str) -> None:
    state = torch.load(folder / "synthesis.pt", weights_only=True)
    change(state)  # type: ignore[operator]
    torch.save(state, folder / "synthesis.pt")
    with pytest.raises(WeightsError, match=words) as caught:
        built(folder)
    assert one_sentence(caught)


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ({"mean": torch.zeros(DIM)}, "lacks 'mean' or 'std'"),
        ({"mean": torch.zeros(5), "std": torch.ones(5)}, r"mean is \(5,\)"),
        ({"mean": torch.zeros(DIM), "std": -torch.ones(DIM)}, "negative or not finite"),
        ({"mean": torch.full((DIM,), float("nan")), "std": torch.ones(DIM)}, "negative or not finite"),
        ([1, 2], "no plain state dict"),
    ],
)
def test_a_wrong_fit_is_one_sentence(folder: Path, fit: object, words: str) -> None:
    torch.save(fit, folder / "fit.pt")
    with pytest.raises(WeightsError, match=words) as caught:
        built(folder, gaussian_fit=folder / "fit.pt")
    assert one_sentence(caught)


def test_a_wrong_mapping_is_one_sentence(folder: Path) -> None:
    for state, words in ((mapping_state(5), "5 dimensions where"), (published_state({4: 2}, DIM), "lacks 'dense0")):
        torch.save(state, folder / "mapping.pt")
        with pytest.raises(WeightsError, match=words) as caught:
            built(folder)
        assert one_sentence(caught)
    torch.save({name: value * torch.nan for name, value in mapping_state(DIM).items()}, folder / "mapping.pt")
    with pytest.raises(WeightsError, match="not finite"):
        built(folder)
    torch.save(mapping_state(DIM), folder / "mapping.pt")
    with pytest.raises(ConfigError, match="num_fit_samples=1"):
        built(folder, num_fit_samples=1)
