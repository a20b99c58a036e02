"""Judges and metrics of the pictures that people rated, by the same code as ``facesr evaluate``."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from facesr import dist
from facesr.build import known_names, load_settings
from facesr.config import EvaluateSettings
from facesr.errors import ConfigError, DataError, ImageError
from facesr.evaluation.judges import named_judge, on_device
from facesr.evaluation.pairs import Pair, Pairs, list_pictures, png_size
from facesr.evaluation.perceptual import open_perceptual
from facesr.evaluation.scoring import score
from facesr.metrics import default_metrics
from facesr.metrics.perceptual.perceptual_index import Ma, Niqe
from facesr.names import shown, shown_path
from facesr.opinion.cells import Floats
from facesr.opinion.correlation import Measured
from facesr.opinion.ratings import Records
from facesr.protocols import Embedder, Metric


def require_pictures(records: Records) -> None:
    """Checks that every rated picture and its original lie where the study says.

    Raises:
        DataError: a folder or a picture is missing.
    """
    if records.high is None:
        raise DataError("the study names no folder of originals, so nothing can be measured; give judges none.")
    for name, folder in {"high": records.high, **_folders(records)}.items():
        found = list_pictures(folder)
        missing = [f"{face}.png" for face in records.faces if face not in found]
        if missing:
            raise DataError(f"{shown_path(folder)} ({name}) lacks {shown(missing)}, which people rated.")


def _folders(records: Records) -> dict[str, Path]:
    missing = [name for name in records.methods if name not in records.folders]
    if missing:
        raise DataError(f"the pictures of {shown(missing)} are not here; give judges none.")
    return {name: records.folders[name] for name in records.methods}


def _pairs(records: Records, folder: Path) -> Pairs:
    """Returns the pairs of the study's faces, whatever else lies in the folders."""
    assert records.high is not None
    high, restored = list_pictures(records.high), list_pictures(folder)
    items = []
    for face in sorted(records.faces):
        size = png_size(high[face])
        if png_size(restored[face]) != size:
            raise ImageError(f"{restored[face]} has not the size of its original, {size[0]}x{size[1]}.")
        items.append(Pair(face, restored[face], high[face], None, size))
    return Pairs(tuple(items))


def measure(
    records: Records, judges: Sequence[str], on_method: Callable[[str], None] = lambda name: None
) -> dict[str, Measured]:
    """Returns every metric of every method's pictures: column -> values (methods, faces) in the order of the records.

    Args:
        records: a study with its folders.
        judges: by configuration name, e.g. ``builtin``, ``facenet_vggface2``.
        on_method: called with each method before it is scored.

    Raises:
        FaceSRError: a judge is unknown or its weights are missing, or pictures do not fit.
    """
    require_pictures(records)
    assert records.high is not None
    settings = load_settings("evaluate", EvaluateSettings, ["protocol=open"])
    device = dist.choose_device("cpu")
    known = [name for name in known_names("embedder") if name != "none"]
    unknown = [name for name in judges if name not in known]
    if unknown:
        raise ConfigError(f"--judges {shown(unknown)} is unknown; choose among {', '.join(known)}, or none.")
    opened: list[Embedder] = [on_device(named_judge(name, f"--judges {name}"), device) for name in judges]
    full = default_metrics(opened, False, remember_high=True)
    groups = [full, *([one] for one in _without_original())]
    metrics = [one for some in groups for one in some]
    tables: dict[str, list[Floats]] = {one.name: [] for one in metrics}
    for name, folder in _folders(records).items():
        on_method(name)
        pairs = _pairs(records, folder)
        for some in list(groups):
            found = _scored(pairs, some, device, settings.batch_size, records.faces)
            if not found:
                groups.remove(some)
            for column, values in found.items():
                tables[column].append(values)
    # What is not defined for a picture, as NIQE for small ones, is left out for all methods.
    count = len(records.methods)
    return {
        one.name: Measured(np.stack(tables[one.name]), one.higher_is_better)
        for one in metrics
        if len(tables[one.name]) == count
    }


def _without_original() -> list[Metric]:
    """Returns NIQE and Ma's metric, each where its model lies about; they are for large pictures."""
    found = open_perceptual(load_settings("evaluate", EvaluateSettings, ["protocol=asc19_preliminary"]))
    return [] if found is None else [one for one in (found.niqe, found.ma) if one is not None]


def _scored(
    pairs: Pairs, metrics: Sequence[Metric], device: torch.device, batch_size: int, faces: Sequence[str]
) -> dict[str, Floats]:
    try:
        scores = score(pairs, metrics, device, batch_size)
    except ImageError as error:
        if not isinstance(metrics[0], Niqe | Ma):
            raise
        print(f"{metrics[0].name} is left out: {error}", flush=True)
        return {}
    assert scores is not None
    place = {key: i for i, key in enumerate(scores.ids)}
    return {column: values[[place[face] for face in faces]] for column, values in scores.values.items()}
