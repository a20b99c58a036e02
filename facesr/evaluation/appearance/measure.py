"""The columns of a picture, computed and by models: what `facesr attributes` writes and what an audit compares."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.appearance.column import Column
from facesr.evaluation.appearance.computed import COLUMNS, POSE, Region, computed, detected_region, framed_region, pose
from facesr.evaluation.appearance.model import AttributeModel
from facesr.photos.detect import Face, detector, main_face

FRAMING, DETECTED = "framing", "detected"
Row = dict[str, float | str | None]


def columns_of(models: Sequence[AttributeModel], with_pose: bool) -> list[Column]:
    """Returns the columns, in their order."""
    return [*COLUMNS, *(POSE if with_pose else ()), *(model.column for model in models)]


def faces_of(pictures: Sequence[NDArray[np.uint8]], device: str) -> list[Face | None]:
    """Returns the face that each picture, uint8 (H, W, 3) RGB, is of."""
    found = detector(device).find(pictures)
    sizes = [picture.shape for picture in pictures]
    return [main_face(faces, width, height) for faces, (height, width, _) in zip(found, sizes, strict=True)]


def measure(
    pictures: Sequence[NDArray[np.uint8]], models: Sequence[AttributeModel], region: str, with_pose: bool, device: str
) -> list[Row]:
    """Returns the values of `columns_of` for each picture, None where one is not defined or no face was found.

    Args:
        pictures: RGB, uint8 (H, W, 3).
        models: of further columns.
        region: ``framing`` looks where the competition's framing has the face, ``detected`` where one is found.
        with_pose: whether yaw and roll are asked for.
        device: of the detector.

    Raises:
        ImageError: a picture is too small.
        WeightsError: a model gives values that are not finite.
    """
    asks = with_pose or region == DETECTED or any(model.needs_face for model in models)
    faces: list[Face | None] = faces_of(pictures, device) if asks else [None] * len(pictures)
    rows: list[Row] = []
    for picture, face in zip(pictures, faces, strict=True):
        height, width = picture.shape[:2]
        place: Region | None = framed_region(height, width)
        if region == DETECTED:
            place = None if face is None else detected_region(height, width, face)
        row: Row = {column.name: None for column in COLUMNS} if place is None else computed(picture, place)
        rows.append(row | (pose(face) if with_pose else {}))
    for model in models:
        for row, value in zip(rows, model(pictures, faces), strict=True):
            row[model.column.name] = value
    return rows
