"""submit.py with large pictures and with blends: what is packed, what is found again, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facesr.build import load_settings
from facesr.config import SubmitSettings
from facesr.errors import FaceSRError
from facesr.methods.record import Restoration
from facesr.models.sicnn import SICNN
from facesr.png import read_png, write_png
from facesr.resample import upscale
from facesr.snapshots.interpolation_parts import interpolation_sha256
from facesr.snapshots.snapshot import Snapshot, write_snapshot
from facesr.submission import command as submit
from facesr.submission.verify import opened_submission

pytestmark = pytest.mark.usefixtures("steady_code")

SIZES = {"1": (45, 37), "2": (45, 37), "3": (7, 5), "4": (61, 33)}  # width, height
NODE = {"_target_": "facesr.models.sicnn.SICNN", "num_channels": 8, "growth": 4, "num_layers": 2}


@pytest.fixture
def low(tmp_path: Path) -> Path:
    folder = tmp_path / "low"
    folder.mkdir()
    for key, (width, height) in SIZES.items():
        picture = np.random.default_rng(int(key)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_png(folder / f"{key}.png", picture)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    """Digests of two snapshots, psnr.safetensors and gan.safetensors."""
    digests = {}
    for seed, (name, judges) in enumerate({"psnr": (), "gan": ("builtin",)}.items()):
        torch.manual_seed(seed)
        state = SICNN(num_channels=8, growth=4, num_layers=2).state_dict()
        snapshot = Snapshot(state, NODE, name, 1.0, str(seed) * 64, judges, {}, "")
        digests[name] = write_snapshot(tmp_path / f"{name}.safetensors", snapshot)
    return digests


def settings(tmp_path: Path, **keys: object) -> SubmitSettings:
    honest = {"low": tmp_path / "low", "team": "Team", "out": tmp_path / "out.zip", "protocol": "open"}
    given = {"device": "cpu", "restored_dir": tmp_path / "restored", **honest, **keys}
    return load_settings("submit", SubmitSettings, [f"{key}={value}" for key, value in given.items()])


def submitted(tmp_path: Path, **keys: object) -> tuple[Restoration, dict[str, bytes]]:
    """Returns the record and the pixels of the archive that these keys give."""
    given = settings(tmp_path, overwrite=True, **keys)
    submit.run(given)
    with opened_submission(tmp_path / "out.zip", given.protocol, tmp_path / "low") as found:
        pictures = {path.stem: read_png(path).tobytes() for path in sorted(found.folder.iterdir())}
        return found.manifest.restoration, pictures


@pytest.mark.slow
def test_large_pictures_are_restored_in_tiles(tmp_path: Path, low: Path) -> None:
    _, whole = submitted(tmp_path, checkpoint="bicubic")
    _, tiled = submitted(tmp_path, checkpoint="bicubic", tile_px=32, tile_overlap_px=4)
    assert tiled == whole and list(whole) == list(SIZES)
    picture = torch.from_numpy(read_png(low / "4.png")).permute(2, 0, 1)[None] / 255.0
    want = (upscale(picture).clamp(0, 1) * 255.0 + 0.5).floor()[0].permute(1, 2, 0).to(torch.uint8).numpy()
    assert whole["4"] == want.tobytes()
    # Tiles may decide a pixel, so each choice has its own folder, which is found again.
    assert len(list((tmp_path / "restored").iterdir())) == 2
    submitted(tmp_path, checkpoint="bicubic", tile_px=32, tile_overlap_px=4)
    submitted(tmp_path, checkpoint="bicubic", tile_px=32, tile_overlap_px=5)
    assert len(list((tmp_path / "restored").iterdir())) == 3


def test_few_large_pictures_are_held_at_once(tmp_path: Path, low: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def counted(*arguments: object, **named: object) -> object:
        found = plain(*arguments, **named)
        counts.append(len(found))
        return found

    from facesr.methods import folder as restore

    plain = restore.restore_pictures
    monkeypatch.setattr("facesr.methods.folder.restore_pictures", counted)
    monkeypatch.setattr("facesr.methods.folder._CHUNK", 3)  # 3 faces of 24x28 are as many pixels as one of 61x33
    submitted(tmp_path, checkpoint="bicubic")
    assert counts == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_blend_is_packed_with_where_it_comes_from(tmp_path: Path, low: Path, pair: dict[str, str]) -> None:
    first, second = (str(tmp_path / f"{name}.safetensors") for name in pair)
    record, pictures = submitted(tmp_path, checkpoint=first, interpolate_with=second, interpolation_weight=0.25)
    assert (record.model, record.kimg, record.loss_judges) == ("psnr+0.25*gan", 2.0, ("builtin",))
    assert record.weights_sha256 == interpolation_sha256(pair["psnr"], pair["gan"], 0.25)
    assert pictures != submitted(tmp_path, checkpoint=first, interpolate_with=second)[1]
    ends = [
        submitted(tmp_path, checkpoint=first, interpolate_with=second, interpolation_weight=weight) for weight in (0, 1)
    ]
    assert ends[0][1] == submitted(tmp_path, checkpoint=first)[1] and ends[0][0].loss_judges == ()
    assert ends[1][1] == submitted(tmp_path, method=second)[1] and ends[1][0].loss_judges == ("builtin",)


BAD = {
    "weight out of range": (
        {"interpolate_with": "{tmp}/gan.safetensors", "interpolation_weight": 2},
        "interpolation_weight=2 is out of range",
    ),
    "weight without a second": ({"interpolation_weight": 0.25}, "needs interpolate_with="),
    "second is no snapshot": ({"interpolate_with": "{tmp}/low"}, "holds no snapshots/best.safetensors"),
    "second has no weights": ({"interpolate_with": "nearest"}, "nearest has no weights"),
    "nothing to blend with": (
        {"checkpoint": "null", "interpolate_with": "{tmp}/gan.safetensors"},
        "give one of checkpoint=",
    ),
    "overlap below 0": ({"tile_overlap_px": -1}, "tile_overlap_px=-1"),
    "tiles without a core": ({"tile_px": 48}, "tile_px=48 is too small for tile_overlap_px=24"),
    "verify and blend": (
        {"verify": "x.zip", "checkpoint": "null", "interpolate_with": "a", "team": "null", "out": "null"},
        "interpolate_with has no meaning together",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
def test_bad_input_is_one_sentence(tmp_path: Path, low: Path, pair: dict[str, str], case: str) -> None:
    keys, words = BAD[case]
    filled = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in keys.items()}
    with pytest.raises(FaceSRError) as caught:
        submit.run(settings(tmp_path, **{"checkpoint": tmp_path / "psnr.safetensors", **filled}))
    sentence = str(caught.value)
    assert words in sentence and "\n" not in sentence and sentence.endswith(".")
    assert not (tmp_path / "out.zip").exists() and not (tmp_path / "restored").exists()
