"""JPEGs decoded at a reduced size: the crops of the whole picture within a bound, whatever the file says of itself."""

import functools
import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from facesr.data.packed.reader import PackedDataset
from facesr.data.prepare import prepare
from facesr.photos.crop import Framing, most_reduction
from facesr.photos.decode import Unusable, read_reduced

# Grey levels; docs/performance.md has what was measured on photographs.
MOST_MEAN, MOST = 0.4, 8
FFHQ = ["--crop", "ffhq", "--margin", "2", "--width", "48", "--height", "56"]


@functools.cache
def natural(side: int = 512, seed: int = 0) -> NDArray[np.uint8]:
    """Returns noise with the spectrum of photographs, amplitudes as 1/f."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0
    channels = [np.fft.irfft2(np.fft.rfft2(generator.normal(size=(side, side))) / frequency) for _ in range(3)]
    picture = np.stack(channels, 2)
    return np.clip(128 + 40 * picture / picture.std(), 0, 255).astype(np.uint8)


def jpegs(folder: Path) -> Path:
    """Writes a folder of JPEGs of one size that say unusual things of themselves."""
    folder.mkdir()
    picture = Image.fromarray(natural())
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(folder / "plain.jpg", quality=90)
    picture.save(folder / "turned.jpg", quality=90, exif=exif)
    picture.save(folder / "fine.jpg", quality=95, subsampling=0, progressive=True, icc_profile=srgb)
    picture.save(folder / "broken profile.jpg", quality=90, icc_profile=profile)
    picture.convert("L").save(folder / "grey.jpg", quality=90)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    return folder


def crops(source: Path, out: Path, *more: str) -> dict[str, NDArray[np.int64]]:
    assert prepare.main([str(source), str(out), *FFHQ, *more]) == 0
    found = PackedDataset.open(out)
    return {name: image.astype(np.int64) for name, image in zip(found.sources, found.images, strict=True)}


def test_crops_stay_within_the_bound(tmp_path: Path) -> None:
    source = jpegs(tmp_path / "source")
    whole, reduced = crops(source, tmp_path / "whole"), crops(source, tmp_path / "reduced", "--decode", "reduced")
    assert set(whole) == set(reduced) and len(whole) == 6
    for name, crop in whole.items():
        difference = np.abs(crop - reduced[name])
        assert difference.any(), name  # else nothing was reduced
        assert difference.mean() < MOST_MEAN and difference.max() <= MOST, (name, difference.mean(), difference.max())


def test_what_cannot_be_reduced_is_the_same_to_the_byte(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(natural()).save(source / "lossless.png")
    Image.fromarray(natural(511)).save(source / "odd.jpg")
    Image.fromarray(natural(240)).save(source / "small.jpg")
    whole, reduced = crops(source, tmp_path / "whole"), crops(source, tmp_path / "reduced", "--decode", "reduced")
    assert len(whole) == 3 and all(np.array_equal(crop, reduced[name]) for name, crop in whole.items())


def test_a_reduced_set_says_so_and_is_another_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(natural()).save(source / "a.jpg")
    crops(source, tmp_path / "whole")
    crops(source, tmp_path / "reduced", "--decode", "reduced")
    settings = [json.loads((tmp_path / name / "set.json").read_text())["settings"] for name in ("whole", "reduced")]
    assert "decode" not in settings[0] and settings[1] == {**settings[0], "decode": "reduced"}
    assert prepare.main([str(source), str(tmp_path / "reduced"), *FFHQ]) == 2
    assert "decode (reduced there, not set now)" in capsys.readouterr().err


def test_damage_is_found_all_the_same(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(natural()).save(data, "JPEG")
    (tmp_path / "a.jpg").write_bytes(data.getvalue()[:-2000])
    with pytest.raises(Unusable, match="damaged"):
        read_reduced(tmp_path / "a.jpg", lambda width, height: 8)


@pytest.mark.parametrize(
    ("crop", "size", "factor"),
    [
        ("ffhq", (1024, 1024), 2),  # 8.5 pixels for one of the crop's
        ("ffhq", (2048, 2048), 4),
        ("ffhq", (512, 512), 1),
        ("ffhq", (4096, 4096), 8),
        ("ffhq", (1024, 768), 1),  # refused later, with the reason
        ("as-is", (768, 896), 2),
        ("as-is", (767, 896), 1),
        ("detect", (4096, 4096), 1),
        ("template", (4096, 4096), 1),
    ],
)
def test_four_pixels_are_left_for_each_of_the_crop(crop: str, size: tuple[int, int], factor: int) -> None:
    assert most_reduction(*size, Framing(crop)) == factor
