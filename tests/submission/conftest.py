"""A small honest submission, and the means to bend it: every hostile archive of these tests is built here."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facesr.config import EvaluationProtocol
from facesr.methods.low import LowPictures
from facesr.methods.record import Restoration
from facesr.png import encode_png, write_png
from facesr.submission.manifest import Manifest, manifest_bytes
from facesr.submission.verify import VerifiedSubmission, opened_submission

IDS = ("301", "302", "303")
WIDTH, HEIGHT = 16, 24
PROTOCOL = EvaluationProtocol("tiny", strict=True, width=WIDTH, height=HEIGHT, num_pictures=None)
FOLDERS = EvaluationProtocol("tiny", True, WIDTH, HEIGHT, None, pictures_dir="HR_images")


def noise(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stored(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Returns a plain archive of the members, in their order, repeated names included."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            mode = 0o040755 if name.endswith("/") else 0o100644
            info.compress_type, info.create_system, info.external_attr = method, 3, mode << 16
            archive.writestr(info, data)
    return file.getvalue()


@dataclass
class Bench:
    """A folder of low pictures, the members of an honest submission, and one place to verify archives at."""

    root: Path
    low: Path
    manifest: Manifest
    pictures: dict[str, bytes]
    protocol: EvaluationProtocol = field(default_factory=lambda: PROTOCOL)
    attachments: dict[str, bytes] = field(default_factory=dict)
    temporary: Path = field(default_factory=Path)

    def record(self, **changes: Any) -> dict[str, Any]:
        """Returns the honest manifest as a dictionary, with changes."""
        record: dict[str, Any] = json.loads(manifest_bytes(self.manifest))
        if self.protocol.pictures_dir:
            record["attachments"] = {name: hashlib.sha256(data).hexdigest() for name, data in self.attachments.items()}
        return {**record, **changes}

    def members(self, pictures: dict[str, bytes] | None = None, **changes: Any) -> list[tuple[str, bytes]]:
        """Returns the members of a submission whose manifest names the sha256 that the pictures really have."""
        pictures = self.pictures if pictures is None else pictures
        files = {name: hashlib.sha256(data).hexdigest() for name, data in pictures.items()}
        manifest = json.dumps(self.record(**{"files": files, **changes})).encode()
        place = f"{self.protocol.pictures_dir}/" if self.protocol.pictures_dir else ""
        shown = [(place + name, data) for name, data in pictures.items()]
        return [*shown, *self.attachments.items(), ("manifest.json", manifest)]

    def verify(self, archive: bytes, low: bool = True) -> VerifiedSubmission:
        """Returns the verified submission (its folder is gone), after comparing its folder with the pictures."""
        path = self.root / "team.zip"
        path.write_bytes(archive)
        with opened_submission(path, self.protocol, self.low if low else None) as submission:
            found = {entry.name: entry.read_bytes() for entry in submission.folder.iterdir()}
            self.delivered = found
        return submission

    def left_behind(self) -> list[Path]:
        return list(self.temporary.iterdir())


@pytest.fixture
def steady_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps a restored folder's name the same although somebody edits the package while the tests run."""
    monkeypatch.setattr("facesr.methods.folder.code_sha256", lambda: "c" * 64)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    low = tmp_path / "low"
    low.mkdir()
    for number, key in enumerate(IDS):
        write_png(low / f"{key}.png", noise(number, HEIGHT // 4, WIDTH // 4))
    pictures = {f"{key}.png": encode_png(noise(int(key), HEIGHT, WIDTH)) for key in IDS}
    restoration = Restoration(
        model="demo",
        weights_sha256="a" * 64,
        config_sha256="b" * 64,
        kimg=12.5,
        loss_judges=("builtin",),
        flip_ensemble=False,
        low_sha256=LowPictures.open(low, PROTOCOL).sha256,
        device="cpu: test",
        seconds=0.5,
        energy_joules=None,
        commit=None,
        dirty=None,
        code_sha256="c" * 64,
        packages={"torch": "2"},
        files={name: hashlib.sha256(data).hexdigest() for name, data in pictures.items()},
    )
    return Bench(tmp_path, low, Manifest("Team 1", "tiny", restoration), pictures, temporary=temporary)


@pytest.fixture
def foldered(bench: Bench) -> Bench:
    """The same submission for a protocol whose archives have folders."""
    weights = b"weights of the demo"
    bench.protocol = FOLDERS
    bench.attachments = {
        "model/best.safetensors": weights,
        "model/config.yaml": b"name: demo\n",
        "script/run.sh": b"echo restore\n" * 20,
        "script/tools/__init__.py": b"",
        "script/tools/train.py": b"print(1)\n",
    }
    sha256 = hashlib.sha256(weights).hexdigest()
    bench.manifest = replace(bench.manifest, restoration=replace(bench.manifest.restoration, weights_sha256=sha256))
    return bench


@pytest.fixture
def zipped() -> Callable[..., bytes]:
    return stored
