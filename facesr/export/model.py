"""A snapshot's generator as one ONNX file, compared with the snapshot on faces before it gets its name."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from facesr import __version__
from facesr.errors import CheckpointError, ConfigError
from facesr.export.form import Form, MeanWithMirrorImage, with_fixed_size
from facesr.export.parity import Parity, measure
from facesr.export.radius import receptive_radius
from facesr.files import write_bytes
from facesr.methods.onnx_about import MADE_WITH, OnnxAbout
from facesr.methods.onnx_file import OnnxGenerator, read_exported
from facesr.methods.onnx_rules import INPUT, OUTPUT
from facesr.onnx_writer import UnknownStep, onnx_model
from facesr.photos.trained import ASC19
from facesr.snapshots.network import network_of
from facesr.snapshots.rules import ONNX_ENDING, SHIPPED
from facesr.snapshots.shipped import shipped_names, snapshot_file
from facesr.snapshots.snapshot import Snapshot, digests_beside, read_snapshot

PLAIN = Form()
USE_OF_SHIPPED = (
    "For research: the training faces, and FaceNet's VGGFace2 weights behind the identity loss, are for that. Treat "
    "the weights likewise. What it restores is a guess. Not for identifying anyone."
)
USE = (
    "What its training data and the networks in its loss allow. What it restores is a guess. Not for identifying "
    "anyone."
)


@dataclass(frozen=True)
class Exported:
    """A written file.

    Attributes:
        path: where it lies.
        num_bytes: its size.
        sha256: its digest.
        parity: how far it is from the snapshot.
    """

    path: Path
    num_bytes: int
    sha256: str
    parity: Parity


def export(spec: str, out: Path, form: Form = PLAIN) -> Exported:
    """Writes a snapshot's generator as one ONNX file, after comparing both on faces.

    Args:
        spec: a snapshot file, run folder or ``pretrained:NAME``.
        out: the .onnx file to write.
        form: what is asked for beyond the plain file; ``method=`` opens only plain ones.

    Raises:
        CheckpointError: the snapshot is missing or damaged, its network has no ONNX form, the file does not restore as
            the snapshot does, or cannot be written; nothing is written then.
        ConfigError: `out` has another ending, exists, or lies where nothing can be written.
    """
    check_out(out)
    data, _, parity = checked_model(spec, out, form)
    write_bytes(out, data)
    return Exported(out, len(data), hashlib.sha256(data).hexdigest(), parity)


def checked_model(spec: str, out: Path, form: Form = PLAIN) -> tuple[bytes, OnnxAbout, Parity]:
    """Returns the ONNX file of a snapshot, what it says of itself, and how far it is from the snapshot; writes nothing.

    Args:
        spec: a snapshot file, run folder or ``pretrained:NAME``.
        out: where the file is to lie, for errors.
        form: see `export`.

    Raises:
        CheckpointError: see `export`.
    """
    path = snapshot_file(spec)
    snapshot = read_snapshot(path)
    network = network_of(snapshot, path)
    model, about = written(network, snapshot, path)
    data = _bytes_of(model, about, PLAIN)
    read_exported(data, out)
    if form != PLAIN:
        if form.is_mirrored:
            network = MeanWithMirrorImage(network).eval()
            model = written(network, snapshot, path)[0]
        data = _bytes_of(model if form.size is None else with_fixed_size(model, *form.size), about, form)
    parity = measure(network, OnnxGenerator(data, out, torch.get_num_threads()), form.size)
    if not parity.is_kept:
        raise CheckpointError(
            f"{path} is not exported: on faces of {parity.where} the file would differ from it by "
            f"{parity.difference:.1e} (at most {parity.allowed:.1e}), or by {parity.levels} grey levels in "
            f"{100 * parity.share:.2g} % of the values; report it with the versions of torch and onnxruntime."
        )
    return data, about, parity


def check_out(out: Path) -> None:
    """Refuses a name that no ONNX file may get.

    Raises:
        ConfigError: see `export`.
    """
    if out.suffix != ONNX_ENDING:
        raise ConfigError(f"{out} has to end with {ONNX_ENDING}, by which method= knows an ONNX file.")
    if out.exists():
        raise ConfigError(f"{out} exists; choose another name, or remove it.")
    check_place(out)


def check_place(out: Path) -> None:
    """Refuses a place in which nothing can be written: comparing takes half a minute, which should not be for nothing.

    Raises:
        ConfigError: the first folder above it that exists is none, or is closed.
    """
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"{out} cannot be written, because {folder} is no folder that can be; choose another place.")


def written(network: nn.Module, snapshot: Snapshot, path: Path) -> tuple[onnx.ModelProto, OnnxAbout]:
    """Returns the ONNX graph of a network, and what its snapshot says.

    Raises:
        CheckpointError: the network has a layer that has no ONNX form here.
    """
    try:
        model = onnx_model(network, (INPUT, ["n", 3, "h", "w"]), (OUTPUT, ["n", 3, "4h", "4w"]))
    # Tracing stops in many ways where a network asks for what only numbers know.
    except (UnknownStep, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        reason = str(error) if isinstance(error, UnknownStep) else "it cannot be traced"
        raise CheckpointError(
            f"{path} cannot be exported: its network is {type(network).__name__}, and {reason}; facesr, srresnet and "
            "rrdbnet can be."
        ) from error
    return model, _about(snapshot, model)


def _bytes_of(model: onnx.ModelProto, about: OnnxAbout, form: Form) -> bytes:
    """Returns the file of a graph; equal ones give equal bytes."""
    onnx.helper.set_model_props(model, about.as_text() | ({MADE_WITH: form.made_with} if form != PLAIN else {}))
    model.producer_name, model.producer_version = "facesr", __version__
    model.doc_string = f"{INPUT}: RGB in [0, 1]; {OUTPUT}: 4 times as large, unclamped. {about.use}"
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _about(snapshot: Snapshot, model: onnx.ModelProto) -> OnnxAbout:
    shipped = {digest for name in shipped_names() for digest in digests_beside(SHIPPED / f"{name}.safetensors")}
    is_shipped = snapshot.sha256 in shipped
    # The first ones that were shipped do not state theirs.
    framing = snapshot.framing or (ASC19 if is_shipped else None)
    return OnnxAbout(
        run=snapshot.run,
        snapshot_sha256=snapshot.sha256,
        config_sha256=snapshot.config_sha256,
        kimg=snapshot.kimg,
        loss_judges=snapshot.loss_judges,
        consistency_bound_db=snapshot.consistency_bound_db,
        use=USE_OF_SHIPPED if is_shipped else USE,
        receptive_radius_px=receptive_radius(model),
        framing="" if framing is None else json.dumps(framing.as_dict()),
        version=__version__,
    )
