"""MobileStyleGAN's weights out of a package: which files are taken, what is refused, and the published pictures."""

import hashlib
import importlib.util
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from facesr.errors import WeightsError
from facesr.methods.pulse import mobilestylegan
from facesr.methods.pulse.mobilestylegan import PACKAGE, WHEEL, MobileStyleGAN, build_network, read_files
from facesr.methods.pulse.openvino_constants import read_constants
from facesr.methods.pulse.operator import Square
from facesr.methods.pulse.search import search
from facesr.methods.pulse.sphere import Variables
from facesr.models.mobile_style_generator import MobileStyleGenerator
from facesr.protocols import LatentGenerator
from facesr.weights import cache_dir

CHANNELS, DIM = (8, 4), 4


def description(constants: dict[str, Tensor]) -> tuple[bytes, bytes]:
    """Returns both files of a network that is nothing but constants."""
    layers, numbers = ElementTree.Element("layers"), b""
    for number, (name, value) in enumerate(constants.items()):
        layer = ElementTree.SubElement(layers, "layer", id=str(number), name=name, type="Const")
        content = value.numpy().astype("<f4").tobytes()
        shape = ", ".join(map(str, value.shape))
        offset, size = str(len(numbers)), str(len(content))
        ElementTree.SubElement(layer, "data", element_type="f32", shape=shape, offset=offset, size=size)
        numbers += content
    root = ElementTree.Element("net")
    root.append(layers)
    return ElementTree.tostring(root), numbers


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of a small network as the package has them, whose digests are those that are known."""
    monkeypatch.setattr(mobilestylegan, "CHANNELS", CHANNELS)
    monkeypatch.setattr(mobilestylegan, "MobileStyleGenerator", lambda channels: MobileStyleGenerator(channels, DIM))
    monkeypatch.setenv("FACESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACESR_WEIGHTS", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    draw = torch.Generator().manual_seed(2)
    state = MobileStyleGenerator(CHANNELS, DIM).state_dict()
    files = {}
    for part, names in (("Mapping", mobilestylegan._mapping_names()), ("Synthesis", mobilestylegan._synthesis_names())):
        values = {name: 0.5 * torch.randn(state[key].shape, generator=draw) for key, name in names.items()}
        files[f"{part}Network.xml"], files[f"{part}Network.bin"] = description(values)
    monkeypatch.setattr(
        mobilestylegan,
        "FILES",
        {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()},
    )
    return files


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(f"{PACKAGE}/data/{name}", content)
    return path


def test_wheel_folder_and_package_give_the_same_generator(small, tmp_path, monkeypatch):
    places = [
        wheel(tmp_path / "any.whl", small),
        unpacked(tmp_path / "files", small),
        unpacked(tmp_path / "site" / PACKAGE / "data", small).parents[1],
        None,
    ]
    (tmp_path / "cache").mkdir()
    wheel(tmp_path / "cache" / WHEEL, small)
    made = [MobileStyleGAN(place, num_fit_samples=50) for place in places]
    first = made[0]
    assert isinstance(first, LatentGenerator) and first.size == (16, 16) and first.num_latents == 5
    latents = torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(1))
    pictures = [
        one.synthesise(one.map(latents), [noise.expand(2, -1, -1, -1) for noise in one.noise_constants]) for one in made
    ]
    assert all(torch.equal(pictures[0], other) for other in pictures[1:])
    assert len({one.weights_sha256 for one in made}) == 1


def test_noise_maps_times_their_strength_are_those_of_the_file(small):
    network = build_network(small)
    names = mobilestylegan._synthesis_names()
    stored = read_constants(small["SynthesisNetwork.xml"], small["SynthesisNetwork.bin"], list(names.values()))
    layers = [network.first, network.blocks[0].first, network.blocks[0].second]
    for number, layer in enumerate(layers):
        noise = network.noise_constants[number]
        assert torch.allclose(layer.strength * noise, stored[names[f"noise_{number}"]][0], atol=1e-6)
        assert float(noise.std()) == pytest.approx(1.0)


@pytest.mark.parametrize("case", ["damaged", "longer", "missing", "absent", "no wheel", "text"])
def test_what_is_not_that_package_is_refused_in_one_sentence(small, tmp_path, case):
    files = dict(small)
    place = tmp_path / "there"
    if case == "damaged":
        files["SynthesisNetwork.bin"] = b"\1" + files["SynthesisNetwork.bin"][1:]
    elif case == "longer":
        files["MappingNetwork.xml"] += b" "
    elif case == "missing":
        del files["MappingNetwork.bin"]
    if case in ("damaged", "longer", "missing"):
        unpacked(place, files)
        wheel(tmp_path / "there.whl", files)
    elif case == "no wheel":
        with zipfile.ZipFile(place, "w") as file:
            file.writestr("readme", b"")
    elif case == "text":
        place.write_text("hello")
    for found in [place, tmp_path / "there.whl"] if case in ("damaged", "longer", "missing") else [place]:
        with pytest.raises(WeightsError) as caught:
            MobileStyleGAN(found)
        assert "\n" not in str(caught.value) and "random-face" in str(caught.value)


def test_without_the_package_one_sentence_says_what_to_run(small):
    with pytest.raises(WeightsError, match=r"needs the package random-face; run it with uv run --extra portraits"):
        MobileStyleGAN()
    assert PACKAGE not in sys.modules


def test_the_statistics_are_kept_and_a_damaged_file_is_made_anew(small, tmp_path, monkeypatch):
    monkeypatch.setattr("facesr.methods.pulse.style_space._FITS", {})
    first = MobileStyleGAN(wheel(tmp_path / "a.whl", small), num_fit_samples=40)
    (kept,) = (cache_dir() / "mapping").iterdir()
    whole = kept.read_bytes()
    ran = []
    maps = MobileStyleGenerator.map
    monkeypatch.setattr(MobileStyleGenerator, "map", lambda *given: ran.append(1) or maps(*given))
    for content, runs in ((whole, 0), (whole[:-9], 1)):
        kept.write_bytes(content)
        monkeypatch.setattr("facesr.methods.pulse.style_space._FITS", {})
        again = MobileStyleGAN(tmp_path / "a.whl", num_fit_samples=40)
        assert torch.equal(first.mapped_mean, again.mapped_mean) and torch.equal(first.mapped_std, again.mapped_std)
        assert len(ran) == runs and kept.read_bytes() == whole


def test_a_search_begins_from_the_maps_that_the_network_was_made_for(small, tmp_path, pulse_settings):
    generator = MobileStyleGAN(wheel(tmp_path / "a.whl", small), num_fit_samples=40)
    low = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    begun: list[list[Tensor]] = []

    def watch(step: int, variables: Variables, lowest: float) -> None:
        if step == 0:
            begun.append([noise.detach().clone() for noise in variables.noises])

    search(generator, Square(16, 4), low, replace(pulse_settings, steps=2), watch)
    assert len(begun[0]) == 3
    for constant, noise in zip(generator.noise_constants, begun[0], strict=True):
        assert torch.equal(noise, constant.expand(2, -1, -1, -1))
    # The maps are the generator's own, and stay as they are.
    assert torch.equal(generator.noise_constants[0], build_network(small).noise_constants[0])


# The reference leaves its files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.shared
@pytest.mark.slow
def test_the_published_network_equals_the_reference_reader(shared: Path, tmp_path: Path):
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("random-face is not installed: uv run --extra portraits pytest -m shared")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    reader = importlib.util.spec_from_file_location("ovir_torch", shared / "pulse" / "ovir_torch.py")
    assert reader is not None and reader.loader is not None
    module = importlib.util.module_from_spec(reader)
    reader.loader.exec_module(module)
    # In float64 both are the same computation; in float32 they differ by how sums are ordered, about 1e-5.
    ours = build_network(read_files(folder)).eval().double()
    mapping, synthesis = (
        module.IR(folder / f"{part}Network.xml", folder / f"{part}Network.bin").double()
        for part in ("Mapping", "Synthesis")
    )
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        latents = torch.randn(23, 512, generator=draw, dtype=torch.float64)
        mapped = ours.map(latents)
        assert torch.allclose(torch.cat([mapping(latent[None]) for latent in latents]), mapped, atol=1e-6)
        rows = [
            "m.conv1.conv",
            *(f"m.layers.{n}.{part}" for n in range(7) for part in ("up", "conv1.conv", "conv2.conv")),
        ]
        rows.append("m.layers.6.to_img.conv")
        order = [rows.index(name.removesuffix(".modulation.weight")) for name in synthesis.mods]
        noises = [noise[None] for noise in ours.noise_constants]
        expected = synthesis(mapped[:1], mapped[None, order])
        # Constants of the file (square roots, maps) are float32.
        assert float((ours(mapped[None], noises) - expected).abs().max()) < 5e-6
