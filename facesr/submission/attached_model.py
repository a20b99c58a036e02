"""Whether the snapshots in model/ are those that the manifest says restored the pictures."""

import re
from collections.abc import Mapping

from facesr.errors import SubmissionError
from facesr.methods.record import Restoration
from facesr.snapshots.interpolation_parts import interpolation_sha256
from facesr.submission.attachment_rules import BLEND_PREFIX, MODEL_DIR, WEIGHTS_ENDING

# The share in an interpolation's name, FIRST+SHARE*SECOND, where a manifest of format 1 states it nowhere else.
_SHARE = re.compile(r"\+([0-9][0-9.e+-]*)\*")


def check_model(attachments: Mapping[str, str], restoration: Restoration, label: str) -> None:
    """Checks that what restored is there: the file of the manifest's weights, or both of its interpolation.

    Manifests of format 1 do not state the parts of an interpolation: they pass where the two snapshots of model/ and
    the share in the model's name give their weights_sha256.

    Args:
        attachments: member -> sha256 of its file.
        restoration: what the manifest says; the digest of its interpolation follows from the parts (`parse_manifest`).
        label: how the archive is called in errors.

    Raises:
        SubmissionError: a snapshot is not there.
    """
    model = {name: sha256 for name, sha256 in attachments.items() if name.startswith(f"{MODEL_DIR}/")}
    if restoration.blend is not None:
        wanted = set(restoration.blend.weights_sha256)
    else:
        wanted = {restoration.weights_sha256} - {""}
    if not wanted <= set(model.values()) and not _is_earlier_blend(model, restoration):
        what = "weights_sha256" if restoration.blend is None else "a part of its interpolation"
        raise SubmissionError(
            f"{label} holds no file in {MODEL_DIR}/ with the sha256 that its manifest gives as {what}; "
            "pack the snapshot that restored the pictures with this version of submit.py."
        )


def _is_earlier_blend(model: Mapping[str, str], restoration: Restoration) -> bool:
    snapshots = {name.removeprefix(f"{MODEL_DIR}/"): sha256 for name, sha256 in model.items()}
    snapshots = {name: sha256 for name, sha256 in snapshots.items() if name.endswith(WEIGHTS_ENDING)}
    firsts = [sha256 for name, sha256 in snapshots.items() if not name.startswith(BLEND_PREFIX)]
    seconds = [sha256 for name, sha256 in snapshots.items() if name.startswith(BLEND_PREFIX)]
    if restoration.blend is not None or (len(firsts), len(seconds)) != (1, 1):
        return False
    for text in _SHARE.findall(restoration.model):
        try:
            share = float(text)
        except ValueError:
            continue
        if interpolation_sha256(firsts[0], seconds[0], share) == restoration.weights_sha256:
            return True
    return False
